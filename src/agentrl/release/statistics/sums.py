"""An arm as seven sums, and two arms as an estimate with a standard error.

Every statistic of a gate is a ratio of sums R = sum x / sum y over an arm's clusters (a cluster is one session, unless
sessions of one user share it):

    mean, rate       x the value, y 1
    geo_mean         x the logarithm, y 1; arms are subtracted, and the result is exponentiated
    ratio_of_sums    x cost, y success;  x tool errors, y tool calls

so one variance serves all of them: the linearised (delta method) one over clusters, with the covariance of x and y,

    var R = n / (n - 1) * sum (x - R y)^2 / (sum y)^2

which for single sessions and y = 1 is the textbook s^2 / n. Sums add up: `at looks` they are cumulative, and all of
the arithmetic here works element by element on arrays, which is how the benchmark simulates thousands of canaries
through the very functions that gates use.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agentrl.release.statistics.bounds import finite

ROUNDING = 1e-13
LARGEST = 1e100
"""Squares of what is larger are not finite."""
LARGEST_LOG = 700.0


@dataclass(frozen=True)
class ArmSums:
    """Sums over the clusters of an arm; floats, or arrays of one shape."""

    units: Any
    """Sessions."""
    clusters: Any
    x: Any
    y: Any
    xx: Any
    xy: Any
    yy: Any
    problem: str = ""
    """Why the arm has no sums, such as a NaN among its values."""


@dataclass(frozen=True)
class Estimate:
    """A number of two arms, or of one, with its standard error. Bounds are made of it in `sequences.py`."""

    value: float | None
    error: float | None
    """Standard error, on the scale of `value`; for ratios that of the logarithm."""
    n_effective: float
    """1 / (1 / n_candidate + 1 / n_baseline), in sessions: the clock that sequences run on."""
    scale: str
    """difference, ratio (value and error are then of the logarithm), or value."""
    candidate: float | None
    baseline: float | None
    n_candidate: int
    n_baseline: int
    clusters_candidate: int
    clusters_baseline: int
    problem: str = ""
    """Why there is no error, or no value."""


def arm_sums(x: ArrayLike, y: ArrayLike | None = None, *, cluster: Sequence[str] | None = None) -> ArmSums:
    """An arm's sums.

    Args:
        x: [N] numerator of every session: its value, its logarithm, its cost, its tool errors.
        y: [N] denominator: its success, its tool calls; None is 1 each, which makes R a mean.
        cluster: [N] sessions that share a name are one cluster; None: each is its own.

    Returns:
        Sums with a `problem` where N is 0 or a value is NaN or infinite.
    """
    numerator = np.asarray(x, dtype=np.float64).reshape(-1)
    denominator = np.ones_like(numerator) if y is None else np.asarray(y, dtype=np.float64).reshape(-1)
    if len(numerator) != len(denominator) or (cluster is not None and len(cluster) != len(numerator)):
        raise ValueError(f"x, y and cluster are of one length; found {len(numerator)} and {len(denominator)}")
    units = len(numerator)
    problem = finite("x", numerator) or finite("y", denominator)
    if not problem and max(np.abs(numerator).max(), np.abs(denominator).max()) > LARGEST:
        problem = f"x: values beyond {LARGEST:g} have no variance"
    if problem:
        return no_sums(units, problem.partition(": ")[2])
    if cluster is not None:
        which = cluster_numbers(cluster)
        numerator = np.bincount(which, weights=numerator).astype(np.float64)
        denominator = np.bincount(which, weights=denominator).astype(np.float64)
    return ArmSums(
        units=units,
        clusters=len(numerator),
        x=float(numerator.sum()),
        y=float(denominator.sum()),
        xx=float(numerator @ numerator),
        xy=float(numerator @ denominator),
        yy=float(denominator @ denominator),
    )


def no_sums(units: int, problem: str) -> ArmSums:
    """An arm that cannot be used, and why."""
    return ArmSums(units, units, math.nan, math.nan, math.nan, math.nan, math.nan, problem)


def cluster_numbers(cluster: Sequence[str]) -> Any:
    """[N] number of every unit's cluster, from 0 in order of first sight; an empty name is a cluster of its own."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(name or index, len(numbers)) for index, name in enumerate(cluster)], np.int64)


def ratio_and_variance(arm: ArmSums, *, event: float = 0.0) -> tuple[Any, Any]:
    """R and var R of an arm, element by element; NaN where they are undefined.

    Args:
        event: size of one event in x, where x counts rare ones (1 for successes, violations, errors). The variance is
            then that of one event more and one non-event more than were seen: none in n has a width (about that of
            the rule of three), and the estimate stays what it was. 0: no arm without variance has bounds.
    """
    n, x, y = (np.asarray(values, dtype=np.float64) for values in (arm.clusters, arm.x, arm.y))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(y > 0, x / y, np.nan)
        squares = arm.xx - 2 * ratio * arm.xy + ratio**2 * arm.yy
        # Sums of squares cancel: what is left of a constant is rounding, and no variance.
        squares = np.where(squares > ROUNDING * (np.abs(arm.xx) + ratio**2 * arm.yy), squares, 0.0)
        if event > 0:
            squares = squares + (event - ratio) ** 2 + ratio**2
        variance = np.where(n > 1, n / (n - 1) * squares / y**2, np.nan)
    return ratio, variance


def difference(candidate: ArmSums, baseline: ArmSums, *, event: float = 0.0) -> Estimate:
    """R of the candidate - R of the baseline. Means, rates, errors per call.

    Args:
        event: see `ratio_and_variance`; 1 for rates and counts, the range for bounded scores, 0 for the rest.
    """
    return _compared(candidate, baseline, "difference", event=event)


def log_ratio(candidate: ArmSums, baseline: ArmSums) -> Estimate:
    """log(R of the candidate / R of the baseline), for relative margins: cost per success, means.

    Undefined, with the reason, where a sum is not above 0: zero successes cost no number. Bounds made of it are
    exponentiated: they are of the ratio.
    """
    return _compared(candidate, baseline, "ratio", of_logarithms=False)


def geo_ratio(candidate: ArmSums, baseline: ArmSums) -> Estimate:
    """log of the ratio of geometric means, from sums of logarithms. Bounds made of it are of the ratio."""
    return _compared(candidate, baseline, "ratio", of_logarithms=True)


def own_value(candidate: ArmSums, *, event: float = 0.0) -> Estimate:
    """R of the candidate alone, to hold against a limit."""
    return _compared(candidate, None, "value", event=event)


def effective_n(n_candidate: Any, n_baseline: Any = math.inf) -> Any:
    """1 / (1 / n_candidate + 1 / n_baseline): as many candidate sessions against an endless baseline."""
    with np.errstate(divide="ignore"):
        return 1 / (1 / np.asarray(n_candidate, dtype=np.float64) + 1 / np.asarray(n_baseline, dtype=np.float64))


def _compared(
    candidate: ArmSums, baseline: ArmSums | None, scale: str, *, event: float = 0.0, of_logarithms: bool = False
) -> Estimate:
    """Both arms' values, then their difference on its scale; the first thing that is missing is the problem."""
    arms = {"candidate": candidate} if baseline is None else {"candidate": candidate, "baseline": baseline}
    values: list[float | None] = []
    numbers: list[float] = []
    variances: list[float] = []
    problems: list[str] = []
    for name, arm in arms.items():
        number, variance, problem = _arm(arm, event, is_log=scale == "ratio" and not of_logarithms)
        shown = None if math.isnan(number) else number
        if scale == "ratio" and shown is not None:
            shown = math.exp(shown) if abs(shown) < LARGEST_LOG else None
        values.append(shown)
        numbers.append(number)
        variances.append(variance)
        problems += [f"{name}: {problem}"] if problem else []
    value = numbers[0] - numbers[1] if len(numbers) == 2 else numbers[0]
    counts = [int(arm.units) for arm in arms.values()] + [0]
    clusters = [int(arm.clusters) for arm in arms.values()] + [0]
    return Estimate(
        value=value if math.isfinite(value) else None,
        error=None if problems else math.sqrt(sum(variances)),
        n_effective=float(effective_n(counts[0], math.inf if baseline is None else counts[1])),
        scale=scale,
        candidate=values[0],
        baseline=values[1] if baseline is not None else None,
        n_candidate=counts[0],
        n_baseline=counts[1],
        clusters_candidate=clusters[0],
        clusters_baseline=clusters[1],
        problem="; ".join(problems),
    )


def _arm(arm: ArmSums, event: float, *, is_log: bool) -> tuple[float, float, str]:
    """An arm's number, its variance, and why there is none."""
    if arm.problem:
        return math.nan, math.nan, arm.problem
    if not arm.y > 0:
        return math.nan, math.nan, f"the denominators of {arm.units} sum to {arm.y:g}, a ratio to it is undefined"
    ratio, variance = (float(number) for number in ratio_and_variance(arm, event=event))
    if is_log:
        if ratio <= 0:
            return math.nan, math.nan, f"a sum of {arm.x:g} has no ratio"
        relative = math.sqrt(variance) / ratio if math.isfinite(variance) else math.nan
        ratio, variance = math.log(ratio), relative * relative
    if arm.clusters < 2:
        return ratio, math.nan, f"{arm.clusters} independent unit, which has no variance"
    if not variance > 0:
        return ratio, math.nan, f"all {arm.units} are alike, their variance cannot be told"
    return ratio, variance, ""
