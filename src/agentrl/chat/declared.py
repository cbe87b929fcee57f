"""The syntax that a tokenizer declares itself, in the `response_template` that transformers parses by."""

from __future__ import annotations

from typing import Any

from agentrl.chat.syntax import Syntax, Tools
from agentrl.chat.turn import Reading, WrittenCall, written_call

THOUGHTS = ("reasoning_content", "reasoning", "thinking")


class Declared(Syntax):
    """Whatever `tokenizer.parse_response` reads: the way for models whose syntax has no file here.

    transformers gives up on a turn as a whole, so one unreadable call makes the turn one malformed call.
    """

    name = "response_template"
    example = "what the tokenizer's own response_template reads"

    def __init__(self, tokenizer: Any, generation_prompt: str) -> None:
        self._tokenizer = tokenizer
        self._prompt = generation_prompt

    def read(self, text: str, *, is_thinking: bool = False, tools: Tools = None) -> Reading:
        del is_thinking  # the parser reads the generation prompt itself
        try:
            message = self._tokenizer.parse_response(text, prefix=self._prompt, tools=list(tools or []))
            functions = [call.get("function", call) for call in message.get("tool_calls") or []]
            calls = tuple(written_call(text, f.get("name"), f.get("arguments") or {}) for f in functions)
            reasoning = next((str(message[key]) for key in THOUGHTS if message.get(key)), "")
            answer = str(message.get("content") or "")
        except Exception:  # its patterns and parsers are the tokenizer's: they may raise anything
            return Reading("", (WrittenCall(text),))
        start = text.find(reasoning) if reasoning else -1
        thoughts = ((start, start + len(reasoning)),) if start >= 0 else ()
        return Reading(answer.strip(), calls, reasoning, thoughts)
