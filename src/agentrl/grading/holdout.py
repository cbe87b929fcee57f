"""`grading.holdout:` graders that watch evaluations and have no part in the reward."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import replace

import httpx

from agentrl.config import GradingConfig
from agentrl.config.graders import GraderSection
from agentrl.errors import RolloutError
from agentrl.grading.build import build_declared
from agentrl.grading.grader import Grader, add_tokens, ungraded
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from agentrl.types import Grade, Rollout


class HoldoutGraders:
    """Further opinions on an answer that is graded already; one that fails is missing, and the others stand.

    Args:
        graders: by name, with the declaration that says which scores are possible.
        max_seconds: how long a rollout waits for each of them.
    """

    def __init__(self, graders: Mapping[str, tuple[Grader, GraderSection]], max_seconds: float | None = None) -> None:
        self._graders, self._max_seconds = dict(graders), max_seconds

    @property
    def versions(self) -> dict[str, str]:
        """Name to digest."""
        return {name: grader.version for name, (grader, _) in self._graders.items()}

    @classmethod
    def from_config(
        cls,
        config: GradingConfig,
        base_url: str = "",
        *,
        max_seconds: float | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> HoldoutGraders:
        """Those of `grading.holdout`; arguments as of `build_grader`.

        Raises:
            ConfigError: see `build_declared`.
        """
        around = Surroundings(base_url, transport=transport)
        declared = zip(config.holdout_names, config.holdout, strict=True)
        return cls({name: (build_declared(each, around), each) for name, each in declared}, max_seconds)

    def __repr__(self) -> str:
        return f"HoldoutGraders({', '.join(self._graders) or 'none'})"

    async def watch(self, rollout: Rollout) -> Grade:
        """The rollout's grade with their scores in it, or why one of them gave none.

        What has no score of its own has no vote, and nobody is asked about it.
        """
        if not self._graders or not rollout.is_valid:
            return rollout.grade
        submission = Submission.of_rollout(rollout)
        found = await asyncio.gather(*(self._grade(name, submission) for name in self._graders))
        grades = dict(zip(self._graders, found, strict=True))
        return replace(
            rollout.grade,
            holdout={name: each.score for name, each in grades.items() if each.score is not None},
            holdout_missing={name: each.reason for name, each in grades.items() if each.score is None},
            cost_usd=rollout.grade.cost_usd + sum(each.cost_usd for each in found),
            tokens=add_tokens([rollout.grade, *found]),
        )

    async def aclose(self) -> None:
        await asyncio.gather(*(grader.aclose() for grader, _ in self._graders.values()))

    async def _grade(self, name: str, submission: Submission) -> Grade:
        grader, config = self._graders[name]
        try:
            async with asyncio.timeout(self._max_seconds) as clock:
                grade = await grader.grade(submission)
        except TimeoutError:
            if not clock.expired():
                raise
            limit = f"{self._max_seconds:g} s (rollout.max_grading_seconds)"
            return ungraded(f"hold-out grader {name}: no answer within {limit}", "other_error")
        except RolloutError as error:
            return ungraded(f"{type(error).__name__}: {error}", "other_error")
        low, high = config.least_score, config.best_score
        if grade.score is None or (math.isfinite(grade.score) and low <= grade.score <= high):
            return grade
        found = f"hold-out grader {name}: found score {grade.score!r:.80}; allowed: {low:g} to {high:g}"
        return replace(grade, score=None, reason=found)
