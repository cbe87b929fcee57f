"""Planned sizes are those of the published tables, and what cannot be planned says why."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentrl.release.statistics.planning import (
    cost_variance,
    geo_mean_variance,
    plan_difference,
    plan_log_ratio,
    plan_pairs,
    plan_zero_events,
    quantile_variance,
    sequence_factor,
    zero_event_bound,
)

SHARE = 0.05


@pytest.mark.parametrize(("margin", "n"), [(0.05, 417), (0.02, 2604), (0.01, 10_413)])
def test_sessions_for_a_success_of_80_percent(margin: float, n: int) -> None:
    found = plan_difference(0.16, margin, share=SHARE)
    assert found.candidate == n
    assert found.baseline == 19 * n


@pytest.mark.parametrize(("true", "n"), [(1.0, 214), (1.05, 504), (1.10, 2108)])
def test_sessions_for_durations(true: float, n: int) -> None:
    assert plan_log_ratio(geo_mean_variance(0.8), 0.15, share=SHARE, true_ratio=true).candidate == n


@pytest.mark.parametrize(("true", "n"), [(1.0, 953), (1.05, 2248)])
def test_sessions_for_their_95th_percentile(true: float, n: int) -> None:
    assert plan_log_ratio(quantile_variance(0.8, 0.95), 0.15, share=SHARE, true_ratio=true).candidate == n


@pytest.mark.parametrize(("margin", "simulated"), [(0.10, 631), (0.05, 2406)])
def test_sessions_for_cost_per_success(margin: float, simulated: int) -> None:
    variance = cost_variance(math.sqrt(math.expm1(0.7**2)), 0.8)  # costs of log-sd 0.7
    found = plan_log_ratio(variance, margin, share=SHARE).candidate
    assert found == pytest.approx(simulated, rel=0.005)


def test_failures_that_cost_more_need_more_sessions() -> None:
    assert cost_variance(0.7, 0.8, -0.3) > cost_variance(0.7, 0.8) > cost_variance(0.7, 0.8, 0.3)


@pytest.mark.parametrize(("discordant", "n"), [(0.06, 149), (0.16, 396)])
def test_pairs(discordant: float, n: int) -> None:
    assert plan_pairs(discordant, 0.05) == n


def test_sessions_without_an_event() -> None:
    assert [plan_zero_events(limit) for limit in (0.01, 0.001)] == [299, 2995]
    assert [round(100 * zero_event_bound(n), 2) for n in (300, 1000, 2995)] == [0.99, 0.30, 0.10]
    assert zero_event_bound(0) == 1.0
    assert plan_zero_events(0.0) is None


def test_days_at_the_declared_traffic() -> None:
    assert plan_difference(0.16, 0.05, share=SHARE).days(9000) == pytest.approx(6.49, abs=0.01)
    assert plan_difference(0.16, 0.05, share=SHARE).days(0) is None


@pytest.mark.parametrize("loss", [0.05, 0.06])
def test_no_size_is_enough_at_the_margin(loss: float) -> None:
    found = plan_difference(0.16, 0.05, share=SHARE, true_loss=loss)
    assert found.candidate is None
    assert found.days(9000) is None
    assert "no size is enough" in found.reason


@pytest.mark.parametrize(
    "variance_margin_share", [(0.0, 0.05, 0.05), (math.nan, 0.05, 0.05), (0.16, 0.05, 0.0), (0.16, 0.05, 1.0)]
)
def test_what_cannot_be_planned_says_why(variance_margin_share: tuple[float, float, float]) -> None:
    variance, margin, share = variance_margin_share
    found = plan_difference(variance, margin, share=share)
    assert found.candidate is None
    assert found.reason


def test_a_sequence_takes_up_to_twice_as_long_for_the_same_power() -> None:
    rng, times = np.random.default_rng(3), np.arange(2, 101) * 0.04
    from agentrl.release.statistics.sequences import sequence_width

    drift = 1.6449 + 0.8416
    walks = rng.normal(0, np.sqrt(np.diff(times, prepend=0)), (4000, len(times))).cumsum(1) + drift * times
    is_over = (walks > sequence_width(times, alpha=0.05, planned_n=1.0) * np.sqrt(times)).any(1)
    taken = times[(walks > sequence_width(times, alpha=0.05, planned_n=1.0) * np.sqrt(times)).argmax(1)]
    simulated = float(np.quantile(np.where(is_over, taken, np.inf), 0.8))
    assert sequence_factor(0.05) == pytest.approx(simulated, rel=0.05)
    assert 1.0 < sequence_factor(0.01) < sequence_factor(0.05) < 2.0
