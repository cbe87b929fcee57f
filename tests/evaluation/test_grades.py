"""What metrics.jsonl says of grades."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agentrl.evaluation.grades import grade_metrics
from agentrl.types import Grade, Rollout, StopReason
from tests.factories import make_rollout


def graded(task_id: str, sample: int, **grade: object) -> Rollout:
    return replace(make_rollout(task_id, sample), grade=Grade(**{"score": 1.0, **grade}))  # type: ignore[arg-type]


PRICED = {"judge": {"prompt": 10, "completion": 2, "cached": 4}}
UNPRICED = {"judge": {"prompt": 10, "completion": 2, "cached": 0, "unpriced": 12}}


def test_every_task_has_one_vote_in_the_mean_of_a_part() -> None:
    rollouts = [
        graded("a", 0, sub_scores={"right": 1.0, "safe": 1.0}),
        graded("a", 1, sub_scores={"right": 0.0, "safe": 1.0}),
        graded("b", 0, sub_scores={"right": 1.0}),
        graded("c", 0, score=None, sub_scores={"right": 0.0}),
        replace(graded("d", 0, sub_scores={"right": 0.0}), stop_reason=StopReason.INFRASTRUCTURE),
    ]
    assert grade_metrics(rollouts) == {"score_part_right": 0.75, "score_part_safe": 1.0}


def test_tokens_and_dollars_are_sums_failures_included() -> None:
    rollouts = [
        graded("a", 0, tokens=PRICED, cost_usd=0.5, seconds=1.0),
        graded("b", 0, score=None, tokens=PRICED, cost_usd=0.25, seconds=3.0, errors=("model_grader_parse_error",)),
        graded("c", 0),
    ]
    assert grade_metrics(rollouts) == {
        "latency_grading_seconds": 2.0,
        "judge_prompt_tokens_judge": 20.0,
        "judge_completion_tokens_judge": 4.0,
        "judge_cached_tokens_judge": 8.0,
        "grading_cost_usd": 0.75,
        "grader_errors_model_grader_parse_error": 1.0,
    }


def test_a_price_that_is_not_known_is_not_0_dollars() -> None:
    figures = grade_metrics([graded("a", 0, tokens=PRICED, cost_usd=0.5), graded("b", 0, tokens=UNPRICED)])
    assert "grading_cost_usd" not in figures
    assert figures["judge_unpriced_tokens_judge"] == 12.0


def test_nothing_is_said_of_what_no_grade_has() -> None:
    assert grade_metrics([]) == grade_metrics([make_rollout()]) == {}


def test_evaluations_have_names_of_their_own() -> None:
    (name,) = grade_metrics([graded("a", 0, sub_scores={"right": 1.0})], "_validation")
    assert name == "score_part_right_validation"


@pytest.mark.parametrize(
    "name",
    ["score_part_NAME", "latency_grading_seconds", "judge_KIND_tokens_MODEL", "grading_cost_usd", "grader_errors_FLAG"],
)
def test_the_page_of_metrics_explains_each(name: str) -> None:
    assert f"`{name}`" in (Path(__file__).parents[2] / "docs" / "metrics.md").read_text("utf-8")
