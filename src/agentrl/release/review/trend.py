"""Slopes over weeks with intervals, and the rule that pauses training: the score is flat while cost rises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agentrl.evaluation.intervals import Interval
from agentrl.release.review.weeks import Floats, interval_of

MIN_WEEKS = 3


@dataclass(frozen=True)
class Slope:
    """Least squares over the weeks in which the figure is defined; all None with fewer than `MIN_WEEKS` of them."""

    weeks: int
    per_week: float | None
    low: float | None
    high: float | None
    """95 % over resamples of each week's users: noise of sampling, not of what made one week unlike another."""

    @property
    def direction(self) -> str:
        """rising, falling or flat; unknown without an interval."""
        if self.low is None or self.high is None:
            return "unknown"
        return "rising" if self.low > 0 else "falling" if self.high < 0 else "flat"


@dataclass(frozen=True)
class ScalingRule:
    """More training costs more; without a better score there is nothing that it buys."""

    score: Slope
    cost: Slope
    action: str
    """pause, go_on or unknown."""
    reason: str

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        record = asdict(self)
        for name, slope in (("score", self.score), ("cost", self.cost)):
            record[name]["direction"] = slope.direction
        return record


def slope(figures: Sequence[float | None], draws: Sequence[Floats]) -> Slope:
    """The change of a figure a week.

    Args:
        figures: [weeks] oldest first, one a week without gaps; None is skipped, its place on the axis is kept.
        draws: [weeks][R] of the same weeks; empty where the figure is None.
    """
    at = [index for index, value in enumerate(figures) if value is not None]
    if len(at) < MIN_WEEKS:
        return Slope(len(at), None, None, None)
    weights = _weights(at)
    per_week = float(weights @ np.array([figures[index] for index in at], dtype=float))
    interval: Interval | None = interval_of(weights @ np.array([draws[index] for index in at]))
    return Slope(len(at), per_week, interval and interval.low, interval and interval.high)


def scaling_rule(score: Slope, cost: Slope) -> ScalingRule:
    """Pause where cost rises and the score does not: its slope's interval contains 0, or lies below it."""
    if "unknown" in (score.direction, cost.direction):
        known = f"score over {score.weeks} weeks, cost over {cost.weeks}"
        return ScalingRule(score, cost, "unknown", f"needs both over at least {MIN_WEEKS} weeks; there is {known}")
    if cost.direction == "rising" and score.direction != "rising":
        return ScalingRule(score, cost, "pause", f"the score is {score.direction} while cost per success rises")
    return ScalingRule(score, cost, "go_on", f"the score is {score.direction}, cost per success is {cost.direction}")


def _weights(at: Sequence[int]) -> Floats:
    """What each week's figure counts in the least-squares slope."""
    centred = np.array(at, dtype=float) - np.mean(at)
    return np.asarray(centred / (centred @ centred))
