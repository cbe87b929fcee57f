"""What infrastructure broke, and whether it broke the hard items: a comparison of what is left would then be biased.

Difficulty of an item is what the other policy scored on it, which what was lost here cannot have touched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from agentrl.evaluation.comparison.figures import MIN_DEFINED, resamples_of
from agentrl.evaluation.comparison.pairs import OTHER_TASK, Pairs
from agentrl.evaluation.intervals import Floats, Interval, percentile_interval
from agentrl.evaluation.rank_correlation import spearman, spearman_interval

MIN_HIT = 5
"""Items that lost something, and as many that did not: fewer cannot show whether it is the hard ones."""


@dataclass(frozen=True)
class Losses:
    """Of one side: its episodes without a vote."""

    name: str
    rollouts: int
    lost: int
    by_class: dict[str, int]
    stop_reasons: dict[str, int] = field(repr=False)
    """Of all its rollouts."""
    items_hit: int
    """Items that lost at least one."""
    items_lost: int
    """Items that lost them all, and are compared no more."""
    reward_of_hit: float | None
    """What the other side scored on items that were hit; None where it scored none of them."""
    reward_of_others: float | None
    difference: float | None
    """reward_of_hit - reward_of_others: below 0, the hard items were lost."""
    difference_interval: Interval | None
    """95 %, bootstrap over items; None for fewer than MIN_HIT items of either kind."""
    correlation: float | None
    """Spearman's, of the share of an item's episodes that was lost and the other side's reward on it."""
    correlation_interval: Interval | None
    verdict: str
    """One sentence."""

    @property
    def is_selective(self) -> bool:
        """Whether what was lost was clearly harder, or easier, than what was not."""
        return self.difference_interval is not None and not (
            self.difference_interval.low <= 0 <= self.difference_interval.high
        )


def losses(pairs: Pairs) -> tuple[Losses, Losses]:
    """[A, B]"""
    return _of(pairs, 0), _of(pairs, 1)


def _of(pairs: Pairs, side: int) -> Losses:
    everything, others = pairs.everything[side], pairs.voting[1 - side]
    rollouts = [rollout for group in everything.values() for rollout in group]
    broken = [rollout for rollout in rollouts if not rollout.is_valid]
    known = [
        task_id for task_id in sorted(everything) if task_id in others and pairs.left_out.get(task_id) != OTHER_TASK
    ]
    share = {task_id: fmean(not each.is_valid for each in everything[task_id]) for task_id in everything}
    lost_N = np.array([share[task_id] for task_id in known])
    reward_N = np.array([fmean(each.grade.score or 0.0 for each in others[task_id]) for task_id in known])
    hit_N = lost_N > 0
    of_hit, of_others = _mean(reward_N[hit_N]), _mean(reward_N[~hit_N])
    difference = None if of_hit is None or of_others is None else of_hit - of_others
    has_enough = min(int(hit_N.sum()), int((~hit_N).sum())) >= MIN_HIT
    interval = _interval(reward_N, hit_N) if has_enough else None
    correlation = spearman(list(lost_N), list(reward_N)) if len(known) > 1 else None
    return Losses(
        name=pairs.names[side],
        rollouts=len(rollouts),
        lost=len(broken),
        by_class=_counted(each.failure_class.value for each in broken if each.failure_class),
        stop_reasons=_counted(each.stop_reason.value for each in rollouts),
        items_hit=sum(each > 0 for each in share.values()),
        items_lost=sum(each == 1 for each in share.values()),
        reward_of_hit=of_hit,
        reward_of_others=of_others,
        difference=difference,
        difference_interval=interval,
        correlation=correlation,
        correlation_interval=(
            spearman_interval(list(lost_N), list(reward_N), known) if correlation is not None and has_enough else None
        ),
        verdict=_verdict(len(broken), interval, difference),
    )


def _verdict(lost: int, interval: Interval | None, difference: float | None) -> str:
    if not lost:
        return "nothing was lost"
    if interval is None or difference is None:
        return "too few items to tell whether losses follow difficulty"
    if interval.low <= 0 <= interval.high:
        return "no sign that losses follow difficulty"
    kind, direction = ("hard", "too high") if difference < 0 else ("easy", "too low")
    return f"the {kind} items were lost: what is left shows levels that are {direction}"


def _interval(reward_N: Floats, hit_N: NDArray[np.bool_]) -> Interval | None:
    """Of the difference of the two kinds' means, items drawn again."""
    columns = np.stack([reward_N * hit_N, hit_N, reward_N * ~hit_N, ~hit_N], axis=1)
    draws = resamples_of(len(reward_N)).means(columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = draws[:, 0] / draws[:, 1] - draws[:, 2] / draws[:, 3]
    found = found[np.isfinite(found)]
    return percentile_interval(found) if len(found) >= MIN_DEFINED * len(draws) else None


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None


def _counted(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items()))
