"""A figure of two policies: both levels, the change, and what chance makes of each, over the items that both have."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from agentrl.evaluation.compare import Difference
from agentrl.evaluation.intervals import Floats, Interval, Resamples, percentile_interval, t_interval

MIN_DEFINED = 0.95
"""Of the resamples: an interval of a figure that fewer of them have would leave out the worst cases."""


@dataclass(frozen=True)
class Figure(Difference):
    """A difference with the intervals of its two levels; NaN where a level is undefined."""

    n_items: int
    """Items that it rests on: those with a value on both sides."""
    baseline_interval: Interval | None
    """95 %, percentile bootstrap over items."""
    candidate_interval: Interval | None


@lru_cache(maxsize=8)
def resamples_of(n_items: int) -> Resamples:
    """One set of draws for each number of items, so that all figures of a comparison share them."""
    return Resamples(n_items)


def mean_figure(values_N2: ArrayLike) -> Figure:
    """The mean over items; those that lack a side (NaN) are left out."""
    return mean_figures([values_N2])[0]


def mean_figures(tables: Sequence[ArrayLike]) -> list[Figure]:
    """Of many values: those that rest on as many items are drawn together, which is much faster."""
    values_of = [_both(values_N2) for values_N2 in tables]
    draws_of: dict[int, Floats] = {}
    for n_items in {len(values) for values in values_of} - {0, 1}:
        same = [index for index, values in enumerate(values_of) if len(values) == n_items]
        drawn = resamples_of(n_items).means(np.concatenate([values_of[index] for index in same], axis=1))
        draws_of |= {index: drawn[:, 2 * place : 2 * place + 2] for place, index in enumerate(same)}
    return [_mean_figure(values, draws_of.get(index)) for index, values in enumerate(values_of)]


def _mean_figure(values: Floats, draws_R2: Floats | None) -> Figure:
    if not len(values):
        return _figure(values, math.nan, math.nan, None)
    baseline, candidate = values.mean(axis=0)
    return _figure(values, baseline, candidate, draws_R2, t_interval(values[:, 1] - values[:, 0]))


def ratio_figure(over_N2: ArrayLike, under_N2: ArrayLike, *, of_nothing: float = math.nan) -> Figure:
    """Sum over items of one value by the sum of another; `of_nothing` where there is nothing to divide by."""
    values = _both(np.concatenate([np.asarray(over_N2), np.asarray(under_N2)], axis=1))

    def ratios(sums_X4: Floats) -> Floats:
        over, under = sums_X4[..., :2], sums_X4[..., 2:]
        return np.divide(over, under, out=np.full_like(over, of_nothing), where=under > 0)

    if not len(values):
        return _figure(values, math.nan, math.nan, None)
    baseline, candidate = ratios(values.mean(axis=0))
    draws = ratios(resamples_of(len(values)).means(values)) if len(values) > 1 else None
    return _figure(values, baseline, candidate, draws)


def quantile_figures(sides: tuple[list[list[float]], list[list[float]]], shares: Sequence[float]) -> list[Figure]:
    """Quantiles of single episodes: the smallest value that at least a share of them do not exceed.

    Every item has one vote, which its episodes divide; resampled by items, like everything else.

    Args:
        sides: of either policy, for each item the values of its episodes.
    """
    n_items = len(sides[0])
    if not n_items:
        return [_figure(np.empty((0, 2)), math.nan, math.nan, None) for _ in shares]
    levels: list[Floats] = []
    drawn: list[Floats] = []
    for side in sides:
        values = np.array([value for item in side for value in item])
        order = np.argsort(values, kind="stable")
        values = values[order]
        item_of = np.repeat(np.arange(n_items), [len(item) for item in side])[order]
        weights = np.array([1 / len(item) for item in side])[item_of]
        levels.append(_quantiles(values, weights[None, :], shares))
        if n_items > 1:
            draws = [
                _quantiles(values, part[:, item_of] * weights, shares)
                for counts in resamples_of(n_items).counts()
                for part in np.array_split(counts, max(1, counts.shape[0] * len(values) // Resamples.PIECE))
            ]
            drawn.append(np.concatenate(draws, axis=1))
    nothing = np.empty((n_items, 2))
    return [
        _figure(nothing, first[0], second[0], np.stack([each[q] for each in drawn], axis=1) if drawn else None)
        for q, (first, second) in enumerate(zip(*levels, strict=True))
    ]


def _quantiles(values_M: Floats, weights_RM: Floats, shares: Sequence[float]) -> Floats:
    """[Q, R] of every row of weights; the values are sorted."""
    reached = np.cumsum(weights_RM, axis=1)
    targets = (share * reached[:, -1:] * (1 - 1e-12) for share in shares)  # a sum of thirds may fall short by a bit
    return np.stack([values_M[np.argmax(reached >= target, axis=1)] for target in targets])


def _both(values_N: ArrayLike) -> Floats:
    values = np.asarray(values_N, dtype=np.float64)
    return values[~np.isnan(values).any(axis=1)]


def _figure(
    values: Floats, baseline: float, candidate: float, draws_R2: Floats | None, by_t: Interval | None = None
) -> Figure:
    first, second = (None, None) if draws_R2 is None else (draws_R2[:, 0], draws_R2[:, 1])
    baseline, candidate = float(baseline), float(candidate)
    has_ratio = baseline != 0 and not math.isnan(baseline)
    return Figure(
        baseline=baseline,
        candidate=candidate,
        change=candidate - baseline,
        change_interval=None if first is None or second is None else _interval(second - first),
        change_interval_t=by_t,
        relative=(candidate - baseline) / baseline if has_ratio else None,
        relative_interval=None
        if first is None or second is None or not np.all(first)
        else _interval(second / first - 1),
        n_items=len(values),
        baseline_interval=None if first is None else _interval(first),
        candidate_interval=None if second is None else _interval(second),
    )


def _interval(draws: Floats) -> Interval | None:
    defined = draws[~np.isnan(draws)]
    return percentile_interval(defined) if len(defined) and len(defined) >= MIN_DEFINED * len(draws) else None
