"""What the best of several samples reaches, and all of them: pass@k, pass^k, best-of-n and the headroom in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.pass_at_k import all_of_k, one_of_k
from agentrl.evaluation.probe.bounds import mean_interval
from agentrl.evaluation.probe.samples import ItemScores, complete


@dataclass(frozen=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    interval: Interval

    def __str__(self) -> str:
        """`0.492 (0.418 to 0.564)`."""
        return f"{self.value:.3f} ({self.interval.low:.3f} to {self.interval.high:.3f})"


def estimate(values: Sequence[float], *, low: float = 0.0, high: float = 1.0) -> Estimate | None:
    """The mean over items; None of no items."""
    return Estimate(fmean(values), mean_interval(values, low=low, high=high)) if values else None


def pass_curves(items: Sequence[ItemScores], samples: int) -> dict[str, dict[int, Estimate]]:
    """`pass_at_k` and `pass_hat_k` for every k up to `samples`; an item with fewer votes than k is left out there."""
    found: dict[str, dict[int, Estimate]] = {"pass_at_k": {}, "pass_hat_k": {}}
    for k in range(1, samples + 1):
        counted = [(len(item.passed), sum(item.passed)) for item in items if len(item.passed) >= k]
        for name, formula in (("pass_at_k", one_of_k), ("pass_hat_k", all_of_k)):
            if value := estimate([formula(n, c, k) for n, c in counted]):
                found[name][k] = value
    return found


@dataclass(frozen=True)
class BestOf:
    """Of complete items: the best of their samples, and how far it lies above their mean."""

    n_items: int
    best: Estimate
    """Best-of-n as the grader sees it."""
    true_best: Estimate
    """The best one by one grade, valued by another: what is left of best-of-n once the grader's luck is taken out."""
    headroom: Estimate
    """`true_best` less the mean."""


def best_of(items: Sequence[ItemScores]) -> BestOf | None:
    """None where no item is complete.

    The largest of several noisy grades is too large, even where all answers are equally good. So the sample is chosen
    by one grade and valued by the mean of its others, each grade in turn, where answers were graded more than once.
    """
    whole = [item for item in complete(items) if len({len(grades) for grades in item.grades}) == 1]
    if not whole:
        return None
    valued = [_valued_best(item) for item in whole]
    gains = [best - float(np.mean(item.grades)) for best, item in zip(valued, whole, strict=True)]
    has_noise = any(len(set(grades)) > 1 for item in whole for grades in item.grades)
    best, true_best = estimate([item.best for item in whole]), estimate(valued)
    headroom = estimate(gains, low=-1.0 if has_noise else 0.0)
    assert best
    assert true_best
    assert headroom
    return BestOf(len(whole), best, true_best, headroom)


def _valued_best(item: ItemScores) -> float:
    grades = np.array(item.grades)  # [samples, grades]
    n_grades = grades.shape[1]
    if n_grades == 1:
        return item.best
    found = []
    for grade in range(n_grades):
        others = (grades.sum(1) - grades[:, grade]) / (n_grades - 1)
        tops = grades[:, grade] == grades[:, grade].max()  # of several that are best, any
        found.append(float(others[tops].mean()))
    return fmean(found)
