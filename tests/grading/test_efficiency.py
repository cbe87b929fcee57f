"""Efficiency: full credit up to the free level, none from the limit on, and no guess about what is not known."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import ValidationError

from agentrl.config.graders import EfficiencyConfig
from agentrl.grading import Submission, build_declared
from agentrl.types import Grade
from tests.factories import make_rollout


def grade(submission: Submission, **config: Any) -> Grade:
    return asyncio.run(build_declared(EfficiencyConfig(type="efficiency", **config)).grade(submission))


@pytest.mark.parametrize(("tokens", "credit"), [(10, 1.0), (100, 1.0), (150, 0.5), (200, 0.0), (900, 0.0)])
def test_the_credit_falls_in_a_straight_line(tokens: int, credit: float) -> None:
    found = grade(Submission.of_rollout(make_rollout(tokens=tokens)), tokens={"free": 100, "limit": 200})
    assert found.score == pytest.approx(credit)


def test_measures_are_weighed_and_named() -> None:
    rollout = make_rollout(tokens=150, tools=("a", "b", "c", "d"), seconds=3.0, cost_usd=0.03)
    bands = {"tokens": {"free": 100, "limit": 200}, "calls": {"free": 2, "limit": 6},
             "seconds": {"free": 1, "limit": 5}, "cost_usd": {"free": 0.01, "limit": 0.02}}  # fmt: skip
    found = grade(Submission.of_rollout(rollout), **bands, weights={"tokens": 3.0})
    assert found.sub_scores == pytest.approx({"tokens": 0.5, "calls": 0.5, "seconds": 0.5, "cost_usd": 0.0})
    assert found.score == pytest.approx((3 * 0.5 + 0.5 + 0.5) / 6)
    assert "4 calls (free 2, limit 6): 0.5" in found.explanation


def test_without_an_episode_calls_are_all_that_is_known() -> None:
    found = grade(Submission.of_text("42", {}), calls={"free": 1, "limit": 3}, tokens={"free": 1, "limit": 3})
    assert found.sub_scores == {"calls": 1.0}
    assert "tokens: not known" in found.explanation
    missing = grade(Submission.of_text("42", {}), tokens={"free": 1, "limit": 3})
    assert (missing.score, missing.errors) == (None, ("other_error",))
    assert "known of an episode" in missing.reason


def test_an_episode_without_a_price_is_not_free() -> None:
    found = grade(Submission.of_rollout(make_rollout(tools=("a",))), cost_usd={"free": 0, "limit": 1})
    assert (found.score, "declare rollout.prices" in found.reason) == (None, True)


def test_an_episode_without_calls_is_free_where_only_calls_cost() -> None:
    assert grade(Submission.of_rollout(make_rollout(tools=())), cost_usd={"free": 0, "limit": 1}).score == 1.0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "found no measure"),
        ({"tokens": {"free": 5, "limit": 5}}, "more than free"),
        ({"tokens": {"free": 1, "limit": 5}, "weights": {"token": 1.0}}, "did you mean 'tokens'"),
        ({"tokens": {"free": 1, "limit": 5}, "weights": {"tokens": 0.0}}, "found no measure"),
    ],
)
def test_a_wrong_declaration_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EfficiencyConfig(type="efficiency", **config)
