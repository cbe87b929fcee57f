"""Llama 3's syntax: a turn that is a JSON object is a call."""

from __future__ import annotations

import json
import re
from typing import Any

from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.turn import WrittenCall, written_call

TAG = "<|python_tag|>"
BETWEEN = re.compile(r"[\s;,]*")
DECODER = json.JSONDecoder()


class Llama(Syntax):
    """`{"name": ..., "parameters": {...}}` at the start of a turn, or anything behind `<|python_tag|>`.

    The model is trained to make one call a turn; several, with `;` or blanks between them, are read all the same.
    A turn that starts with a JSON object of another kind is an answer. Python code behind the tag is malformed: the
    built-in tools are Meta's, not the task's.
    """

    name = "llama"
    example = '{"name": ..., "parameters": {...}}'
    stops = ("<|eot_id|>", "<|eom_id|>")

    def calls_in(self, said: str, tools: Tools) -> tuple[str, list[WrittenCall]]:
        del tools
        before, tag, behind = said.partition(TAG)
        body = behind if tag else said
        looks_like_call = '"name"' in body and ('"parameters"' in body or '"arguments"' in body)
        if not tag and not (body.lstrip().startswith("{") and looks_like_call):
            return said, []
        calls: list[WrittenCall] = []
        at = BETWEEN.match(body).end()  # type: ignore[union-attr]
        while body.startswith("{", at):
            call, end = _object_at(body, at)
            calls.append(_call(body[at:end], call))
            at = BETWEEN.match(body, end).end()  # type: ignore[union-attr]
        rest = body[at:]
        if tag and rest.strip():  # code, or something that was meant to be JSON
            calls.append(WrittenCall(rest))
            rest = ""
        return (before if tag else "") + rest, calls


def _object_at(text: str, start: int) -> tuple[Any, int]:
    """The JSON value that starts there and where it ends; None and the end of the text where there is none."""
    try:
        return DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None, len(text)


def _call(body: str, call: Any) -> WrittenCall:
    if not isinstance(call, dict):
        return WrittenCall(body)
    return written_call(body, call.get("name"), call.get("parameters", call.get("arguments")))
