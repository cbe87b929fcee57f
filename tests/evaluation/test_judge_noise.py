"""A judge that flaps is measured, caches or not, and fails the threshold."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.evaluation.judge_noise import JudgeNoise, judge_noise
from agentrl.grading.build import build_declared
from agentrl.grading.submission import Submission
from agentrl.grading.surroundings import Surroundings
from tests.scripted_judge import Say, ScriptedJudge, completion, declared

ANSWERS = [Submission.of_text(f"answer {number}", {"reference": str(number)}) for number in range(50)]


def measured(say: Say, **options: Any) -> JudgeNoise:
    transport = httpx.MockTransport(ScriptedJudge(say=say))

    async def run() -> JudgeNoise:
        grader = build_declared(GradingConfig(**declared()).grader, Surroundings(transport=transport))
        try:
            await grader.grade(ANSWERS[0])  # now it is in the cache
            return await judge_noise(grader, ANSWERS, **options)
        finally:
            await grader.aclose()

    return asyncio.run(run())


def test_a_steady_judge_has_no_noise() -> None:
    found = measured(lambda _: completion({"result": 0.4}))
    assert (found.n_items, found.repeats, found.sigma, found.largest, found.flips) == (50, 5, 0.0, 0.0, 0)
    assert found.problem() == ""


def test_the_noise_of_a_judge_is_recovered_and_fails_the_threshold() -> None:
    rng = random.Random(2)
    found = measured(lambda _: completion({"result": 0.5 + rng.choice([-0.1, 0.1])}), pass_threshold=0.5)
    assert found.sigma == pytest.approx(0.1, abs=0.02)
    assert found.largest >= found.sigma
    assert found.flips > 40
    assert found.problem(0.05).startswith(f"sigma_judge {found.sigma:.4f} over 50 answers")
    assert found.problem(0.2) == ""


def test_gradings_without_a_score_are_counted_and_no_score_at_all_never_passes() -> None:
    rng = random.Random(2)
    some = measured(lambda _: httpx.Response(400, text="no") if rng.random() < 0.2 else completion({"result": 0.4}))
    assert some.ungraded > 10
    assert some.sigma == 0.0
    none = measured(lambda _: httpx.Response(400, text="no"))
    assert (none.sigma, none.n_items, none.ungraded) == (None, 0, 250)
    assert "no answer was graded twice (grader" in none.problem()


def test_once_is_no_repetition() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        measured(lambda _: completion({"result": 0.4}), repeats=1)
