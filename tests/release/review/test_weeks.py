"""A week in figures: rates, the score, cost per success, and None where a denominator is 0."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.errors import ConfigError
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, SessionEvidence
from agentrl.release.review.weeks import (
    Served,
    served_sessions,
    week_bounds,
    week_figures,
    week_of,
    weeks_until,
)
from tests.release.story import PROMOTED, tell


def served(number: int = 0, **facts: object) -> Served:
    evidence = SessionEvidence(f"s{number}", Arm.BASELINE, at=1.0)
    return Served(replace(evidence, **facts), 3, "general", "")  # type: ignore[arg-type]


FULL = {"success": True, "human_override": False, "tool_calls": 4, "tool_errors": 1, "cost_usd": 0.02}


def test_the_score_is_success_times_no_override_times_no_tool_error() -> None:
    week = [served(0, **FULL), served(1, **{**FULL, "success": False, "human_override": True, "tool_errors": 0})]
    figures, _ = week_figures("2026-W46", week)
    assert figures.success_rate == 0.5
    assert figures.override_rate == 0.5
    assert figures.tool_error_rate == 1 / 8
    assert figures.score == pytest.approx(0.5 * 0.5 * 7 / 8)
    assert figures.cost_per_success_usd == pytest.approx(0.04)  # the failure's cost is in it


@pytest.mark.parametrize("missing", ["success", "human_override", "tool_calls"])
def test_the_score_is_none_where_a_denominator_is_zero(missing: str) -> None:
    figures, _ = week_figures("2026-W46", [served(number, **{**FULL, missing: None}) for number in range(5)])
    assert figures.score is None
    assert figures.score_low is None
    assert figures.score_high is None


def test_no_session_has_no_figure_and_no_zero() -> None:
    figures, draws = week_figures("2026-W46", [])
    assert figures.sessions == 0
    assert (figures.score, figures.success_rate, figures.cost_usd, figures.cost_per_success_usd) == (None,) * 4
    assert len(draws.score) == 0


def test_without_a_success_there_is_no_cost_of_one() -> None:
    figures, _ = week_figures("2026-W46", [served(number, **{**FULL, "success": False}) for number in range(9)])
    assert figures.cost_per_success_usd is None
    assert figures.cost_usd == pytest.approx(0.18)


def test_sessions_without_a_price_are_counted_and_cost_nothing_that_is_not_known() -> None:
    """F58."""
    week = [served(0, **FULL), served(1, **{**FULL, "cost_usd": None})]
    figures, _ = week_figures("2026-W46", week)
    assert figures.unpriced == 1
    assert figures.cost_per_success_usd == pytest.approx(0.02)
    figures, _ = week_figures("2026-W46", week[1:])
    assert figures.cost_usd is None
    assert figures.cost_per_success_usd is None


def test_the_interval_is_the_same_every_time_and_holds_the_score() -> None:
    week = [served(number, **{**FULL, "success": number % 4 > 0}) for number in range(200)]
    first, second = (week_figures("2026-W46", week)[0] for _ in range(2))
    assert first == second
    assert first.score is not None
    assert first.score_low is not None
    assert first.score_high is not None
    assert first.score_low < first.score < first.score_high


def test_sessions_of_one_user_are_drawn_together() -> None:
    alone = [served(number, **{**FULL, "success": number < 100}) for number in range(200)]
    users = [
        replace(each, evidence=replace(each.evidence, cluster=f"u{number // 20}")) for number, each in enumerate(alone)
    ]
    apart, together = (week_figures("2026-W46", week)[0] for week in (alone, users))
    assert together.score == apart.score
    width = [
        f.score_high - f.score_low for f in (apart, together) if f.score_high is not None and f.score_low is not None
    ]
    assert width[1] > 2 * width[0]


@given(st.integers(min_value=0, max_value=4_000_000_000))
def test_a_time_lies_in_its_own_week(at: int) -> None:
    start, end = week_bounds(week_of(at))
    assert start <= at < end
    assert end - start == 7 * 86400  # UTC knows no daylight saving


def test_weeks_are_counted_over_the_turn_of_a_year() -> None:
    assert weeks_until("2027-W01", 3) == ["2026-W52", "2026-W53", "2027-W01"]
    assert week_of(datetime(2027, 1, 1, tzinfo=UTC).timestamp()) == "2026-W53"


@pytest.mark.parametrize("week", ["2026-W54", "2026-46", "last", "2025-W53"])
def test_what_is_no_week_is_refused(week: str) -> None:
    with pytest.raises(ConfigError, match="ISO week such as"):
        week_bounds(week)


def test_copies_in_shadow_are_no_sessions_of_users(place: ReleasePlace) -> None:
    tell(place, canary_sessions=100)
    found = served_sessions(place.store, place.workflow, 0.0, PROMOTED + 30 * 86400)
    assert len(found) == 800
    assert {each.channel for each in found} == {"general", "canary"}
