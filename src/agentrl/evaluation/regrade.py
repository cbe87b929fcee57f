"""Recorded rollouts under a new grader."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from agentrl.grading import RunGrader, Submission
from agentrl.grading.many import grade_many
from agentrl.types import Grade, Rollout, StopReason

CUT_OFF = (StopReason.INFRASTRUCTURE, StopReason.TIME_LIMIT)


@dataclass(frozen=True)
class Regraded:
    """One rollout under both graders."""

    file: str
    """Where it was recorded, such as "validation-000005"."""
    rollout: Rollout = field(repr=False)
    """With the grade that was recorded."""
    grade: Grade
    """The new grader's."""

    @property
    def scores(self) -> tuple[float, float] | None:
        """Old and new; None where one of them is missing."""
        old, new = self.rollout.grade.score, self.grade.score
        return None if old is None or new is None else (old, new)


async def regrade(
    recorded: Mapping[str, Sequence[Rollout]],
    grader: RunGrader,
    *,
    at_once: int,
    on_done: Callable[[int], None] | None = None,
) -> list[Regraded]:
    """Ask the new grader about every rollout that was not cut off."""
    asked = [
        (file, rollout)
        for file, rollouts in recorded.items()
        for rollout in rollouts
        if rollout.stop_reason not in CUT_OFF
    ]
    submissions = [Submission.of_rollout(rollout) for _, rollout in asked]
    grades = await grade_many(grader, submissions, at_once=at_once, on_done=on_done)
    return [Regraded(file, rollout, grade) for (file, rollout), grade in zip(asked, grades, strict=True)]
