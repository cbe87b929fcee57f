"""What a replica has done since it started, as Prometheus reads it. Labels have few values: no ids of anything."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper bounds of the histogram, in seconds."""


class Counts:
    """Counters of one replica."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        """By upstream and by how they ended."""
        self.refusals: Counter[str] = Counter()
        """By the code of the error that clients were told."""
        self.failures: Counter[tuple[str, str]] = Counter()
        """By upstream and kind."""
        self.sessions: Counter[str] = Counter()
        """Begun, by arm."""
        self.feedback: Counter[str] = Counter()
        """By what became of the event."""
        self.fallbacks = 0
        self.watcher_errors = 0
        self._seconds: dict[str, list[int]] = {}
        self._sums: Counter[str] = Counter()

    def request(self, upstream: str, ended: str, seconds: float) -> None:
        """One request has ended."""
        self.requests[upstream or "none", ended] += 1
        if ended == "answered":
            buckets = self._seconds.setdefault(upstream, [0] * (len(BUCKETS) + 1))
            buckets[bisect_left(BUCKETS, seconds)] += 1
            self._sums[upstream] += seconds  # type: ignore[assignment]

    def failed(self, upstream: str, kind: str) -> None:
        """An upstream gave no answer, or none to its end."""
        self.failures[upstream, kind] += 1

    def text(self, gauges: Mapping[str, float]) -> str:
        """The text format of Prometheus, version 0.0.4."""
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        for name, value in gauges.items():
            yield f"# TYPE agentrl_gateway_{name} gauge"
            yield f"agentrl_gateway_{name} {value:.10g}"
        pairs: list[tuple[str, str, str, Mapping[tuple[str, str], int]]] = [
            ("requests_total", "upstream", "ended", self.requests),
            ("upstream_failures_total", "upstream", "kind", self.failures),
        ]
        for name, first, second, counter in pairs:
            yield f"# TYPE agentrl_gateway_{name} counter"
            for (one, other), count in sorted(counter.items()):
                yield f'agentrl_gateway_{name}{{{first}="{one}",{second}="{other}"}} {count}'
        for name, label, single in (
            ("refusals_total", "code", self.refusals),
            ("sessions_total", "arm", self.sessions),
            ("feedback_total", "outcome", self.feedback),
        ):
            yield f"# TYPE agentrl_gateway_{name} counter"
            for one, count in sorted(single.items()):
                yield f'agentrl_gateway_{name}{{{label}="{one}"}} {count}'
        for name, count in (("fallbacks_total", self.fallbacks), ("watcher_errors_total", self.watcher_errors)):
            yield f"# TYPE agentrl_gateway_{name} counter"
            yield f"agentrl_gateway_{name} {count}"
        yield "# TYPE agentrl_gateway_answer_seconds histogram"
        for upstream, buckets in sorted(self._seconds.items()):
            total = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                yield f'agentrl_gateway_answer_seconds_bucket{{upstream="{upstream}",le="{bound}"}} {total}'
            yield f'agentrl_gateway_answer_seconds_count{{upstream="{upstream}"}} {total}'
            yield f'agentrl_gateway_answer_seconds_sum{{upstream="{upstream}"}} {self._sums[upstream]:.10g}'
