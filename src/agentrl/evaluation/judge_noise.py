"""Does a grader agree with itself? The same answers graded several times, afresh.

A judge that gives one answer 0.4 now and 0.7 then adds that to every difference between two policies, and to the
spread of a group that advantages are divided by.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean, variance

from agentrl.grading.grader import Grader
from agentrl.grading.judges.cache import asked_afresh
from agentrl.grading.submission import Submission

REPEATS = 5
MAX_SIGMA = 0.05
"""Of a grader whose scores range over 1; what is above it calls for a better judge, or for several votes."""


@dataclass(frozen=True)
class JudgeNoise:
    """How far the scores of one answer lie apart."""

    n_items: int
    """Answers that got at least two scores."""
    repeats: int
    sigma: float | None
    """sigma_judge: the root of the mean variance within answers; None where no answer has two scores."""
    largest: float
    """The largest standard deviation of one answer's scores."""
    flips: int
    """Answers that passed once and failed once; 0 where no threshold was given."""
    ungraded: int
    """Gradings without a score."""
    reasons: tuple[str, ...] = field(default=(), repr=False)
    """Why, each once."""

    def problem(self, max_sigma: float = MAX_SIGMA) -> str:
        """Why the grader must not be relied on; empty where it may."""
        if self.sigma is None:
            return f"no answer was graded twice{f' ({self.reasons[0]})' if self.reasons else ''}"
        if self.sigma > max_sigma:
            return f"sigma_judge {self.sigma:.4f} over {self.n_items} answers; allowed: at most {max_sigma:g}"
        return ""


async def judge_noise(
    grader: Grader,
    submissions: Sequence[Submission],
    *,
    repeats: int = REPEATS,
    pass_threshold: float | None = None,
) -> JudgeNoise:
    """Grade each submission several times, past every cache; 50 answers, 5 times each, are a fair look.

    Raises:
        ValueError: fewer than two times.
    """
    if repeats < 2:
        raise ValueError(f"found {repeats} repeats; allowed: at least 2")
    with asked_afresh():
        grades = await asyncio.gather(*(grader.grade(submission) for submission in submissions for _ in range(repeats)))
    scores = [
        [grade.score for grade in grades[start : start + repeats] if grade.score is not None]
        for start in range(0, len(grades), repeats)
    ]
    graded = [each for each in scores if len(each) > 1]
    variances = [variance(each) for each in graded]
    missing = [grade for grade in grades if grade.score is None]
    return JudgeNoise(
        n_items=len(graded),
        repeats=repeats,
        sigma=math.sqrt(fmean(variances)) if variances else None,
        largest=math.sqrt(max(variances, default=0.0)),
        flips=sum(min(each) < pass_threshold <= max(each) for each in graded) if pass_threshold is not None else 0,
        ungraded=len(missing),
        reasons=tuple(dict.fromkeys(grade.reason for grade in missing)),
    )
