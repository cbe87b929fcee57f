"""Facts about a rollout so far that a config can name without a line of Python: 1 where they hold, else 0."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from agentrl.types import Rollout


def tool_called(name: str) -> Callable[[Rollout], float]:
    """The tool has answered a call without an error: a call of nothing would be a cheap way to the reward."""
    return lambda rollout: float(any(called == name and is_good for called, is_good in _calls(rollout)))


def tool_called_before(first: str, then: str) -> Callable[[Rollout], float]:
    """Both tools have answered, the first before the other was ever called."""

    def holds(rollout: Rollout) -> float:
        is_first_answered = False
        for called, is_good in _calls(rollout):
            if called == first:
                is_first_answered |= is_good
            elif called == then and not is_first_answered:
                return 0.0  # too late from here on
            elif called == then and is_good:
                return 1.0
        return 0.0

    return holds


def no_malformed_calls(rollout: Rollout) -> float:
    """Every tool call could be read."""
    return float(rollout.malformed_calls == 0)


def _calls(rollout: Rollout) -> Iterator[tuple[str, bool]]:
    """Tool and whether it answered without an error, in the order of the calls."""
    for turn in rollout.turns:
        is_error = {result.call_id: result.is_error for result in turn.tool_results}
        for call in turn.tool_calls:
            yield call.name, not is_error.get(call.id, True)
