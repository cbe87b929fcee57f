"""What each watched metric reads off a session, what the reference says is normal, and what harm would look like.

Rates count (events of trials: 1 of 1 session, or errors of calls); other values are read as a bell curve around their
mean, durations and costs by their logarithm. "As expected" is the reference's mean moved to the harmful side by its
own 95 % error: a reference of few sessions may be luckier than the truth, and each session would be held against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from agentrl.config.monitoring import SHIFTS, MonitoredMetric

Floats = NDArray[np.float64]

SAFE_Z = 1.645
MOST_SDS = 4.0
"""No single session counts for more: one absurd duration rings no alarm."""
LARGEST_RATE = 0.995


class WatchedSession(Protocol):
    """What is known of one session: gates' evidence has these fields. None was not measured."""

    @property
    def at(self) -> float: ...
    @property
    def success(self) -> bool | None: ...
    @property
    def quality(self) -> float | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def cost_usd(self) -> float | None: ...
    @property
    def human_override(self) -> bool | None: ...
    @property
    def tool_calls(self) -> int | None: ...
    @property
    def tool_errors(self) -> int | None: ...
    @property
    def tool_infra_errors(self) -> int | None: ...
    @property
    def policy_kl(self) -> float | None: ...


Pair = tuple[float, float]
"""x and y: the metric of several sessions is sum x / sum y."""


@dataclass(frozen=True)
class Kind:
    """How a metric is read."""

    words: str
    read: Callable[[WatchedSession], Pair | None]
    """None: not measured on this session."""
    is_rate: bool = False
    is_log: bool = False
    harm: int = 1
    """+1 where higher is worse, -1 where lower is."""
    unit: str = ""


def _value(value: float | None) -> Pair | None:
    return None if value is None or not math.isfinite(value) else (float(value), 1.0)


def _positive_log(value: float | None) -> Pair | None:
    return None if value is None or not (math.isfinite(value) and value > 0) else (math.log(value), 1.0)


def _share(events: int | None, trials: int | None) -> Pair | None:
    return None if events is None or not trials else (float(min(events, trials)), float(trials))


KINDS: dict[str, Kind] = {
    "human_override_rate": Kind(
        "human override rate", lambda s: _value(s.human_override), is_rate=True, unit="of sessions"
    ),
    "tool_error_rate": Kind(
        "tool error rate", lambda s: _share(s.tool_errors, s.tool_calls), is_rate=True, unit="of calls"
    ),
    "policy_kl_drift": Kind("policy KL drift", lambda s: _value(s.policy_kl), unit="nats per token"),
    "completion_quality": Kind("completion quality", lambda s: _value(s.quality), harm=-1),
    "latency": Kind("latency (geometric mean)", lambda s: _positive_log(s.seconds), is_log=True, unit="seconds"),
    "cost": Kind("cost of a session (geometric mean)", lambda s: _positive_log(s.cost_usd), is_log=True, unit="USD"),
    "reliability_score": Kind("reliability score", lambda s: _value(s.success), harm=-1),
    "infra": Kind(
        "infrastructure errors", lambda s: _share(s.tool_infra_errors, s.tool_calls), is_rate=True, unit="of calls"
    ),
}
INFRA = "infra"
"""Not the policy's doing: never a reason to blame it."""
INFRA_SHIFT = 0.05


@dataclass(frozen=True)
class Series:
    """A metric over the sessions on which it was measured, in order of their time."""

    at: Floats
    x: Floats
    y: Floats

    def __len__(self) -> int:
        return len(self.at)

    def mean(self, start: int = 0, end: int | None = None) -> float:
        """sum x / sum y of a stretch; NaN of none."""
        total = float(self.y[start:end].sum())
        return float(self.x[start:end].sum()) / total if total else math.nan


def series_of(metric: str, sessions: Sequence[WatchedSession], reference: Sequence[WatchedSession]) -> Series:
    """Of a metric; the reliability score, which is no session's own, by what each session adds to it.

    Args:
        reference: the score is expanded around its rates: success x (1 - override) x (1 - tool error).
    """
    read = _reliability(reference) if metric == "reliability_score" else KINDS[metric].read
    rows = [(session.at, *pair) for session in sessions if (pair := read(session)) is not None]
    rows.sort(key=lambda row: row[0])
    table: Any = np.array(rows, dtype=np.float64).reshape(len(rows), 3)
    return Series(table[:, 0], table[:, 1], table[:, 2])


def _reliability(reference: Sequence[WatchedSession]) -> Callable[[WatchedSession], Pair | None]:
    parts: list[tuple[Callable[[WatchedSession], Pair | None], float, float]] = []
    score = 1.0
    for name, is_complement in (("reliability_score", False), ("human_override_rate", True), ("tool_error_rate", True)):
        read = KINDS[name].read
        pairs = [pair for session in reference if (pair := read(session)) is not None]
        if total := sum(y for _, y in pairs):
            rate = sum(x for x, _ in pairs) / total
            kept = 1 - rate if is_complement else rate
            score *= kept
            parts.append((read, rate, (-1 if is_complement else 1) / (kept or 1.0) / (total / len(pairs))))

    def of(session: WatchedSession) -> Pair | None:
        if session.success is None:
            return None
        added = 0.0  # what was not measured is taken as it was in the reference
        for read, rate, slope in parts:
            if (pair := read(session)) is not None:
                added += slope * (pair[0] - rate * pair[1])
        return score * (1 + added), 1.0

    return of


@dataclass(frozen=True)
class Expected:
    """What is normal, and what the harm looks like that a monitor is tuned to."""

    metric: str
    mean: float
    """Of the reference."""
    safe_mean: float
    """Moved to the harmful side by its own error."""
    sd: float
    """Of one session; of rates, of one trial, with the overdispersion."""
    shift: float
    information: float
    """Nats that a session has against the shift, on average."""
    skewness: float
    """Of the standardised values, to the harmful side."""
    dispersion: float = 1.0

    def ratios(self, series: Series) -> Floats:
        """[N] log-likelihood ratios for the CUSUM."""
        kind = KINDS[self.metric]
        if kind.is_rate:
            p, q = self.safe_mean, min(self.safe_mean + self.shift, LARGEST_RATE)
            good = series.y - series.x
            return np.asarray(
                (series.x * math.log(q / p) + good * math.log((1 - q) / (1 - p))) / self.dispersion, dtype=np.float64
            )
        d = self.shift / self.sd
        return np.asarray(d * self.standardised(series) - d * d / 2, dtype=np.float64)

    def standardised(self, series: Series) -> Floats:
        """[N] harm of every session in standard deviations, for the EWMA."""
        kind = KINDS[self.metric]
        if kind.is_rate:
            p = self.safe_mean
            spread = np.sqrt(p * (1 - p) * series.y * self.dispersion)
            return np.asarray((series.x - p * series.y) / spread, dtype=np.float64)
        z = kind.harm * (series.x - self.safe_mean) / self.sd
        return np.clip(z, -MOST_SDS, MOST_SDS)


def expected(metric: str, reference: Series, shift: float | None = None) -> Expected:
    """What the reference says; it has at least two sessions.

    Args:
        shift: see `MonitoringConfig.shifts`; None is the default one.
    """
    kind, n = KINDS[metric], len(reference)
    if shift is None:
        shift = INFRA_SHIFT if metric == INFRA else SHIFTS[_known(metric)]
    mean = reference.mean()
    residuals = reference.x - mean * reference.y
    if kind.is_rate:
        trials = float(reference.y.sum())
        p = (float(reference.x.sum()) + 1) / (trials + 2)  # none in n is not never
        dispersion = max(1.0, float((residuals**2).sum()) / (trials * p * (1 - p)))
        safe = min(p + SAFE_Z * math.sqrt(p * (1 - p) * dispersion / trials), LARGEST_RATE - 0.01)
        q = min(safe + shift, LARGEST_RATE)
        per_trial = safe * math.log(safe / q) + (1 - safe) * math.log((1 - safe) / (1 - q))
        spread = math.sqrt(safe * (1 - safe))
        trials_each = trials / n
        return Expected(
            metric,
            mean=mean,
            safe_mean=safe,
            sd=spread * math.sqrt(dispersion),
            shift=shift,
            information=per_trial * trials_each / dispersion,
            skewness=(1 - 2 * safe) / spread * math.sqrt(dispersion / trials_each),
            dispersion=dispersion,
        )
    moved = math.log1p(shift) if kind.is_log else shift
    sd = max(float(residuals.std(ddof=1)), moved)  # values that were all alike have no spread to measure in
    safe = mean + kind.harm * SAFE_Z * sd / math.sqrt(n)
    z = np.clip(kind.harm * residuals / sd, -MOST_SDS, MOST_SDS)
    skewness = float((z**3).mean())
    return Expected(metric, mean, safe, sd, moved, (moved / sd) ** 2 / 2, skewness)


def shown(metric: str, value: float) -> float:
    """In the unit that people know: durations and costs are not logarithms."""
    return math.exp(value) if KINDS[metric].is_log and math.isfinite(value) else value


def _known(metric: str) -> MonitoredMetric:
    assert metric in SHIFTS, metric
    return metric
