"""`grading:` carried out: the declared grader, the range its scores must lie in, and the version on every grade."""

from __future__ import annotations

import math
from dataclasses import replace

from agentrl.config import GradingConfig
from agentrl.endpoint import Endpoint
from agentrl.grading.grader import Grader, ungraded
from agentrl.grading.submission import Submission
from agentrl.types import Grade, Rollout, StopReason

WHOSE_SCORE = {"multi": "formula_parse_error", "python": "python_grader_runtime_error"}
"""Flags of a score out of range: a formula or code of the config is wrong; what a server says may be repaired there."""


class RunGrader:
    """Scores the rollouts of a run.

    Args:
        grader: the kind that `grading.grader` declares.
        config: the range, and what happens to a score outside of it.
    """

    def __init__(self, grader: Grader, config: GradingConfig) -> None:
        self.grader, self._config = grader, config

    def __repr__(self) -> str:
        return f"RunGrader({self.grader!r})"

    @property
    def version(self) -> str:
        return self.grader.version

    @property
    def versions(self) -> dict[str, str]:
        """Name to digest."""
        return {self._config.name: self.version}

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Servers that grading waits for, a multi grader's parts included."""
        return endpoints_of(self.grader)

    async def aclose(self) -> None:
        await self.grader.aclose()

    async def grade(self, rollout: Rollout) -> Grade:
        """The score of a rollout; one that infrastructure ended is not asked about."""
        if rollout.stop_reason is StopReason.INFRASTRUCTURE:
            return Grade(None, f"not graded, the rollout was cut off: {rollout.error}")
        return await self.grade_submission(Submission.of_rollout(rollout))

    async def grade_submission(self, submission: Submission) -> Grade:
        """The score of anything that can be shown to the grader, such as a text without an episode."""
        try:
            grade = await self.grader.grade(submission)
        except Exception as error:  # somebody's own class: one bad sample must not end the run of all the others
            grade = ungraded(f"grader {self._config.name}: {type(error).__name__}: {error}", "other_error")
        if not grade.version:
            grade = replace(grade, version=self.version)
        return self._in_range(grade)

    def _in_range(self, grade: Grade) -> Grade:
        if grade.score is None or self._config.min_score <= grade.score <= self._config.max_score:
            return grade
        low, high = self._config.min_score, self._config.max_score
        if self._config.out_of_range == "clamp" and not math.isnan(grade.score):
            return replace(grade, score=max(low, min(grade.score, high)))
        allowed = f"{low:g} to {high:g} (grading.min_score and max_score)"
        where = f" at {self.endpoints[0].shown_url}" if len(self.endpoints) == 1 else ""
        reason = f"grader {self._config.name}{where}: found score {grade.score!r:.80}; allowed: {allowed}"
        flag = WHOSE_SCORE.get(self._config.grader.type, "other_error")
        return replace(grade, score=None, reason=reason, errors=tuple(dict.fromkeys((*grade.errors, flag))))


def endpoints_of(grader: Grader) -> tuple[Endpoint, ...]:
    """The servers behind a grader: its own, or those of its parts."""
    if isinstance(endpoint := getattr(grader, "endpoint", None), Endpoint):
        return (endpoint,)
    return tuple(each for part in getattr(grader, "parts", {}).values() for each in endpoints_of(part))
