"""How much of the differences between an item's answers is the grader's own noise?

Answers are graded several times. What two grades of one answer differ by is noise; what the answers of one item share
over independent grades is real. Two grades of an answer vary together only as far as the answer does: their covariance
within items estimates the variance between answers without bias, however the noise is distributed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.probe.best_of import Estimate
from agentrl.evaluation.probe.bounds import ratio_interval, share_interval
from agentrl.evaluation.probe.samples import Floats, ItemScores


@dataclass(frozen=True)
class Repeatability:
    """Of a grader whose scores range over 1."""

    n_answers: int
    """Answers that were graded more than once."""
    grades: int
    """Grades of each, the first included."""
    sigma: float
    """Standard deviation of the grades of one answer, the root of the mean variance."""
    changed: int
    """Answers whose grades are not all equal."""
    flips: int
    """Answers that pass by one grade and fail by another."""
    answer_variance: float
    """Between an item's answers, the grader's noise taken out; may be a little below 0 where there is none."""
    score_variance: float
    """Between an item's scores as they are, noise included."""
    reliability: Estimate | None
    """`answer_variance / score_variance`: what of a difference between two scores is real. None where scores are equal.
    1 is all of it, 0 nothing."""

    @property
    def changed_interval(self) -> Interval:
        return share_interval(self.changed, self.n_answers)


def repeatability(items: Sequence[ItemScores], pass_threshold: float) -> Repeatability | None:
    """None where no answer was graded twice.

    Args:
        pass_threshold: on the scale of the scores, 0 to 1.
    """
    groups = [np.array(item.grades) for item in items if _is_repeated(item)]  # each [samples, grades]
    if not groups:
        return None
    answers = np.concatenate(groups)
    pairs = [_variances(grades) for grades in groups if len(grades) > 1]
    real, total = (np.array(values) for values in zip(*pairs, strict=True)) if pairs else (np.zeros(0), np.zeros(0))
    interval = ratio_interval(real, total)
    return Repeatability(
        n_answers=len(answers),
        grades=answers.shape[1],
        sigma=float(np.sqrt(answers.var(axis=1, ddof=1).mean())),
        changed=int((np.ptp(answers, axis=1) > 0).sum()),
        flips=int(((answers.min(1) < pass_threshold) & (answers.max(1) >= pass_threshold)).sum()),
        answer_variance=fmean(real) if len(real) else 0.0,
        score_variance=fmean(total) if len(total) else 0.0,
        reliability=Estimate(float(real.sum() / total.sum()), interval) if interval else None,
    )


def _is_repeated(item: ItemScores) -> bool:
    return len({len(grades) for grades in item.grades}) == 1 and len(item.grades[0]) > 1


def _variances(grades: Floats) -> tuple[float, float]:
    """Of one item, [samples, grades]: the mean covariance of two grades over samples, and the variance of one grade."""
    n_grades = grades.shape[1]
    own = float(grades.var(axis=0, ddof=1).sum())
    # the variance of a sum is that of its parts and, twice, every covariance of two of them
    between = (float(grades.sum(1).var(ddof=1)) - own) / (n_grades * (n_grades - 1))
    return between, own / n_grades
