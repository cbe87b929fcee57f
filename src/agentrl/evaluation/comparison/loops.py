"""Episodes that go round in circles: the same tools in the same order, or the very same call again."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from agentrl.types import Rollout, ToolCall

MAX_PERIOD = 5
"""Tools of a round that is looked for."""
ROUNDS_OF_ONE = 3
"""One tool twice in a row is no loop yet; longer rounds are one from the second time on."""


class Loop(NamedTuple):
    """A stretch of calls that repeats itself."""

    block: tuple[str, ...]
    """The round, turned so that its first name in the alphabet leads: search cat and cat search are one."""
    calls: int
    """Length of the stretch, a last round that is not whole included."""
    start: int


def find_loops(tools: Sequence[str]) -> list[Loop]:
    """Every longest stretch in which a round of one to five tools repeats, by where it starts.

    A round that repeats a shorter one is that shorter one: search search, search search is four of search.
    """
    found = []
    for period in range(1, min(MAX_PERIOD, len(tools)) + 1):
        start = 0
        while start + period < len(tools):
            end = start
            while end + period < len(tools) and tools[end] == tools[end + period]:
                end += 1
            calls = end - start + period
            block = tuple(tools[start : start + period])
            if calls >= period * (ROUNDS_OF_ONE if period == 1 else 2) and not _is_repeated(block):
                found.append(Loop(_turned(block), calls, start))
            start = max(end, start) + 1
    return sorted(found, key=lambda loop: (loop.start, len(loop.block)))


def _is_repeated(block: tuple[str, ...]) -> bool:
    return any(
        len(block) % period == 0 and block == block[:period] * (len(block) // period) for period in range(1, len(block))
    )


def _turned(block: tuple[str, ...]) -> tuple[str, ...]:
    return min(block[turn:] + block[:turn] for turn in range(len(block)))


def longest_loop(tools: Sequence[str]) -> int:
    """Calls of the longest loop; 0 where there is none."""
    return max((loop.calls for loop in find_loops(tools)), default=0)


def repeated_calls(rollout: Rollout) -> int:
    """Calls with the tool and the arguments of an earlier call of the episode, wherever that was."""
    return sum(count - 1 for count in Counter(map(_identity, rollout.tool_calls)).values())


def _identity(call: ToolCall) -> tuple[str, str]:
    """Arguments in another order, or with other blanks, are the same call."""
    try:
        return call.name, json.dumps(json.loads(call.arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return call.name, call.arguments
