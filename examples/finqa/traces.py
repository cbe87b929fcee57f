"""What each rollout called and scored, so that a team can join its tool calls with its grade."""

from __future__ import annotations

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Any


@dataclass
class _Trace:
    tool_calls: Counter[str] = field(default_factory=Counter)
    scores: list[float] = field(default_factory=list)


class TraceLog:
    """The last `capacity` trace ids, the longest untouched dropped first."""

    def __init__(self, capacity: int = 10_000):
        self.capacity = capacity
        self._traces: OrderedDict[str, _Trace] = OrderedDict()

    def count_call(self, trace_id: object, tool: str) -> None:
        self._touch(trace_id).tool_calls[tool] += 1

    def add_score(self, trace_id: object, score: float) -> None:
        scores = self._touch(trace_id).scores
        scores.append(score)
        del scores[:-10]

    def get(self, trace_id: str) -> dict[str, Any] | None:
        """`{"trace_id", "tool_calls": {tool: count}, "scores"}`, or None for an unknown id."""
        trace = self._traces.get(trace_id)
        if trace is None:
            return None
        return {"trace_id": trace_id, "tool_calls": dict(trace.tool_calls), "scores": list(trace.scores)}

    def _touch(self, trace_id: object) -> _Trace:
        """The record of an id; calls without one share nothing and are not kept."""
        if not isinstance(trace_id, str) or not trace_id:
            return _Trace()
        trace = self._traces.setdefault(trace_id[:200], _Trace())
        self._traces.move_to_end(trace_id[:200])
        while len(self._traces) > self.capacity:
            self._traces.popitem(last=False)
        return trace
