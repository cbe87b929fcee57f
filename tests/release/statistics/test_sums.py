"""Sums of an arm: textbook errors for single sessions, robust ones for clusters, a width where nothing happened."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentrl.release.statistics.sums import arm_sums, difference, effective_n, geo_ratio, log_ratio


def test_means_of_single_sessions_have_the_textbook_error() -> None:
    rng = np.random.default_rng(1)
    own, other = rng.normal(2, 1, 50), rng.normal(1, 3, 400)
    found = difference(arm_sums(own), arm_sums(other))
    assert found.value == pytest.approx(own.mean() - other.mean())
    assert found.error == pytest.approx(math.sqrt(own.var(ddof=1) / 50 + other.var(ddof=1) / 400))
    assert found.n_effective == pytest.approx(50 * 400 / 450) == effective_n(50, 400)


def test_a_session_counted_twice_under_one_user_is_no_more_evidence() -> None:
    values = np.random.default_rng(2).normal(size=100)
    users = [f"u{number}" for number in range(100)]
    once = difference(arm_sums(values), arm_sums(values + 1))
    twice = difference(
        arm_sums(np.tile(values, 2), cluster=users * 2), arm_sums(np.tile(values + 1, 2), cluster=users * 2)
    )
    assert twice.error == pytest.approx(once.error)
    assert twice.clusters_candidate == 100
    assert twice.n_candidate == 200


def test_cost_per_success_uses_how_cost_and_success_go_together() -> None:
    rng, n = np.random.default_rng(3), 4000
    success = rng.random(n) < 0.8
    cost = rng.lognormal(0, 0.5, n) * np.where(success, 1.0, 2.0)
    found = log_ratio(arm_sums(cost, success), arm_sums(cost, success))
    drawn = rng.integers(0, n, (2000, n))
    resampled = np.log(cost[drawn].sum(1) / success[drawn].sum(1))
    assert found.error == pytest.approx(math.sqrt(2) * resampled.std(), rel=0.06)


def test_ratios_of_geometric_means_are_differences_of_logarithms() -> None:
    own, other = np.array([1.0, 4.0, 2.0]), np.array([1.0, 2.0, 8.0, 3.0])
    found = geo_ratio(arm_sums(np.log(own)), arm_sums(np.log(other)))
    assert math.exp(found.value or 0) == pytest.approx(2.0 / 48**0.25)
    assert found.candidate == pytest.approx(2.0)


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_no_event_and_nothing_but_events_have_a_width(rate: float) -> None:
    arm = arm_sums(np.full(300, rate))
    found = difference(arm, arm, event=1.0)
    assert found.value == 0
    assert found.error == pytest.approx(math.sqrt(2) / 300, rel=0.01)
    assert difference(arm, arm).error is None


def test_no_tool_error_in_many_calls_has_the_width_of_one_call() -> None:
    arm = arm_sums(np.zeros(100), np.full(100, 7.0))
    found = difference(arm, arm, event=1.0)
    assert found.error == pytest.approx(math.sqrt(2) / 700, rel=0.01)


def test_sums_grow_to_the_same_arm() -> None:
    values = np.random.default_rng(4).normal(5, 1, 40)
    by_look = [arm_sums(values[:n]) for n in (10, 40)]
    assert by_look[1].x == pytest.approx(values.sum())
    assert by_look[0].xx == pytest.approx((values[:10] ** 2).sum())
