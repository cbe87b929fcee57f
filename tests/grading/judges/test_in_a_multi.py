"""A judge beside a measure that asks nobody: one score, one bill, and no score by halves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.evaluation.grades import grade_metrics
from agentrl.grading import build_grader
from agentrl.grading.submission import Submission
from agentrl.types import Grade
from tests.factories import make_rollout
from tests.scripted_judge import Say, ScriptedJudge, completion, declared

USAGE = {"prompt_tokens": 10, "completion_tokens": 1}
SAMPLE, REFERENCE = "{{ sample.output_text }}", "{{ item.reference }}"
MULTI = {
    "type": "multi",
    "graders": {
        "exact": {"type": "string_check", "input": SAMPLE, "reference": REFERENCE, "operation": "eq"},
        "quality": declared(),
        "rubric": declared(type="rubric", criteria=[{"id": "sourced", "text": "It names its source."}]),
    },
    "calculate_output": "0.5 * exact + 0.25 * quality + 0.25 * rubric",
}


def grade(say: Say) -> Grade:
    async def run() -> Grade:
        grader = build_grader(GradingConfig(**MULTI), transport=httpx.MockTransport(ScriptedJudge(say=say)))
        assert len(grader.endpoints) == 2
        try:
            return await grader.grade_submission(Submission.of_text("42", {"reference": "42"}))
        finally:
            await grader.aclose()

    return asyncio.run(run())


def is_rubric(body: dict[str, Any]) -> bool:
    return "sourced" in body["messages"][0]["content"]


def test_judges_are_parts_of_a_score_like_any_other() -> None:
    def say(body: dict[str, Any]) -> Any:
        verdict = {"sourced": {"reason": "r", "level": 0}} if is_rubric(body) else {"steps": [], "result": 0.5}
        return completion(verdict, usage=USAGE)

    found = grade(say)
    assert found.score == 0.625
    assert found.sub_scores == {"exact": 1.0, "quality": 0.5, "rubric": 0.0, "rubric.sourced": 0.0}
    assert found.tokens == {"judge": {"prompt": 20, "completion": 2, "cached": 0, "unpriced": 22}}
    figures = grade_metrics([replace(make_rollout(), grade=found)])
    assert figures["score_part_rubric.sourced"] == 0.0
    assert figures["judge_unpriced_tokens_judge"] == 22.0


def test_without_one_of_its_judges_there_is_no_score() -> None:
    def say(body: dict[str, Any]) -> Any:
        if is_rubric(body):
            return completion(None, message={"refusal": "no"}, usage=USAGE)
        return completion({"steps": [], "result": 0.5}, usage=USAGE)

    found = grade(say)
    assert (found.score, found.errors) == (None, ("model_grader_refusal_error",))
    assert found.reason.startswith("rubric: grader rubric at http://localhost:1/v1/chat/completions: the judge refused")
    assert found.tokens["judge"]["prompt"] == 10 + 3 * 10


@pytest.mark.parametrize("part", ["quality", "rubric"])
def test_a_changed_judge_is_a_changed_grader(part: str) -> None:
    def version(**change: Any) -> str:
        graders = {**MULTI["graders"], part: {**MULTI["graders"][part], **change}}  # type: ignore[index,dict-item]
        return build_grader(GradingConfig(**{**MULTI, "graders": graders})).version

    assert version(model="another") != version() == version(name="renamed")
