"""GLM 4.5's syntax: the tool's name, then pairs of key and value as tags, values unquoted unless they are no text."""

from __future__ import annotations

import re

from agentrl.chat.hermes import Hermes
from agentrl.chat.syntax import Tools
from agentrl.chat.turn import WrittenCall, parameter_schemas, typed_value, written_call

NAME = re.compile(r"\s*([^\s<>{}\"]+)\s*")
PAIR = re.compile(r"<arg_key>(.*?)</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL)


class GLM(Hermes):
    """`<tool_call>name<arg_key>k</arg_key><arg_value>v</arg_value></tool_call>`.

    A turn has no end token of its own: the mark of the next speaker ends it, `<|observation|>` before tool outputs.
    """

    name = "glm"
    example = "<tool_call>name<arg_key>key</arg_key><arg_value>value</arg_value></tool_call>"
    stops = ("<|observation|>", "<|user|>", "<|endoftext|>")
    opening_stops = ("<|observation|>",)
    marks = (*Hermes.marks, "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>")

    def _call(self, body: str, tools: Tools) -> WrittenCall:
        if not (found := NAME.match(body)):
            return WrittenCall(body)
        name, inner = found.group(1), body[found.end() :]
        schemas = parameter_schemas(tools, name)
        values = {key.strip(): typed_value(raw, schemas.get(key.strip())) for key, raw in PAIR.findall(inner)}
        return written_call(body, name, None if PAIR.sub("", inner).strip() else values)
