"""95 % intervals of means over items: percentile bootstrap (the one we show) and Student's t (the cross-check)."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
RESAMPLES = 10_000
SEED = 17
"""Fixed, so that the same rollouts always give the same interval."""

Floats = NDArray[np.floating[Any]]


class Interval(NamedTuple):
    low: float
    high: float


def resampled_means(values_NK: ArrayLike, *, resamples: int = RESAMPLES, seed: int = SEED) -> Floats:
    """[R, K] column means of R samples of the N rows with replacement.

    Rows are items: all columns of an item are drawn together, which is what makes a comparison of columns paired.
    """
    values = np.asarray(values_NK, dtype=np.float64)
    n_items = len(values)
    drawn_RN = np.random.default_rng(seed).integers(0, n_items, size=(resamples, n_items))
    # how often each item was drawn, as a matrix: one product gives all means without copying the values R times
    drawn_RN += np.arange(resamples)[:, None] * n_items
    counts_RN = np.bincount(drawn_RN.ravel(), minlength=resamples * n_items).reshape(resamples, n_items)
    return np.asarray(counts_RN @ values / n_items)


def percentile_interval(draws: ArrayLike, level: float = LEVEL) -> Interval:
    """The middle `level` of the draws, rounded to 12 decimals: noise in the last bit must not exclude 0."""
    low, high = np.quantile(np.asarray(draws, dtype=np.float64), [(1 - level) / 2, (1 + level) / 2])
    return Interval(round(float(low), 12), round(float(high), 12))


def t_interval(values: ArrayLike, level: float = LEVEL) -> Interval | None:
    """Mean +- t * standard error; None for fewer than two values."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) < 2:
        return None
    half = t_quantile((1 + level) / 2, len(array) - 1) * float(array.std(ddof=1)) / math.sqrt(len(array))
    mean = float(array.mean())
    return Interval(mean - half, mean + half)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t: exact for 1 and 2 degrees, else the expansion of Abramowitz & Stegun 26.7.5.

    At 0.975 the error is 0.12 % for 3 degrees and below 0.01 % from 6 on.
    """
    if degrees == 1:
        return math.tan(math.pi * (probability - 0.5))
    if degrees == 2:
        return (2 * probability - 1) / math.sqrt(2 * probability * (1 - probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / float(degrees**power) for power, term in enumerate(terms))
