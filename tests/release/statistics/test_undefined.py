"""F45: what cannot be computed raises nothing and passes nothing; it says why."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.release.statistics import bootstrap as resampling
from agentrl.release.statistics.bounds import Bounds, defined
from agentrl.release.statistics.exact_sequences import exact_own_sequence, exact_sequence
from agentrl.release.statistics.group_sequential import group_sequential
from agentrl.release.statistics.proportions import clopper_pearson, newcombe, paired_difference
from agentrl.release.statistics.sequences import confidence_sequence, fixed_look
from agentrl.release.statistics.sums import (
    Estimate,
    arm_sums,
    difference,
    geo_ratio,
    log_ratio,
    own_value,
)


def logs(values: np.ndarray) -> np.ndarray:
    """NaN or infinite where there are none."""
    with np.errstate(all="ignore"):
        return np.log(values)


SIDES = {"alpha_lower": 0.05, "alpha_upper": 0.05}
GOOD = np.linspace(0.5, 1.5, 200)
BAD = {
    "empty": np.array([]),
    "one sample": np.array([1.0]),
    "constant": np.full(200, 0.7),
    "all zero": np.zeros(200),
    "NaN": np.append(GOOD, math.nan),
    "infinite": np.append(GOOD, math.inf),
}
ESTIMATES: dict[str, Callable[[np.ndarray, np.ndarray], Estimate]] = {
    "difference": lambda a, b: difference(arm_sums(a), arm_sums(b)),
    "log_ratio": lambda a, b: log_ratio(arm_sums(a), arm_sums(b)),
    "geo_ratio": lambda a, b: geo_ratio(arm_sums(logs(a)), arm_sums(logs(b))),
    "own_value": lambda a, _: own_value(arm_sums(a)),
}
BOUNDS: dict[str, Callable[[Estimate], Bounds]] = {
    "confidence_sequence": lambda e: confidence_sequence(e, **SIDES, planned_n=200),
    "group_sequential": lambda e: group_sequential(e, **SIDES, look=1, looks=3),
    "fixed_look": lambda e: fixed_look(e, **SIDES),
}


def passes_nothing(bounds: Bounds) -> bool:
    """Neither side shows anything, whatever it is held against."""
    held = (-1e300, -0.05, 0.0, 0.05, 1e300)
    return not any(bounds.is_above(value) or bounds.is_below(value) for value in held)


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("estimate", ESTIMATES)
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_candidate_has_no_bounds_but_a_reason(bad: str, estimate: str, bound: str) -> None:
    found = BOUNDS[bound](ESTIMATES[estimate](BAD[bad], GOOD))
    assert not found.is_defined
    assert found.reason
    assert passes_nothing(found)


@pytest.mark.parametrize("estimate", [name for name in ESTIMATES if name != "own_value"])
@pytest.mark.parametrize("bad", BAD)
def test_a_bad_baseline_has_no_bounds_and_is_named(bad: str, estimate: str) -> None:
    found = BOUNDS["fixed_look"](ESTIMATES[estimate](GOOD, BAD[bad]))
    assert passes_nothing(found)
    assert "baseline" in found.reason


@pytest.mark.parametrize("scale", ["difference", "ratio"])
@pytest.mark.parametrize("statistic", [resampling.mean, resampling.geo_mean, resampling.quantile(0.95)])
@pytest.mark.parametrize("bad", BAD)
def test_resampling_what_is_bad_has_no_bounds(bad: str, statistic: resampling.Statistic, scale: str) -> None:
    sizes = {"resamples": 200}
    found = resampling.bootstrap(BAD[bad], GOOD, statistic, **SIDES, scale=scale, **sizes)
    assert passes_nothing(found)
    assert found.reason
    found = resampling.own_bootstrap(BAD[bad], statistic, **SIDES, **sizes)
    assert passes_nothing(found)


def test_zero_successes_cost_no_number() -> None:
    cost, never = np.linspace(1, 2, 300), np.zeros(300)
    found = confidence_sequence(log_ratio(arm_sums(cost, never), arm_sums(cost, np.ones(300))), **SIDES, planned_n=200)
    assert found.estimate is None
    assert passes_nothing(found)
    assert found.reason == "candidate: the denominators of 300 sum to 0, a ratio to it is undefined"
    columns = np.column_stack([cost, never])
    assert passes_nothing(resampling.paired_bootstrap(columns, columns, resampling.ratio_of_sums, **SIDES))


def test_a_success_that_many_resamples_lack_gives_no_bounds() -> None:
    rare = np.zeros(100)
    rare[0] = 1
    columns = np.column_stack([np.linspace(1, 2, 100), rare])
    found = resampling.own_bootstrap(columns, resampling.ratio_of_sums, **SIDES)
    assert passes_nothing(found)
    assert "of resamples" in found.reason


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 0, 5, 10), (5, 10, 0, 0), (3, 2, 1, 10), (-1, 5, 0, 5)])
@pytest.mark.parametrize("test", [newcombe, exact_sequence])
def test_impossible_counts_have_no_bounds(test: Callable[..., Bounds], counts: tuple[int, ...]) -> None:
    found = test(*counts, **SIDES)
    assert passes_nothing(found)
    assert found.reason


def test_no_pairs_and_no_units_have_no_bounds() -> None:
    for found in (paired_difference(0, 0, 0, 0, **SIDES), clopper_pearson(0, 0, **SIDES)):
        assert passes_nothing(found)
    assert passes_nothing(exact_own_sequence(0, 0, **SIDES))


def test_no_look_is_due_yet() -> None:
    found = group_sequential(ESTIMATES["difference"](GOOD, GOOD[::2]), **SIDES, look=0, looks=3)
    assert passes_nothing(found)
    assert found.reason == "look 0 of 3: none is due yet"


def test_few_users_with_many_sessions_have_no_sequence() -> None:
    users = [f"u{number % 5}" for number in range(200)]
    found = confidence_sequence(difference(arm_sums(GOOD, cluster=users), arm_sums(GOOD)), **SIDES, planned_n=200)
    assert passes_nothing(found)
    assert "5 independent units" in found.reason


def test_bounds_that_are_not_finite_are_none() -> None:
    found = defined(0.0, -math.inf, 1.0, method="x", alpha_lower=0.05, alpha_upper=0.05)
    assert passes_nothing(found)
    assert "not finite" in found.reason


@given(
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
    st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=60),
)
def test_no_numbers_raise(own: list[float], other: list[float]) -> None:
    for estimate in ESTIMATES.values():
        for bound in BOUNDS.values():
            with np.errstate(all="ignore"):
                found = bound(estimate(np.array(own), np.array(other)))
            assert found.is_defined != bool(found.reason)
            if found.is_defined:
                assert found.lower is not None
                assert found.upper is not None
                assert found.estimate is not None
                assert found.lower <= found.estimate <= found.upper
