"""Hermes' syntax, which Qwen2.5, Qwen3 and many fine-tunes share: JSON between tags."""

from __future__ import annotations

import re

from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.turn import WrittenCall, read_json, written_call

CALL = re.compile(r"<tool_call>(.*?)(?:</tool_call>|$)", re.DOTALL)


class Hermes(Syntax):
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, one pair of tags a call."""

    name = "hermes"
    example = '<tool_call>{"name": ..., "arguments": {...}}</tool_call>'
    stops: tuple[str, ...] = ("<|im_end|>", "<|endoftext|>")
    marks: tuple[str, ...] = (
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
        "</tool_response>",
        "<think>",
        "</think>",
    )

    def calls_in(self, said: str, tools: Tools) -> tuple[str, list[WrittenCall]]:
        return CALL.sub("", said), [self._call(match.group(1), tools) for match in CALL.finditer(said)]

    def _call(self, body: str, tools: Tools) -> WrittenCall:
        del tools
        call = read_json(body)
        if not isinstance(call, dict):
            return WrittenCall(body)
        return written_call(body, call.get("name"), call.get("arguments"))
