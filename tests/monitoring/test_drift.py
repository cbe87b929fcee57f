"""Rules that find drift: false alarms as rare as stated, shifts found soon, whatever the metric looks like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from agentrl.monitoring.drift import (
    cusum,
    cusum_threshold,
    ewma,
    ewma_crossings,
    ewma_limit,
    skewed,
)
from agentrl.monitoring.watched_metrics import Series, expected

BETWEEN = 5_000.0


def series(x: np.ndarray, y: np.ndarray | None = None) -> Series:
    """A session a minute."""
    return Series(60.0 * np.arange(len(x)), x.astype(float), np.ones(len(x)) if y is None else y.astype(float))


def overrides(rng: np.random.Generator, n: int, *, is_bad: bool) -> Series:
    return series(rng.random(n) < (0.10 if is_bad else 0.05))


def tool_errors(rng: np.random.Generator, n: int, *, is_bad: bool) -> Series:
    calls, rate = rng.integers(1, 8, n), 0.06 if is_bad else 0.03
    return series(rng.binomial(calls, rng.beta(6 * rate, 6 * (1 - rate), n)), calls)


def quality(rng: np.random.Generator, n: int, *, is_bad: bool) -> Series:
    return series(rng.beta(7, 3, n) - (0.05 if is_bad else 0))


def latency(rng: np.random.Generator, n: int, *, is_bad: bool) -> Series:
    return series(rng.normal(2 + (np.log(1.25) if is_bad else 0), 0.8, n))


WORLDS: dict[str, Callable[..., Series]] = {
    "human_override_rate": overrides,
    "tool_error_rate": tool_errors,
    "completion_quality": quality,
    "latency": latency,
}


@pytest.mark.parametrize("metric", WORLDS)
def test_false_alarms_are_as_rare_as_stated(metric: str) -> None:
    rng = np.random.default_rng(1)
    model = expected(metric, WORLDS[metric](rng, 50_000, is_bad=False))
    quiet = WORLDS[metric](rng, 150_000, is_bad=False)
    by_cusum = list(cusum(model.ratios(quiet), cusum_threshold(BETWEEN, model.information)))
    by_ewma = list(ewma_crossings(model.standardised(quiet), skewed(ewma_limit(BETWEEN), model.skewness)))
    assert len(by_cusum) <= 1.25 * 150_000 / BETWEEN
    assert len(by_ewma) <= 1.25 * 150_000 / BETWEEN


@pytest.mark.parametrize(
    ("metric", "median"),
    [("human_override_rate", 450), ("tool_error_rate", 300), ("completion_quality", 160), ("latency", 230)],
)
def test_a_shift_is_found_soon_after_it_begins(metric: str, median: int) -> None:
    rng, delays = np.random.default_rng(2), []
    for _ in range(40):
        model = expected(metric, WORLDS[metric](rng, 1000, is_bad=False))
        before, after = WORLDS[metric](rng, 200, is_bad=False), WORLDS[metric](rng, 3000, is_bad=True)
        both = series(np.concatenate([before.x, after.x]), np.concatenate([before.y, after.y]))
        found = cusum(model.ratios(both), cusum_threshold(10_000, model.information))
        delays.append(next((each.index - 200 for each in found if each.index >= 200), 3000))
    assert np.median(delays) < median


def test_the_threshold_grows_with_the_sessions_between_alarms() -> None:
    assert cusum_threshold(1e3, 0.01) < cusum_threshold(1e5, 0.01) < cusum_threshold(1e5, 0.1)


def test_a_cusum_is_the_recursion_that_never_falls_below_zero() -> None:
    ratios = np.random.default_rng(3).normal(-0.1, 1, 400)
    alarms, total, onset = [], 0.0, 0
    for index, ratio in enumerate(ratios.tolist()):
        if total <= 0:
            total, onset = 0.0, index
        total += ratio
        if total >= 5:
            alarms.append((index, onset))
            total = 0.0
    assert [(each.index, each.onset) for each in cusum(ratios, 5.0)] == alarms
    assert len(alarms) > 1


def test_an_average_of_equal_values_comes_to_them() -> None:
    smooth = ewma(np.ones(2000), 0.02)
    assert smooth[-1] == pytest.approx(1 / np.sqrt(0.02 / 1.98))
    assert np.all(np.diff(smooth) > -1e-12)


def test_rare_events_raise_the_limit_and_their_absence_does_not_lower_it() -> None:
    assert skewed(4.0, 5.0) > 4.5
    assert skewed(4.0, -5.0) == 4.0


def test_a_session_alone_rings_no_alarm() -> None:
    rng = np.random.default_rng(4)
    model = expected("latency", latency(rng, 1000, is_bad=False))
    absurd = latency(rng, 100, is_bad=False)
    absurd.x[50] = 1e9
    assert not list(cusum(model.ratios(absurd), cusum_threshold(10_000, model.information)))


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_reference_without_spread_still_finds_harm(value: float) -> None:
    model = expected("completion_quality", series(np.full(200, 0.9)))
    assert list(cusum(model.ratios(series(np.full(300, 0.5))), cusum_threshold(10_000, model.information)))
    rates = expected("human_override_rate", series(np.full(200, value)))
    found = list(cusum(rates.ratios(series(np.ones(300))), cusum_threshold(10_000, rates.information)))
    assert bool(found) == (value == 0.0)


def test_no_alarm_without_sessions() -> None:
    assert not list(cusum(np.empty(0), 5.0))
    assert not list(ewma_crossings(np.empty(0), 3.0))
