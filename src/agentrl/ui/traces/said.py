"""What a turn says, apart from what it thinks and calls: the trace has the three as one text, as sampled."""

from __future__ import annotations

from dataclasses import dataclass

from agentrl.chat.syntaxes import SYNTAXES
from agentrl.chat.turn import Reading

MAX_READ_CHARS = 200_000
"""Longer turns are not taken apart."""


@dataclass(frozen=True)
class Said:
    """The parts of a turn's text."""

    thoughts: str
    text: str
    """Without thoughts and calls."""
    is_taken_apart: bool
    """False where the parts could not be told: `text` is all of it."""


def said_in(written: str, *, calls: int, thinks: bool, answer: str | None = None) -> Said:
    """Take a turn's text apart in the syntax that finds in it what the trace counts.

    Args:
        calls: that the turn made, malformed ones included.
        thinks: whether it sampled thoughts.
        answer: the episode's, where this turn gave it.
    """
    if not (calls or thinks) and answer in (None, written.strip()):
        return Said("", written, is_taken_apart=True)
    readings = [] if len(written) > MAX_READ_CHARS else _readings(written, thinks)
    fitting = [each for each in readings if len(each.calls) == calls and bool(each.thoughts) == thinks]
    fitting.sort(key=lambda each: answer is not None and each.text != answer)  # stable: the first of equals
    if not fitting:
        return Said("", written, is_taken_apart=False)
    return Said(fitting[0].reasoning, fitting[0].text, is_taken_apart=True)


def _readings(written: str, thinks: bool) -> list[Reading]:
    readings = [syntax.read(written) for syntax in SYNTAXES]
    if thinks:  # the prompt may have opened the thought
        readings += [syntax.read(written, is_thinking=True) for syntax in SYNTAXES]
    return readings
