"""The syntax of Gemma 4 and FunctionGemma: `call:name{key:value}` with marks of its own around calls and text.

Gemma 3 has none: its template neither writes calls nor takes tool outputs, and what its guide shows is a prompt.
"""

from __future__ import annotations

import json
import re
from typing import Any

from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.turn import WrittenCall, read_json, written_call

NAMED = re.compile(r"\s*call:([^\s{}]+)\s*(\{.*\})\s*", re.DOTALL)
BARE_KEY = re.compile(r"([{,]\s*)([^\s{}\[\]:,\"]+)(\s*:)")


class Gemma(Syntax):
    """`<|tool_call>call:name{key:<|"|>text<|"|>,n:1}<tool_call|>`: JSON, but for keys without quotes and text in marks.

    After its calls the model writes the mark that opens the first tool's output, and ends its turn with it.
    """

    name = "gemma"
    example = '<|tool_call>call:name{key:<|"|>value<|"|>}<tool_call|>'
    stops: tuple[str, ...] = ("<|tool_response>", "<turn|>")
    opening_stops: tuple[str, ...] = ("<|tool_response>",)
    thought = ("<|channel>thought", "<channel|>")
    call = ("<|tool_call>", "<tool_call|>")
    quote = '<|"|>'

    def calls_in(self, said: str, tools: Tools) -> tuple[str, list[WrittenCall]]:
        del tools
        opening, closing = self.call
        text, *parts = said.split(opening)
        calls = []
        for part in parts:
            body, _, rest = part.partition(closing)
            calls.append(self._call(body))
            text += rest
        return text, calls

    def _call(self, body: str) -> WrittenCall:
        if not (named := NAMED.fullmatch(body)):
            return WrittenCall(body)
        return written_call(body, named.group(1), self._arguments(named.group(2)))

    def _arguments(self, written: str) -> Any:
        """Every second part stands between two quotation marks, so it is text whatever it holds."""
        parts = written.split(self.quote)
        if len(parts) % 2 == 0:
            return None
        return read_json(
            "".join(
                json.dumps(part) if index % 2 else BARE_KEY.sub(r'\1"\2"\3', part) for index, part in enumerate(parts)
            )
        )


class FunctionGemma(Gemma):
    """The same with the marks of FunctionGemma."""

    name = "functiongemma"
    example = "<start_function_call>call:name{key:<escape>value<escape>}<end_function_call>"
    stops = ("<start_function_response>", "<end_of_turn>")
    opening_stops = ("<start_function_response>",)
    thought = Syntax.thought
    call = ("<start_function_call>", "<end_function_call>")
    quote = "<escape>"
