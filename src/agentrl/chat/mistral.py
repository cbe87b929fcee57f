"""Mistral's syntax: `[TOOL_CALLS]`, then a JSON list, or in newer models a name and its arguments."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.turn import WrittenCall, read_json, written_call

START = "[TOOL_CALLS]"
NAMED = re.compile(r"\s*([^\s\[\]{}\"]+)\s*(?:\[CALL_ID\]\s*([^\s\[\]{}]*)\s*)?(?:\[ARGS\])?\s*(\{.*)", re.DOTALL)
ID = re.compile(r"[0-9A-Za-z]{9}")
LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class Mistral(Syntax):
    """`[TOOL_CALLS][{"name": ..., "arguments": {...}}]` or `[TOOL_CALLS]name[ARGS]{...}`, one mark a call.

    Ids of calls have nine letters and digits, as the templates demand. Where the policy writes an id, the tool's
    output answers under that one.
    """

    name = "mistral"
    example = '[TOOL_CALLS][{"name": ..., "arguments": {...}}] or [TOOL_CALLS]name[ARGS]{...}'
    stops = ("</s>",)
    thought = ("[THINK]", "[/THINK]")

    def calls_in(self, said: str, tools: Tools) -> tuple[str, list[WrittenCall]]:
        del tools
        text, *bodies = said.split(START)
        return text, [call for body in bodies for call in _calls(body)]

    def call_id(self, prefix: str, index: int) -> str:
        number = int.from_bytes(hashlib.sha256(f"{prefix}_{index}".encode()).digest(), "big")
        return "".join(LETTERS[number // 62**place % 62] for place in range(9))


def _calls(body: str) -> list[WrittenCall]:
    if body.lstrip().startswith(("[", "{")):
        found = read_json(body)
        listed = found if isinstance(found, list) else [found]
        return [
            written_call(body, call.get("name"), call.get("arguments"), call_id=_id(call.get("id")))
            if isinstance(call, dict)
            else WrittenCall(body)
            for call in listed
        ] or [WrittenCall(body)]
    if not (named := NAMED.fullmatch(body)):
        return [WrittenCall(body)]
    name, call_id, arguments = named.groups()
    return [written_call(body, name, read_json(arguments), call_id=_id(call_id))]


def _id(found: Any) -> str:
    """An id that the template takes, or none: it would refuse the whole conversation over another one."""
    return found if isinstance(found, str) and ID.fullmatch(found) else ""
