"""The score is flat while cost rises: then training more is paused."""

from __future__ import annotations

import numpy as np
import pytest

from agentrl.release.review.trend import Slope, scaling_rule, slope


def draws(values: list[float], noise: float) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [value + noise * rng.standard_normal(2000) for value in values]


def test_a_slope_over_weeks_is_that_of_least_squares() -> None:
    found = slope([0.70, 0.72, 0.74, 0.76], draws([0.70, 0.72, 0.74, 0.76], 0.001))
    assert found.per_week == pytest.approx(0.02)
    assert found.direction == "rising"


def test_a_week_without_a_figure_keeps_its_place_on_the_axis() -> None:
    found = slope([0.70, None, 0.74, 0.76], [*draws([0.70], 0.0), np.array([]), *draws([0.74, 0.76], 0.0)])
    assert found.weeks == 3
    assert found.per_week == pytest.approx(0.02)


def test_two_weeks_are_no_trend() -> None:
    found = slope([0.7, 0.9], draws([0.7, 0.9], 0.0))
    assert (found.per_week, found.direction) == (None, "unknown")


def test_noise_is_flat() -> None:
    assert slope([0.75, 0.76, 0.75], draws([0.75, 0.76, 0.75], 0.02)).direction == "flat"


RISING, FLAT, FALLING = Slope(4, 1.0, 0.5, 1.5), Slope(4, 0.0, -0.5, 0.5), Slope(4, -1.0, -1.5, -0.5)
UNKNOWN = Slope(2, None, None, None)


@pytest.mark.parametrize(
    ("score", "cost", "action"),
    [
        (FLAT, RISING, "pause"),
        (FALLING, RISING, "pause"),
        (RISING, RISING, "go_on"),
        (FLAT, FLAT, "go_on"),
        (FLAT, FALLING, "go_on"),
        (UNKNOWN, RISING, "unknown"),
        (FLAT, UNKNOWN, "unknown"),
    ],
)
def test_training_is_paused_where_cost_rises_and_the_score_does_not(score: Slope, cost: Slope, action: str) -> None:
    assert scaling_rule(score, cost).action == action
