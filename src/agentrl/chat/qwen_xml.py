"""The syntax of Qwen3-Coder, Qwen3.5 and Nemotron 3: a function and its parameters as tags, values unquoted."""

from __future__ import annotations

import re

from agentrl.chat.hermes import Hermes
from agentrl.chat.syntax import Tools
from agentrl.chat.turn import WrittenCall, parameter_schemas, typed_value, written_call

FUNCTION = re.compile(r"\s*<function=([^>\n]+)>(.*)</function>\s*", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)


class QwenXML(Hermes):
    """Hermes' tags around `<function=name>` with `<parameter=key>` blocks.

    Text and number look alike here: the tool's schema tells them apart, and without one JSON is read as JSON.
    """

    name = "qwen-xml"
    example = "<tool_call><function=name><parameter=key>value</parameter></function></tool_call>"

    def _call(self, body: str, tools: Tools) -> WrittenCall:
        if not (function := FUNCTION.fullmatch(body)):
            return WrittenCall(body)
        name, inner = function.groups()
        schemas = parameter_schemas(tools, name.strip())
        values = {key: typed_value(raw, schemas.get(key)) for key, raw in PARAMETER.findall(inner)}
        return written_call(body, name, None if PARAMETER.sub("", inner).strip() else values)
