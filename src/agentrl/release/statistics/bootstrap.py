"""Percentile bootstrap, seeded: the same numbers give the same bounds, byte for byte.

For quantiles, products and small paired samples, where no variance formula serves. Fixed-look bounds: under peeking
take a sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from agentrl.release.statistics.bounds import Bounds

RESAMPLES = 4_000
SEED = 17

Statistic = Callable[[Any], Any]
"""[..., N, K] rows of units with K columns -> [...] the statistic of every sample; NaN where it is undefined."""


def mean(sample: Any) -> Any:
    """Of the first column."""
    return sample[..., 0].mean(-1)


def ratio_of_sums(sample: Any) -> Any:
    """Sum of the first column over sum of the second; NaN where that is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        bottom = sample[..., 1].sum(-1)
        return np.where(bottom > 0, sample[..., 0].sum(-1) / bottom, np.nan)


def quantile(level: float) -> Statistic:
    """Of the first column, at a level such as 0.95."""
    return lambda sample: np.quantile(sample[..., 0], level, axis=-1)


def geo_mean(sample: Any) -> Any:
    """Geometric mean of the first column; NaN where a value is not above 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.exp(np.log(sample[..., 0]).mean(-1))


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
        sample or on more than 1 % of resamples (a resample without a success, say), or no resample differs.
    """
    raise NotImplementedError


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
    """
    raise NotImplementedError


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
    raise NotImplementedError
