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

from numpy.typing import ArrayLike


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
    raise NotImplementedError


def log_values(values: ArrayLike, *, floor: float = 0.0) -> Any:
    """[N] natural logarithms for a geometric mean; NaN, which `arm_sums` names, of what is not above 0.

    Args:
        floor: what is in [0, floor] counts as the floor, such as the clock's resolution.
    """
    raise NotImplementedError


def ratio_and_variance(arm: ArmSums, *, event: float = 0.0) -> tuple[Any, Any]:
    """R and var R of an arm, element by element; NaN where they are undefined.

    Args:
        event: size of one event in x, where x counts rare ones (1 for successes, violations, errors). The variance is
            then that of one event more and one non-event more than were seen: none in n has a width (about that of
            the rule of three), and the estimate stays what it was. 0: no arm without variance has bounds.
    """
    raise NotImplementedError


def difference(candidate: ArmSums, baseline: ArmSums, *, event: float = 0.0) -> Estimate:
    """R of the candidate - R of the baseline. Means, rates, errors per call.

    Args:
        event: see `ratio_and_variance`; 1 for rates and counts, the range for bounded scores, 0 for the rest.
    """
    raise NotImplementedError


def log_ratio(candidate: ArmSums, baseline: ArmSums) -> Estimate:
    """log(R of the candidate / R of the baseline), for relative margins: cost per success, means.

    Undefined, with the reason, where a sum is not above 0: zero successes cost no number. Bounds made of it are
    exponentiated: they are of the ratio.
    """
    raise NotImplementedError


def geo_ratio(candidate: ArmSums, baseline: ArmSums) -> Estimate:
    """log of the ratio of geometric means, from sums of `log_values`. Bounds made of it are of the ratio."""
    raise NotImplementedError


def own_value(candidate: ArmSums, *, event: float = 0.0) -> Estimate:
    """R of the candidate alone, to hold against a limit."""
    raise NotImplementedError


def effective_n(n_candidate: Any, n_baseline: Any = math.inf) -> Any:
    """1 / (1 / n_candidate + 1 / n_baseline): as many candidate sessions against an endless baseline."""
    raise NotImplementedError
