"""Loaded cost: what is not given is missing, never 0; whether it pays is only known where nothing is missing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from agentrl.config.costs import CostsConfig
from agentrl.release.budget.loaded import WeekBudget, week_budget
from agentrl.release.review.weeks import WeekFigures

FIGURES = WeekFigures(
    week="2026-W46", sessions=1000, successes=800, success_known=1000, success_rate=0.8, override_known=1000,
    overrides=50, override_rate=0.05, tool_calls=3000, tool_errors=90, tool_error_rate=0.03, score=0.737,
    score_low=0.7, score_high=0.77, cost_usd=16.0, unpriced=0, cost_per_success_usd=0.02, cost_low_usd=0.019,
    cost_high_usd=0.021, steps_per_session=4.0, tool_calls_per_session=3.0,
)  # fmt: skip
ALL: dict[str, Any] = {
    "relabelling": {"labels": 100, "price_per_label": 0.4},
    "suite_upkeep": {"hours": 1.0, "hourly_rate": 80.0},
    "incidents": {"hourly_rate": 80.0},
    "value_per_success": 0.5,
}


def budget(costs: dict[str, Any], hours: float | None = 0.5, figures: WeekFigures = FIGURES) -> WeekBudget:
    return week_budget("support", figures, CostsConfig.model_validate(costs), hours)


def test_loaded_cost_is_the_run_and_the_lines_over_the_successes() -> None:
    found = budget(ALL)
    assert [line.amount for line in found.lines] == [40.0, 80.0, 40.0]
    assert found.loaded_cost_per_success == pytest.approx(0.02 + 160 / 800)
    assert found.pays is True
    assert not found.is_optimistic


@pytest.mark.parametrize("name", ["relabelling", "suite_upkeep", "incidents"])
def test_a_line_that_is_missing_is_not_zero(name: str) -> None:
    found = budget({key: value for key, value in ALL.items() if key != name})
    assert found.missing == (name,)
    assert found.is_optimistic
    assert found.pays is None
    assert "optimistic by default" in found.why
    assert next(line for line in found.lines if line.name == name).amount is None


def test_a_line_of_zero_is_given() -> None:
    found = budget({**ALL, "relabelling": {"amount": 0.0}})
    assert found.missing == ()
    assert found.pays is True


def test_an_incident_without_its_hours_leaves_the_line_missing() -> None:
    assert budget(ALL, hours=None).missing == ("incidents",)


def test_what_costs_more_than_it_is_worth_does_not_pay_even_if_lines_are_missing() -> None:
    found = budget({"value_per_success": 0.01})
    assert found.pays is False


def test_sessions_without_a_price_leave_open_whether_it_pays() -> None:
    """F58."""
    assert budget(ALL, figures=replace(FIGURES, unpriced=3)).pays is None


def test_without_success_or_value_nothing_is_said() -> None:
    assert budget({key: value for key, value in ALL.items() if key != "value_per_success"}).pays is None
    none = replace(FIGURES, successes=0, cost_per_success_usd=None)
    assert budget(ALL, figures=none).loaded_cost_per_success is None
    assert budget(ALL, figures=none).pays is None


def test_a_week_of_its_own_replaces_the_usual_line() -> None:
    weeks = {"2026-W46": {"relabelling": {"amount": 7.0}}}
    found = budget({**ALL, "weeks": weeks, "other": {"hosting": {"amount": 9.0}}})
    amounts = {line.name: line.amount for line in found.lines}
    assert amounts == {"relabelling": 7.0, "suite_upkeep": 80.0, "incidents": 40.0, "hosting": 9.0}


def test_dollars_become_another_currency_only_at_a_rate_that_is_named() -> None:
    found = budget({**ALL, "currency": "EUR", "per_usd": 0.9, "per_usd_source": "ECB, 2026-11-20"})
    assert found.run_cost_per_success == pytest.approx(0.018)
    assert found.per_usd_source == "ECB, 2026-11-20"
    with pytest.raises(ValidationError, match="per_usd_source say how dollars become it"):
        CostsConfig.model_validate({"currency": "EUR"})


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"hours": 1.0},
        {"amount": 1.0, "hours": 2.0, "hourly_rate": 3.0},
        {"labels": 4},
        {"amount": -1.0},
        {"amount": float("nan")},
    ],
    ids=["empty", "no rate", "two ways", "no price", "negative", "nan"],
)
def test_a_line_is_given_in_one_way(line: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CostsConfig.model_validate({"suite_upkeep": line})


def test_only_incidents_take_their_hours_from_the_records() -> None:
    with pytest.raises(ValidationError, match="only incidents are recorded in hours"):
        CostsConfig.model_validate({"suite_upkeep": {"hourly_rate": 80.0}})
