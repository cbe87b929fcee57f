"""Rolling windows: what a metric was over the last hours, at any time, in UTC."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from statistics import NormalDist

import numpy as np

from agentrl.monitoring.drift import Crossing
from agentrl.monitoring.watched_metrics import KINDS, Series, WatchedSession, series_of, shown

HOUR = 3600.0
LIMIT_LEVEL = 0.999
"""Of the one-sided bound that must be beyond a limit: it is read at every session."""
MIN_SESSIONS = 30


@dataclass(frozen=True)
class Window:
    """A metric over one stretch of time."""

    metric: str
    start: str
    """ISO 8601, UTC; included."""
    end: str
    """Excluded."""
    sessions: int
    """On which it was measured."""
    value: float | None
    """In its own unit; None of no session."""
    lower: float | None
    """95 % interval of the mean; None of fewer than two sessions."""
    upper: float | None


def windows(
    metric: str, sessions: Sequence[WatchedSession], *, hours: float, step_hours: float, until: float, count: int
) -> list[Window]:
    """The last `count` windows, the newest last; each ends `step_hours` after the one before.

    A week has 168 hours whatever the clocks on the wall do: windows are counted in UTC.

    Args:
        sessions: in any order. The reliability score is expanded around their own rates.
        until: end of the newest, in seconds since 1970.
    """
    series = series_of(metric, sessions, sessions)
    found = []
    for number in reversed(range(count)):
        end = until - number * step_hours * HOUR
        first, last = np.searchsorted(series.at, [end - hours * HOUR, end], side="left")
        found.append(_window(metric, series, int(first), int(last), end - hours * HOUR, end))
    return found


def _window(metric: str, series: Series, first: int, last: int, start: float, end: float) -> Window:
    value, half = _mean_and_error(series, first, last)
    half *= NormalDist().inv_cdf(0.975)
    lower, upper = (shown(metric, value + side * half) for side in (-1, 1))
    is_known = math.isfinite(value)
    return Window(
        metric,
        _utc(start),
        _utc(end),
        last - first,
        shown(metric, value) if is_known else None,
        lower if math.isfinite(lower) else None,
        upper if math.isfinite(upper) else None,
    )


def _mean_and_error(series: Series, first: int, last: int) -> tuple[float, float]:
    n, value = last - first, series.mean(first, last)
    if n < 2 or not math.isfinite(value):
        return value, math.nan
    residuals = series.x[first:last] - value * series.y[first:last]
    return value, math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(series.y[first:last].sum())


def beyond_limit(metric: str, series: Series, limit: float, *, hours: float) -> Crossing | None:
    """The first session at which the window that ends with it was shown to be beyond a limit; None: none was.

    Shown: by a one-sided bound of 99.9 %, on at least 30 sessions.

    Args:
        limit: in the metric's own unit.
    """
    kind = KINDS[metric]
    at = math.log(limit) if kind.is_log else limit
    starts = np.searchsorted(series.at, series.at - hours * HOUR, side="right")
    ends = np.arange(1, len(series) + 1)
    sums = [np.concatenate([[0.0], values.cumsum()]) for values in _moments(series)]
    x, y, xx, xy, yy = (total[ends] - total[starts] for total in sums)
    n = ends - starts
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = x / y
        squares = np.maximum(xx - 2 * mean * xy + mean**2 * yy, 0.0)
        if kind.is_rate:
            squares = squares + (1 - mean) ** 2 + mean**2  # an event more and one less: none is no proof
        error = np.sqrt(squares * n / np.maximum(n - 1, 1)) / y
        is_beyond = kind.harm * (mean - at) - NormalDist().inv_cdf(LIMIT_LEVEL) * error > 0
    found = np.flatnonzero(is_beyond & (n >= MIN_SESSIONS))
    return Crossing(int(found[0]), int(starts[found[0]])) if len(found) else None


def _moments(series: Series) -> tuple[np.ndarray, ...]:
    x, y = series.x, series.y
    return x, y, x * x, x * y, y * y


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
