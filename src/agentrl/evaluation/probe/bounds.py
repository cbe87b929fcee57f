"""95 % intervals that stay honest with ten items, and where nothing was seen to happen.

A bootstrap of values that are all 0 says [0, 0]. This interval does not: Gaffke's bound, the mean of the values under
random weights that leave a share to the worst value there could be (Learned-Miller and Thomas 2019, arXiv:1905.06208,
who conjecture that it covers for every bounded distribution). Of zeros and ones it is Clopper and Pearson's, exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from agentrl.evaluation.intervals import LEVEL, SEED, Interval
from agentrl.evaluation.probe.samples import Floats

DRAWS = 10_000


def mean_interval(values: ArrayLike, *, low: float = 0.0, high: float = 1.0) -> Interval:
    """Of the mean that the values were drawn from; the whole range where there are none.

    Args:
        low, high: no value can lie outside of them.
    """
    found = np.sort(np.asarray(values, dtype=np.float64))
    if not len(found):
        return Interval(low, high)
    weights = weights_of(len(found) + 1, DRAWS)
    tail = (1 - LEVEL) / 2
    lower = float(np.quantile(weights @ np.concatenate([[low], found]), tail))
    upper = float(np.quantile(weights @ np.concatenate([found, [high]]), 1 - tail))
    mean = float(found.mean())  # a draw of weights is no exact quantile: the mean lies inside all the same
    return Interval(max(low, min(lower, mean)), min(high, max(upper, mean)))


@lru_cache(maxsize=1024)
def share_interval(count: int, total: int) -> Interval:
    """Clopper and Pearson's, of `count` in `total`: as `mean_interval` of so many ones and zeros."""
    if not total:
        return Interval(0.0, 1.0)
    draw = np.random.default_rng(SEED)
    tail = (1 - LEVEL) / 2
    lower = np.quantile(draw.beta(count, total - count + 1, DRAWS), tail) if count else 0.0
    upper = np.quantile(draw.beta(count + 1, total - count, DRAWS), 1 - tail) if count < total else 1.0
    return Interval(min(float(lower), count / total), max(float(upper), count / total))


def ratio_interval(numerator: ArrayLike, denominator: ArrayLike) -> Interval | None:
    """Of sum / sum over items, by the Bayesian bootstrap (Rubin 1981); None where the denominator is nothing."""
    top, bottom = (np.asarray(values, dtype=np.float64) for values in (numerator, denominator))
    if not len(top) or bottom.sum() <= 0:
        return None
    weights = weights_of(len(top), DRAWS)
    below = weights @ bottom
    ratios = (weights @ top)[below > 0] / below[below > 0]
    low, high = np.quantile(ratios, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(low), float(high))


@lru_cache(maxsize=4)
def weights_of(n: int, draws: int) -> Floats:
    """[draws, n] spacings of uniform numbers: random weights that sum to 1, the same ones at each call."""
    return np.random.default_rng(SEED).dirichlet(np.ones(n), size=draws)
