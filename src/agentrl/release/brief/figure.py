"""A number of a brief: never alone, always with its unit and the record that it was read from."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Figure = dict[str, Any]
"""{"value": 0.853, "unit": "fraction", "source": "verdicts/sha256:...#estimate"}. A value of None was not measured.

Units: count, fraction (shown in percent), points (a difference of fractions), relative (a ratio, shown as its distance
from 1), points_size and relative_size (of either, without a sign), level (of confidence), number, score, seconds,
days, percent, nats, date (seconds since 1970), and amounts of money by ISO code, such as USD. A source is
`TABLE/KEY#FIELD`, a count over rows of a table in brackets, or `twin:...`, which counts in the brief itself.
"""


def figure(value: Any, unit: str, source: str) -> Figure:
    """A number, or None for anything that is none: text, NaN, infinity, true."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return {"value": value if is_number else None, "unit": unit, "source": source}


def is_figure(value: object) -> bool:
    """Whether a part of the twin is a number with its source."""
    return isinstance(value, Mapping) and value.keys() == {"value", "unit", "source"}


def figures_in(part: Any, path: str = "") -> Iterator[tuple[str, Figure]]:
    """All figures of the twin with their places, `gates.rows.0.estimate`, in its order."""
    if is_figure(part):
        yield path, part
    elif isinstance(part, Mapping):
        for key, value in part.items():
            yield from figures_in(value, f"{path}.{key}" if path else str(key))
    elif isinstance(part, list | tuple):
        for index, value in enumerate(part):
            yield from figures_in(value, f"{path}.{index}")


UNIT_OF_METRIC: Mapping[str, str] = {
    "task_success": "fraction",
    "human_override_rate": "fraction",
    "tool_error_rate": "fraction",
    "completion_quality": "score",
    "reliability_score": "score",
    "session_seconds": "seconds",
    "rollback_seconds": "seconds",
    "cost_per_success": "USD",
    "policy_kl_drift": "nats",
}


def metric_unit(metric: str, statistic: str = "") -> str:
    """The unit of a metric on one arm; `number` of one that a team added."""
    if statistic == "rate":
        return "fraction"
    return UNIT_OF_METRIC.get(metric, "number")


def estimate_unit(scale: str, unit: str) -> str:
    """The unit of a comparison of two arms, from the unit of each."""
    if scale == "ratio":
        return "relative"
    return "points" if scale == "difference" and unit == "fraction" else unit
