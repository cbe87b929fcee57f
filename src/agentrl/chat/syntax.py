"""What a syntax of tool calls is: how turns are read, and which tokens end them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentrl.chat.turn import Reading, WrittenCall

Tools = Sequence[dict[str, Any]] | None
"""Chat-completions tool objects: syntaxes that write values without quotes take the types from them."""


class Syntax:
    """Reads turns; a subclass says how it finds calls. Reading never raises.

    A tokenizer has a syntax when the syntax reads back the call that the tokenizer's template writes.
    """

    name = ""
    example = ""
    """A call, for messages."""
    stops: tuple[str, ...] = ()
    """Tokens that end a turn, beside the tokenizer's eos."""
    opening_stops: tuple[str, ...] = ()
    """Those among them that open the next message as well."""
    marks: tuple[str, ...] = ()
    """Tokens that give a turn its structure although tokenizers may not call them special."""
    thought: tuple[str, str] = ("<think>", "</think>")

    def read(self, text: str, *, is_thinking: bool = False, tools: Tools = None) -> Reading:
        """Take a turn's text apart.

        Args:
            text: as decoded, stop token removed.
            is_thinking: the generation prompt has opened a thought, so the turn begins inside it.
        """
        said, reasoning, thoughts = self._split_thoughts(text, is_thinking)
        rest, calls = self.calls_in(said, tools)
        return Reading(rest.strip(), tuple(calls), reasoning, thoughts)

    def calls_in(self, said: str, tools: Tools) -> tuple[str, list[WrittenCall]]:
        """The text without its calls, and the calls in their order."""
        raise NotImplementedError

    def call_id(self, prefix: str, index: int) -> str:
        """An id for the call, the same every time."""
        return f"call_{prefix}_{index}"

    def opens_thought(self, prompt: str) -> bool:
        """Whether a generation prompt leaves a thought open."""
        opening, closing = self.thought
        return prompt.rfind(opening) > prompt.rfind(closing)

    def _split_thoughts(self, text: str, is_thinking: bool) -> tuple[str, str, tuple[tuple[int, int], ...]]:
        """What was said, what was thought, and where.

        A thought without its end reaches to the end of the turn; one without its beginning starts with the turn.
        """
        opening, closing = self.thought
        first, first_end = text.find(opening), text.find(closing)
        starts_inside = is_thinking or (first_end >= 0 and not 0 <= first < first_end)
        start, done = (0 if starts_inside else first), 0
        said, thoughts, ranges = [], [], []
        while start >= 0:
            found = text.find(closing, start)
            end = len(text) if found < 0 else found + len(closing)
            said.append(text[done:start])
            thoughts.append(text[start : end if found < 0 else found].lstrip().removeprefix(opening).strip())
            ranges.append((start, end))
            done, start = end, text.find(opening, end)
        return "".join([*said, text[done:]]), "\n".join(filter(None, thoughts)), tuple(ranges)
