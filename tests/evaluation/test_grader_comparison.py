"""An old grader's scores, a new one's, and people's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.evaluation.grader_comparison import Scale, compare_graders
from agentrl.evaluation.regrade import Regraded, regrade
from agentrl.grading import build_grader
from agentrl.labels import Rating
from agentrl.types import Grade, Rollout, StopReason
from tests.factories import make_rollout

OLD, OTHER, NEW = (f"sha256:{letter * 64}" for letter in "abc")


def graded(number: int, old: float | None, *, version: str = OLD, **fields: Any) -> Rollout:
    grade = Grade(old, "" if old is not None else "down", version=version)
    return make_rollout(f"t{number}", grade=grade, id=f"trace_{number}", answer=str(number), **fields)


def pair(
    number: int,
    old: float | None,
    new: float | None,
    *,
    version: str = OLD,
    new_version: str = NEW,
    file: str = "train-1",
) -> Regraded:
    grade = Grade(new, "" if new is not None else "judge is down", version=new_version, cost_usd=0.5)
    return Regraded(file, graded(number, old, version=version), grade)


def ask(recorded: dict[str, list[Rollout]], score: Callable[[str], Any], at_once: int = 3) -> list[Regraded]:
    def answer(request: httpx.Request) -> httpx.Response:
        found = score(json.loads(request.content)["sample"]["output_text"])
        return httpx.Response(200, json={"score": found}) if found is not None else httpx.Response(400)

    async def run() -> list[Regraded]:
        config = GradingConfig.model_validate({"name": "g", "url": "http://localhost/grade"})
        grader = build_grader(config, transport=httpx.MockTransport(answer))
        try:
            return await regrade(recorded, grader, at_once=at_once)
        finally:
            await grader.aclose()

    return asyncio.run(run())


def test_every_rollout_that_was_not_cut_off_is_graded_anew() -> None:
    recorded = {
        "train-1": [graded(1, 0.0), graded(2, None)],
        "validation-1": [graded(3, 1.0), graded(4, None, stop_reason=StopReason.INFRASTRUCTURE)],
    }
    found = ask(recorded, lambda text: None if text == "3" else int(text) / 10)
    assert [(each.file, each.rollout.id, each.grade.score) for each in found] == [
        ("train-1", "trace_1", 0.1),
        ("train-1", "trace_2", 0.2),
        ("validation-1", "trace_3", None),
    ]
    assert all(each.grade.version.startswith("sha256:") for each in found)


def test_the_comparison_is_of_those_that_both_have_graded() -> None:
    found = [pair(1, 0.0, 0.1), pair(2, 0.5, 0.8), pair(3, 1.0, 0.7), pair(4, None, 1.0), pair(5, 1.0, None)]
    result = compare_graders(found, Scale(), Scale(), n_rollouts=7)
    (only,) = result.comparisons
    assert (only.n, only.agreement.n, result.n_rollouts, result.cut_off) == (3, 3, 7, 2)
    assert (result.old_ungraded, result.new_ungraded) == (1, {"judge is down": 1})
    assert only.agreement.spearman == pytest.approx(0.5)
    assert (only.old_mean, only.new_mean) == (0.5, pytest.approx(1.6 / 3))
    assert only.mean_change == pytest.approx(0.1 / 3)
    assert (only.newly_passed, only.newly_failed) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    assert only.flips == pytest.approx(2 / 3)
    assert [each.rollout_id for each in only.disagreements] == ["trace_2", "trace_3", "trace_1"]
    assert result.cost_usd == 2.5


def test_old_grades_of_two_versions_are_never_averaged() -> None:
    found = [pair(n, n / 10, n / 10) for n in range(4)]
    found += [pair(n, n / 10, 1 - n / 10, version=OTHER) for n in range(4, 8)]
    result = compare_graders(found, Scale(), Scale())
    assert [(each.old_version, each.n) for each in result.comparisons] == [(OLD, 4), (OTHER, 4)]
    assert [each.agreement.spearman for each in result.comparisons] == [pytest.approx(1), pytest.approx(-1)]
    assert [each.old_mean for each in result.comparisons] == [pytest.approx(0.15), pytest.approx(0.55)]


def test_a_new_grader_that_changes_under_way_is_two() -> None:
    """Its server told another version from the third answer on."""
    found = [pair(n, n / 10, n / 10, new_version=f"{NEW} version={1 + n // 2}") for n in range(4)]
    result = compare_graders(found, Scale(), Scale())
    assert [(each.new_version, each.n) for each in result.comparisons] == [
        (f"{NEW} version=1", 2),
        (f"{NEW} version=2", 2),
    ]


def test_scores_of_other_ranges_are_compared_as_shares_of_them() -> None:
    found = [pair(1, 0.0, 0.0), pair(2, 0.5, 5.0), pair(3, 1.0, 4.0)]
    (only,) = compare_graders(found, Scale(), Scale(0, 10, 8)).comparisons
    assert [(each.rollout_id, each.distance) for each in only.disagreements] == [("trace_3", pytest.approx(0.6))]
    assert (only.newly_passed, only.newly_failed) == (0, pytest.approx(1 / 3))


def test_people_are_asked_as_well() -> None:
    found = [pair(1, 0.0, 0.0), pair(2, 0.5, 0.4), pair(3, 1.0, 0.2), pair(4, 0.2, 0.9)]
    said = {1: (0.0,), 2: (1.0, 0.5), 3: (0.5,), 9: (1.0,)}
    ratings = [
        Rating(f"trace_{number}", f"t{number}", f"rater {index}", score)
        for number, scores in said.items()
        for index, score in enumerate(scores)
    ]
    result = compare_graders(found, Scale(), Scale(), ratings)
    (only,) = result.comparisons
    assert only.new_against_labels is not None
    assert only.old_against_labels is not None
    assert (only.new_against_labels.n, only.new_against_labels.spearman) == (3, pytest.approx(1))
    assert only.old_against_labels.spearman == pytest.approx(0.5)
    assert result.unknown_labels == 1
    assert {each.rollout_id: each.label for each in only.disagreements}["trace_2"] == 0.75


def test_each_evaluation_has_its_line() -> None:
    found = [pair(n, n / 10, n / 10, file=f"validation-{n % 2}") for n in range(6)]
    (only,) = compare_graders(found, Scale(), Scale()).comparisons
    assert [(each.file, each.n, each.spearman) for each in only.files] == [
        ("validation-0", 3, pytest.approx(1)),
        ("validation-1", 3, pytest.approx(1)),
    ]


def test_a_grader_that_says_the_same_of_all_has_no_correlation() -> None:
    (only,) = compare_graders([pair(n, n / 10, 0.5) for n in range(5)], Scale(), Scale()).comparisons
    assert (only.agreement.spearman, only.agreement.is_enough) == (None, False)
