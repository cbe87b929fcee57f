"""What happened at an endpoint so far."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

KEPT_TIMES = 10_000
"""The quantiles are of the latest calls: memory stays the same however long a run is."""


@dataclass(frozen=True)
class EndpointStats:
    """Counts since the start; times in seconds, of the latest 10,000 calls."""

    calls: int
    """Ended, well or not."""
    failed_calls: int
    """Ended without an answer after all attempts."""
    retries: int
    """Attempts beyond the first."""
    failures: Mapping[str, int]
    """Attempts that failed, by class: `timeout`, `connect`, `protocol`, `http_503`, `breaker` (given up unsent)."""
    late_replies: int
    """Replies that came after their attempt had timed out. They are read by nobody: the retry's answer counts."""
    stray_replies: int
    """Replies that a server sent behind another one. They are dropped with their connection."""
    breaker_opened: int
    concurrency: int
    """Calls that may be under way at once just now."""
    in_flight: int
    waiting: int
    """Calls that wait for a slot just now."""
    queue_p50_seconds: float
    """Of waiting for a slot, for the rate limit and for the breaker."""
    queue_p99_seconds: float
    call_p50_seconds: float
    """Of everything else: attempts and the pauses between them."""
    call_p99_seconds: float


@dataclass
class Tally:
    """The counts while they grow."""

    calls: int = 0
    failed_calls: int = 0
    retries: int = 0
    late_replies: int = 0
    stray_replies: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    queue_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))
    call_seconds: deque[float] = field(default_factory=lambda: deque(maxlen=KEPT_TIMES))

    def snapshot(self, *, breaker_opened: int, concurrency: int, in_flight: int, waiting: int) -> EndpointStats:
        queue, call = sorted(self.queue_seconds), sorted(self.call_seconds)
        return EndpointStats(
            calls=self.calls,
            failed_calls=self.failed_calls,
            retries=self.retries,
            failures=dict(self.failures),
            late_replies=self.late_replies,
            stray_replies=self.stray_replies,
            breaker_opened=breaker_opened,
            concurrency=concurrency,
            in_flight=in_flight,
            waiting=waiting,
            queue_p50_seconds=quantile(queue, 0.5),
            queue_p99_seconds=quantile(queue, 0.99),
            call_p50_seconds=quantile(call, 0.5),
            call_p99_seconds=quantile(call, 0.99),
        )


def quantile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of them do not exceed; 0 where there are none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
