"""Percentile bootstrap, seeded: the same numbers give the same bounds, byte for byte.

For quantiles, products and small paired samples, where no variance formula serves. Fixed-look bounds: under peeking
take a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agentrl.release.statistics.bounds import Bounds, Floats, defined, finite, undefined
from agentrl.release.statistics.sums import ROUNDING, cluster_numbers

RESAMPLES = 4_000
SEED = 17
MOST_DRAWS = 100_000_000
"""Units drawn over all resamples; of larger arms fewer resamples are taken, but never fewer than `FEWEST`."""
FEWEST = 1_000
PIECE = 2_000_000
UNDEFINED_SHARE = 0.01
"""Of resamples: where more have no statistic, the rest would say too much."""

Statistic = Callable[[Floats, Floats], Floats]
"""(values [N, K], how often every unit was drawn [R, N]) -> [R] the statistic of every resample; NaN: undefined."""


def mean(values: Floats, drawn: Floats) -> Floats:
    """Of the first column."""
    return _mean(values[:, 0], drawn)


def ratio_of_sums(values: Floats, drawn: Floats) -> Floats:
    """Sum of the first column over sum of the second; NaN where that is not above 0."""
    top, bottom = drawn @ values[:, 0], drawn @ values[:, 1]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(bottom > 0, top / bottom, np.nan)


def geo_mean(values: Floats, drawn: Floats) -> Floats:
    """Geometric mean of the first column; NaN where a value is not above 0."""
    if not np.all(values[:, 0] > 0):
        return np.full(len(drawn), np.nan)
    logarithms = np.log(values[:, 0])
    return np.asarray(np.exp(_mean(logarithms, drawn)))


def quantile(level: float) -> Statistic:
    """Of the first column: the smallest value that at least `level` of the sample does not exceed."""

    def of(values: Floats, drawn: Floats) -> Floats:
        order = np.argsort(values[:, 0], kind="stable")
        below = np.cumsum(drawn[:, order], axis=1)
        is_reached = below >= level * below[:, -1:] - 1e-9
        return np.asarray(values[order, 0][np.argmax(is_reached, axis=1)])

    return of


def product_of_ratios(values: Floats, drawn: Floats) -> Floats:
    """Of columns in pairs, each sum over sum; 0, 1 / 2, 3 / ... such as success x (1 - override) x (1 - errors)."""
    product = np.ones(len(drawn))
    for column in range(0, values.shape[1], 2):
        product = product * ratio_of_sums(values[:, column : column + 2], drawn)
    return product


def bootstrap(
    candidate: ArrayLike,
    baseline: ArrayLike,
    statistic: Statistic,
    *,
    alpha_lower: float,
    alpha_upper: float,
    scale: str = "difference",
    cluster_candidate: Sequence[str] | None = None,
    cluster_baseline: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Bounds:
    """Two independent arms, each resampled by itself, by cluster where sessions share one.

    Args:
        candidate, baseline: [N, K] or [N] units of each arm.
        scale: difference, or ratio of the two statistics.

    Returns:
        Undefined where an arm has fewer than 2 clusters, a value is not finite, the statistic is undefined on the
        sample or on more than 1 % of resamples (a resample without a success, say), or an arm's resamples are alike.
    """
    arms = [_Arm("candidate", candidate, cluster_candidate), _Arm("baseline", baseline, cluster_baseline)]
    draws: list[Floats] = []
    if not any(arm.problem for arm in arms):
        n_resamples = _affordable(resamples, max(len(arm.values) for arm in arms))
        seeds = np.random.SeedSequence(seed).spawn(2)
        draws = [arm.resampled(statistic, n_resamples, of) for arm, of in zip(arms, seeds, strict=True)]
    return _bounds(arms, draws, statistic, scale, "bootstrap", alpha_lower, alpha_upper)


def paired_bootstrap(
    candidate: ArrayLike,
    baseline: ArrayLike,
    statistic: Statistic,
    *,
    alpha_lower: float,
    alpha_upper: float,
    scale: str = "difference",
    cluster: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Bounds:
    """Two arms on the same tasks: row i of both is task i, and both rows are drawn together.

    Args:
        candidate, baseline: [N, K] or [N], of one length.
        cluster: [N] rows that share a name, such as samples of one task, are drawn together.

    Raises:
        ValueError: the arms are of different lengths.
    """
    arms = [_Arm("candidate", candidate, cluster), _Arm("baseline", baseline, cluster)]
    if len(arms[0].values) != len(arms[1].values):
        raise ValueError(f"pairs: found {len(arms[0].values)} and {len(arms[1].values)} units")
    draws: list[Floats] = []
    if not any(arm.problem for arm in arms):
        n_resamples = _affordable(resamples, len(arms[0].values))
        draws = [arm.resampled(statistic, n_resamples, np.random.SeedSequence(seed)) for arm in arms]  # the same draws
    return _bounds(arms, draws, statistic, scale, "paired_bootstrap", alpha_lower, alpha_upper)


def own_bootstrap(
    values: ArrayLike,
    statistic: Statistic,
    *,
    alpha_lower: float,
    alpha_upper: float,
    cluster: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Bounds:
    """One arm's own statistic, scale `value`."""
    arm = _Arm("candidate", values, cluster)
    draws: list[Floats] = []
    if not arm.problem:
        n_resamples = _affordable(resamples, len(arm.values))
        draws = [arm.resampled(statistic, n_resamples, np.random.SeedSequence(seed))]
    return _bounds([arm], draws, statistic, "value", "bootstrap", alpha_lower, alpha_upper)


class _Arm:
    """Units of an arm, and which of them are drawn together."""

    def __init__(self, name: str, values: ArrayLike, cluster: Sequence[str] | None) -> None:
        array = np.asarray(values, dtype=np.float64)
        self.name, self.values = name, array[:, None] if array.ndim == 1 else array
        self.which = cluster_numbers(cluster) if cluster is not None else np.arange(len(self.values))
        if len(self.which) != len(self.values):
            raise ValueError(f"{name}: {len(self.values)} units, {len(self.which)} clusters")
        self.n_clusters = int(self.which.max()) + 1 if len(self.which) else 0
        self.problem = finite(name, self.values)
        if not self.problem and self.n_clusters < 2:
            self.problem = f"{name}: {self.n_clusters} independent unit, which has nothing to resample"

    def own(self, statistic: Statistic) -> float:
        """Of the sample itself."""
        return float(statistic(self.values, np.ones((1, len(self.values))))[0])

    def resampled(self, statistic: Statistic, resamples: int, seed: np.random.SeedSequence) -> Floats:
        """[R] of samples with replacement of as many clusters, in pieces that fit the memory."""
        rng, found = np.random.default_rng(seed), []
        rows = max(1, PIECE // self.n_clusters)
        for start in range(0, resamples, rows):
            size = min(rows, resamples - start)
            drawn = rng.integers(0, self.n_clusters, size=(size, self.n_clusters))
            drawn += np.arange(size)[:, None] * self.n_clusters
            counts = np.bincount(drawn.ravel(), minlength=size * self.n_clusters).reshape(size, self.n_clusters)
            found.append(statistic(self.values, counts[:, self.which].astype(np.float64)))
        return np.concatenate(found)


def _bounds(
    arms: list[_Arm],
    draws: list[Floats],
    statistic: Statistic,
    scale: str,
    method: str,
    alpha_lower: float,
    alpha_upper: float,
) -> Bounds:
    fields: dict[str, Any] = {
        "method": method,
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "scale": scale,
        "n_candidate": len(arms[0].values),
        "n_baseline": len(arms[1].values) if len(arms) > 1 else 0,
    }
    if reason := "; ".join(arm.problem for arm in arms if arm.problem):
        return undefined(reason, **fields)
    own = [arm.own(statistic) for arm in arms]
    for name, value in zip(("candidate", "baseline"), own, strict=False):
        fields[name] = value if np.isfinite(value) else None
    for arm, value, of_arm in zip(arms, own, draws, strict=True):
        if not np.isfinite(value):
            return undefined(f"{arm.name}: the statistic is undefined on its {len(arm.values)} units", **fields)
        if float(np.nanmax(of_arm) - np.nanmin(of_arm)) <= ROUNDING * abs(value):
            return undefined(f"{arm.name}: all resamples are alike, its variance cannot be told", **fields)
    with np.errstate(divide="ignore", invalid="ignore"):
        if scale == "ratio":
            compared, estimate = draws[0] / draws[1], own[0] / own[1] if own[1] else np.nan
        elif scale == "difference":
            compared, estimate = draws[0] - draws[1], own[0] - own[1]
        else:
            compared, estimate = draws[0], own[0]
    is_known = np.isfinite(compared)
    if not np.isfinite(estimate):
        return undefined("the baseline is 0, a ratio to it is undefined", **fields)
    fields["estimate"] = float(estimate)
    if np.mean(~is_known) > UNDEFINED_SHARE:
        share = 100 * float(np.mean(~is_known))
        return undefined(f"the statistic is undefined on {share:.1f} % of resamples", **fields)
    lower, upper = np.quantile(compared[is_known], [alpha_lower, 1 - alpha_upper])
    return defined(fields.pop("estimate"), float(lower), float(upper), **fields)


def _mean(column: Floats, drawn: Floats) -> Floats:
    return np.asarray(drawn @ column / drawn.sum(1))


def _affordable(resamples: int, units: int) -> int:
    return min(resamples, max(FEWEST, MOST_DRAWS // max(units, 1)))
