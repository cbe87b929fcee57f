"""The smallest gain that the validation set can show: what is below it, a finished run cannot prove."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, pvariance, variance

from agentrl.evaluation.probe.samples import ItemScores, voting

POWER, SIGNIFICANCE = 0.8, 0.05
UNEVEN = 0.5
"""Correlation of an item's means before and after training, where gains are taken to differ between items."""


@dataclass(frozen=True)
class SmallestEffect:
    """Gains in mean score that a paired comparison of two policies finds four times in five (two-sided, 5 %).

    (z_0.975 + z_0.8) sqrt((omega^2 + 2 sigma^2 / samples) / items), with sigma^2 the variance between an item's samples
    and omega^2 that of the true gain between items (Miller 2024, arXiv:2411.00640, section 5).
    """

    n_items: int
    """Validation items that the run will measure."""
    samples: int
    """Of each item, for each of the two policies."""
    alike: float
    """If every item gains alike: omega^2 = 0. It cannot be less."""
    uneven: float
    """If gains differ between items as the items do: before and after correlate at one half, omega^2 is the variance
    between items."""


def smallest_effect(items: Sequence[ItemScores], *, n_items: int, samples: int) -> SmallestEffect | None:
    """None where no item has two votes, no score differs from another, or there is nothing to measure on."""
    found = voting(items)
    spreads = [variance(item.scores) for item in found if len(item.grades) > 1]
    if not spreads or not n_items:
        return None
    within = fmean(spreads)
    mean_votes = fmean(1 / len(item.grades) for item in found)
    # items' means differ by what their samples do, too: that part is taken out
    between = max(0.0, pvariance([item.mean for item in found]) - within * mean_votes)
    if not within and not between:
        return None  # not that any gain could be shown: how scores spread was not seen
    return SmallestEffect(
        n_items,
        samples,
        alike=_effect(2 * within / samples, n_items),
        uneven=_effect(2 * (1 - UNEVEN) * between + 2 * within / samples, n_items),
    )


def _effect(variance_of_difference: float, n_items: int) -> float:
    normal = NormalDist()
    z = normal.inv_cdf(1 - SIGNIFICANCE / 2) + normal.inv_cdf(POWER)
    return z * math.sqrt(variance_of_difference / n_items)
