from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from agentrl.config.graders import StringCheckConfig
from agentrl.errors import GraderError
from agentrl.grading.grader import ungraded
from agentrl.grading.holdout import HoldoutGraders
from agentrl.grading.submission import Submission
from agentrl.types import Grade, Rollout, StopReason
from tests.factories import make_rollout

DECLARED = StringCheckConfig(type="string_check", operation="eq", input="a", reference="b")


class Fixed:
    """Says the same of everything."""

    version = "sha256:0"

    def __init__(self, grade: Grade | Exception, *, is_slow: bool = False) -> None:
        self.found, self.is_slow, self.asked = grade, is_slow, 0

    async def grade(self, submission: Submission) -> Grade:
        del submission
        self.asked += 1
        if self.is_slow:
            await asyncio.Event().wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def aclose(self) -> None: ...


def watch(rollout: Rollout, **graders: Fixed) -> Grade:
    holdouts = HoldoutGraders({name: (each, DECLARED) for name, each in graders.items()}, max_seconds=0.01)
    return asyncio.run(holdouts.watch(rollout))


def test_scores_stand_beside_the_score_which_stays_what_it_is() -> None:
    found = watch(make_rollout(score=0.25), one=Fixed(Grade(1.0)), other=Fixed(Grade(0.0)))
    assert (found.score, found.holdout, found.holdout_missing) == (0.25, {"one": 1.0, "other": 0.0}, {})


def test_one_that_fails_is_missing_and_the_others_stand() -> None:
    found = watch(
        make_rollout(score=0.25),
        silent=Fixed(ungraded("no judge", "other_error")),
        slow=Fixed(Grade(1.0), is_slow=True),
        broken=Fixed(GraderError("no route")),
        beyond=Fixed(Grade(1.5)),
        nothing=Fixed(Grade(float("nan"))),
        good=Fixed(Grade(0.5)),
    )
    assert (found.score, found.holdout) == (0.25, {"good": 0.5})
    assert found.holdout_missing["silent"] == "no judge"
    assert "no answer within 0.01 s" in found.holdout_missing["slow"]
    assert found.holdout_missing["broken"] == "GraderError: no route"
    assert found.holdout_missing["beyond"] == "hold-out grader beyond: found score 1.5; allowed: 0 to 1"
    assert "nan" in found.holdout_missing["nothing"]


@pytest.mark.parametrize("stop_reason", [StopReason.INFRASTRUCTURE, StopReason.TIME_LIMIT])
def test_what_has_no_vote_is_not_asked_about(stop_reason: StopReason) -> None:
    grader = Fixed(Grade(1.0))
    assert watch(make_rollout(score=None), one=grader).holdout == {}
    assert watch(make_rollout(stop_reason=stop_reason), one=grader).holdout == {}
    assert grader.asked == 0


def test_what_watching_costs_is_counted() -> None:
    tokens = {"judge": {"prompt": 5}}
    rollout = replace(make_rollout(), grade=Grade(1.0, cost_usd=0.1, tokens=tokens))
    found = watch(rollout, one=Fixed(Grade(1.0, cost_usd=0.2, tokens=tokens)))
    assert found.cost_usd == pytest.approx(0.3)
    assert found.tokens == {"judge": {"prompt": 10}}
