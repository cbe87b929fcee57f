"""What a run makes of a grader's word, and of a grader that breaks its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentrl.config import GradingConfig
from agentrl.errors import ConfigError
from agentrl.grading import RunGrader, Submission
from agentrl.grading.build import check_graders
from agentrl.types import Grade

GRADING = GradingConfig.model_validate({"type": "numeric", "name": "n"})


class Fixed:
    """Gives, or raises, what it was made with."""

    version = "sha256:fixed"

    def __init__(self, gives: Grade | Exception) -> None:
        self._gives = gives

    async def grade(self, submission: Submission) -> Grade:
        del submission
        if isinstance(self._gives, Exception):
            raise self._gives
        return self._gives

    async def aclose(self) -> None:
        pass


def grade(gives: Grade | Exception, **changes: Any) -> Grade:
    grader = RunGrader(Fixed(gives), GRADING.model_copy(update=changes))
    return asyncio.run(grader.grade_submission(Submission.of_text("7", {})))


def test_a_grader_that_raises_has_given_no_score() -> None:
    found = grade(KeyError("reference"))
    assert (found.score, found.errors, found.version) == (None, ("other_error",), "sha256:fixed")
    assert found.reason == "grader n: KeyError: 'reference'"


def test_a_grade_has_its_graders_version_unless_it_brings_its_own() -> None:
    assert grade(Grade(0.5)) == Grade(0.5, version="sha256:fixed")
    assert grade(Grade(0.5, version="sha256:fixed version=2")).version == "sha256:fixed version=2"


@pytest.mark.parametrize("score", [-0.01, 1.01, float("inf"), float("-inf")])
def test_a_score_out_of_range_is_none_or_the_limit(score: float) -> None:
    assert grade(Grade(score)).score is None
    assert grade(Grade(score), out_of_range="clamp").score == (1.0 if score > 0 else 0.0)
    assert grade(Grade(float("nan")), out_of_range="clamp").score is None


def test_what_is_missing_is_told_before_anything_is_loaded() -> None:
    grading = GradingConfig.model_validate(
        {
            "type": "multi",
            "graders": {"a": {"type": "reward_model", "path": "nowhere"}, "b": {"type": "numeric"}},
            "calculate_output": "a + b",
        }
    )
    with pytest.raises(ConfigError, match="nowhere"):
        check_graders(grading, is_served=True)
    with_key = {"name": "g", "url": "{serve}/grade", "headers": {"Authorization": "Bearer ${NOT_THERE_YET}"}}
    check_graders(GradingConfig.model_validate(with_key), is_served=True)
    with pytest.raises(ConfigError, match="NOT_THERE_YET"):
        check_graders(GradingConfig.model_validate({**with_key, "url": "http://127.0.0.1/grade"}), is_served=False)
