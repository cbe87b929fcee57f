"""What rules look at: metrics of past steps as points, seen as they are or against the run's own past, and limits.

A view reads nothing but the history. It has no point where there is nothing to judge: a metric that is missing or
NaN, or too little history to compare with. So no rule fires on the first steps for want of a past.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

Row = Mapping[str, float]
"""The metrics of one step."""

WINDOW = 50  # steps that a median is taken of, and values that a stop shows
MIN_HISTORY = 10  # steps before a median means something
MIN_EVALUATIONS = 5  # rises before their spread means something
NEVER_NAN = ("loss", "grad_norm", "entropy", "approx_kl", "kl_per_token", "value_mean", "reward_train")
HOLDOUT = "holdout_score_validation"
FALL, RISE = "holdout_fall_validation", "holdout_fall_reward_rise"  # since the evaluation that the hold-outs liked best
GAIN = "holdout_rise_validation"  # since the baseline
PROXY = "reward_validation"


class Point(NamedTuple):
    """A signal at one step."""

    step: int
    value: float


View = Callable[[Sequence[Row]], list[Point]]
"""The points that a rule judges, oldest first; steps at which there is nothing to judge have none."""


class Limit(NamedTuple):
    """What is allowed, ends included, and how often it must be broken."""

    low: float = -math.inf
    high: float = math.inf
    steps: int = 1
    """Points outside..."""
    within: int | None = None
    """...among the last so many; None: in a row."""

    def is_outside(self, point: Point) -> bool:
        return not self.low <= point.value <= self.high

    def is_broken(self, points: Sequence[Point]) -> bool:
        """Whether the newest point, with those before it, breaks the limit."""
        recent = points[-(self.within or self.steps) :]
        return bool(recent) and self.is_outside(recent[-1]) and sum(map(self.is_outside, recent)) >= self.steps

    def __str__(self) -> str:
        sides = [f"below {self.low:g}"] * math.isfinite(self.low) + [f"above {self.high:g}"] * math.isfinite(self.high)
        count = f" {self.steps} times within {self.within}" if self.within else f" {self.steps} times in a row"
        return " or ".join(sides) + count * (self.steps > 1)


def above(high: float | None, steps: int = 1) -> Limit | None:
    return None if high is None else Limit(high=high, steps=steps)


def at_least(high: float | None) -> Limit | None:
    return None if high is None else Limit(high=math.nextafter(high, -math.inf))


def below(low: float | None, steps: int = 1) -> Limit | None:
    return None if low is None else Limit(low=low, steps=steps)


def outside(allowed: tuple[float, float] | None) -> Limit | None:
    return None if allowed is None else Limit(*allowed)


def as_is(key: str, *, absent: float | None = None) -> View:
    """The metric's values; steps without it, or with NaN, have none, or `absent`."""

    def points(history: Sequence[Row]) -> list[Point]:
        found = ((int(row["step"]), row.get(key, absent)) for row in history)
        return [Point(step, value) for step, value in found if value is not None and math.isfinite(value)]

    return points


def relative_to_first(key: str) -> View:
    """Values over the first one; none where that is not positive."""

    def points(history: Sequence[Row]) -> list[Point]:
        found = as_is(key)(history)
        return (
            [Point(step, value / found[0].value) for step, value in found[1:]] if found and found[0].value > 0 else []
        )

    return points


def rise_from_first(key: str) -> View:
    """Values less the first one."""

    def points(history: Sequence[Row]) -> list[Point]:
        found = as_is(key)(history)
        return [Point(step, value - found[0].value) for step, value in found[1:]]

    return points


def relative_to_median(key: str) -> View:
    """The last values, each over the median of up to WINDOW before it; none before there are MIN_HISTORY."""

    def points(history: Sequence[Row]) -> list[Point]:
        found = as_is(key)(history[-2 * WINDOW :])
        judged: list[Point] = []
        for n in range(max(MIN_HISTORY, len(found) - WINDOW), len(found)):
            usual = median(point.value for point in found[max(0, n - WINDOW) : n])
            if usual > 0:
                judged.append(Point(found[n].step, found[n].value / usual))
        return judged

    return points


def non_finite(history: Sequence[Row]) -> list[Point]:
    """How many of the metrics that must be finite are not, at each step."""
    return [
        Point(int(row["step"]), float(sum(key in row and not math.isfinite(row[key]) for key in NEVER_NAN)))
        for row in history
    ]


def rises_in_deviations(history: Sequence[Row]) -> list[Point]:
    """Each rise of the validation score over the spread of the rises before it, or over its own standard error."""
    found = as_is(PROXY)(history)
    errors = {int(row["step"]): _standard_error(row) for row in history}
    rises = [Point(after.step, after.value - before.value) for before, after in pairwise(found)]
    judged: list[Point] = []
    mean, squares = 0.0, 0.0  # of the rises before: Welford's update, as long runs have thousands of evaluations
    for n, rise in enumerate(rises):
        spread = max(math.sqrt(squares / n), errors[rise.step]) if n >= MIN_EVALUATIONS else 0.0
        if spread > 0:
            judged.append(Point(rise.step, rise.value / spread))
        off = rise.value - mean
        mean += off / (n + 1)
        squares += off * (rise.value - mean)
    return judged


def _standard_error(row: Row) -> float:
    """Of a validation score, from its 95 % interval; 0 where it has none."""
    width = row.get(f"{PROXY}_high", math.nan) - row.get(f"{PROXY}_low", math.nan)
    return width / (2 * 1.96) if math.isfinite(width) else 0.0


def score_that_the_holdout_does_not_share(ceiling: float | None) -> View:
    """The higher of the two mean scores, at steps after an evaluation whose hold-out score is not as high."""

    def points(history: Sequence[Row]) -> list[Point]:
        return [point for point, holdout in _scores(history) if ceiling is not None and holdout < ceiling]

    return points


def score_that_no_holdout_saw(history: Sequence[Row]) -> list[Point]:
    """The higher of the two mean scores, at steps after an evaluation without a hold-out score."""
    return [point for point, holdout in _scores(history) if math.isnan(holdout)]


def _scores(history: Sequence[Row]) -> list[tuple[Point, float]]:
    """The higher mean score of train and validation at each step, with the newest evaluation's hold-out score."""
    found: list[tuple[Point, float]] = []
    newest = math.nan
    for row in history:
        if PROXY in row:
            newest = row.get(HOLDOUT, math.nan)  # a hold-out that fails does not go on agreeing
        scores = [row[key] for key in ("score_train", PROXY) if math.isfinite(row.get(key, math.nan))]
        if scores:
            found.append((Point(int(row["step"]), max(scores)), newest))
    return found


def falls_of_the_holdout(*, is_rise_certain: bool) -> View:
    """How far each hold-out score lies below the best one before it, where the score rose meanwhile; 0 elsewhere.

    A fall counts from two paired standard errors on. So must the rise where it `is_rise_certain`: with a hold-out of
    much noise of its own, the best of many evaluations is a lucky one, and the next ones fall.
    """

    def points(history: Sequence[Row]) -> list[Point]:
        judged: list[Point] = []
        for row in history:
            if not math.isfinite(row.get(HOLDOUT, math.nan)):
                continue
            fall, rise = row.get(FALL, 0.0), row.get(RISE, 0.0)  # absent in the first evaluation of all
            rise_needed = 2 * row.get(f"{RISE}_stderr", 0.0) if is_rise_certain else 0.0
            is_fall = rise > rise_needed and fall > 2 * row.get(f"{FALL}_stderr", 0.0)
            judged.append(Point(int(row["step"]), fall if is_fall else 0.0))
        return judged

    return points


def spread_without_gain(ceiling: float | None) -> View:
    """The spread of a step's rewards over the first step's, at steps after an evaluation whose hold-out score neither
    lies above the baseline's by two paired standard errors nor is perfect."""

    def points(history: Sequence[Row]) -> list[Point]:
        judged: list[Point] = []
        is_flat, first = False, None
        for row in history:
            if PROXY in row:
                gain, score = row.get(GAIN, math.nan), row.get(HOLDOUT, math.nan)
                is_flat = gain <= 2 * row.get(f"{GAIN}_stderr", 0.0) and not (ceiling is not None and score >= ceiling)
            spread = row.get("score_train_std", math.nan)
            if not math.isfinite(spread):
                continue
            first = spread if first is None else first
            if is_flat and first > 0:
                judged.append(Point(int(row["step"]), spread / first))
        return judged

    return points
