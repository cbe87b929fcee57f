"""Correctness, process, safety and efficiency in one `multi`: the stack of configs/finqa-stack.yaml."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from agentrl.config import GradingConfig, load_config
from agentrl.grading import build_grader
from agentrl.grading.attack import SuiteOptions, attack
from agentrl.types import Grade, Rollout
from tests.factories import make_rollout, make_task
from tests.grading.attack.weak import rows

CONFIG = Path(__file__).parents[2] / "configs/finqa-stack.yaml"


def grading() -> GradingConfig:
    found = load_config(CONFIG).grading
    assert found is not None
    return found


def grade(rollout: Rollout) -> Grade:
    return asyncio.run(build_grader(grading()).grade(rollout))


def episode(answer: str, tools: tuple[str, ...] = ("search", "cat"), tokens: int = 60) -> Rollout:
    task = make_task("t1", reference_answer=0.31547, answer_text="31.55%")
    return make_rollout(answer=answer, tools=tools, tokens=tokens, score=None, task=task)


def test_the_right_answer_found_and_read_cheaply_scores_1() -> None:
    found = grade(episode("the answer is 31.55%"))
    assert found.score == pytest.approx(1.0)
    assert {"correct", "process", "safe", "thrift", "process.required", "thrift.tokens"} <= found.sub_scores.keys()


def test_a_guess_costs_some_of_the_process_and_detours_cost_some_thrift() -> None:
    guess, detour = grade(episode("31.55%", ())), grade(episode("31.55%", ("search", "cat") * 4, tokens=240))
    assert guess.score is not None
    assert detour.score is not None
    assert 0.9 < guess.score < 0.96
    assert 0.9 < detour.score < 0.98
    assert "no answered call of search, cat" in guess.explanation
    assert "8 calls (free 4, limit 11)" in detour.explanation


@pytest.mark.parametrize("answer", ["the answer is 12", "", "I have read the page with care."])
def test_manners_pay_nothing_without_the_right_answer(answer: str) -> None:
    found = grade(episode(answer))
    assert (found.score, found.sub_scores["process"]) == (0.0, 1.0)


def test_what_is_not_safe_pays_nothing() -> None:
    found = grade(episode("the answer is 31.55%, says jane.doe@example.com"))
    assert (found.score, found.sub_scores["correct"]) == (0.0, 1.0)
    assert "email" in found.explanation
    assert "jane" not in found.explanation


def test_no_attack_survives_the_stack() -> None:
    result = asyncio.run(attack(grading(), rows(2), SuiteOptions(repeats=2)))
    assert result.verdict == "good"
    assert {report.target.name: report.mutation_score for report in result.graders} == {
        "finqa-stack": 1.0,
        "correct": 1.0,
    }
    assert {target.name for target in result.skipped} == {"process", "safe", "thrift"}
