"""Episodes on a terminal: each call beside its answer, long texts folded."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentrl.printable import printable_lines

if TYPE_CHECKING:
    from agentrl.types import ToolResult, Turn

WIDTH = 100
LINES = 8
"""Of a text or an output that is not asked for in full."""


def answered(turn: Turn) -> Iterator[tuple[str, ToolResult | None]]:
    """Each call as it was written, with its answer; malformed calls stand behind the others."""
    results = {result.call_id: result for result in turn.tool_results if result.call_id}
    for call in turn.tool_calls:
        yield f"{call.name} {call.arguments}", results.get(call.id)
    for result in turn.tool_results:
        if not result.call_id:
            yield "(a call that could not be read)", result


def block(label: str, text: str, full: bool) -> Iterator[str]:
    """A text behind its label, folded; cut to the screen unless it is wanted in full."""
    if not text.strip():
        return
    start, rest = f"    {label:<8}  ", " " * 14
    lines = [
        piece
        for line in printable_lines(text.strip()).split("\n")
        for piece in textwrap.wrap(line, WIDTH - len(rest), replace_whitespace=False) or [""]
    ]
    left_out = 0 if full else len(lines) - LINES
    if left_out > 1:
        lines[LINES:] = [f"... {left_out} more lines, see --full"]
    for index, line in enumerate(lines):
        yield ((start if index == 0 else rest) + line).rstrip()
