"""Bounds at every look: against closed forms and published boundaries, and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from agentrl.release.statistics.group_sequential import group_sequential, look_boundaries, spent_alpha
from agentrl.release.statistics.sequences import confidence_sequence, fixed_look, mixture_ratio, sequence_width
from agentrl.release.statistics.sums import arm_sums, difference, log_ratio


@pytest.mark.parametrize("alpha", [0.0025, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("n", [3, 100, 417, 50_000])
def test_the_width_solves_the_equation_of_the_mixture(n: int, alpha: float) -> None:
    r = mixture_ratio(alpha) * n / 417
    x = float(sequence_width(n, alpha=alpha, planned_n=417)) / math.sqrt((r + 1) / r)
    assert 2 * math.exp(x * x / 2) * norm.cdf(x) == pytest.approx(math.sqrt(r + 1) / alpha)


@pytest.mark.parametrize("alpha", [0.01, 0.05])
def test_the_width_is_within_the_bound_of_the_paper_and_above_one_look(alpha: float) -> None:
    n = np.array([50.0, 400.0, 5000.0])
    r = mixture_ratio(alpha) * n / 400
    paper = np.sqrt(2 * (r + 1) / r * np.log1p(np.sqrt(r + 1) / (2 * alpha)))
    found = sequence_width(n, alpha=alpha, planned_n=400)
    assert np.all(found <= paper)
    assert np.all(found > 0.98 * paper)
    assert np.all(found > norm.isf(alpha))


def test_the_bound_is_near_its_narrowest_at_the_planned_size() -> None:
    n = 400.0
    widths = [float(sequence_width(n, alpha=0.05, planned_n=planned)) for planned in (50, 100, 200, 400, 800, 1600)]
    assert widths[3] < 1.01 * min(widths)
    assert widths[0] > widths[2]
    assert widths[5] > widths[3]


def test_no_sessions_have_no_bound() -> None:
    assert sequence_width(0, alpha=0.05, planned_n=400) == math.inf


def test_a_walk_leaves_a_sequence_as_rarely_as_it_says() -> None:
    rng, times = np.random.default_rng(5), np.geomspace(0.05, 20, 200)
    walks = rng.normal(0, np.sqrt(np.diff(times, prepend=0)), (4000, len(times))).cumsum(1)
    wall = sequence_width(times, alpha=0.05, planned_n=1.0) * np.sqrt(times)
    left = float(np.mean((walks > wall).any(1)))
    assert 0.02 < left < 0.05


def test_boundaries_are_those_of_the_published_tables() -> None:
    # O'Brien-Fleming-like spending, five looks, one-sided 0.025: Jennison & Turnbull, and gsDesign's sfLDOF
    found = look_boundaries((0.2, 0.4, 0.6, 0.8, 1.0), 0.025)
    assert found == pytest.approx((4.8769, 3.3569, 2.6803, 2.2898, 2.0310), abs=2e-4)


def test_one_look_is_a_z_test_and_all_of_them_spend_alpha() -> None:
    assert look_boundaries((1.0,), 0.05)[0] == pytest.approx(norm.isf(0.05), abs=1e-6)
    assert spent_alpha(1.0, 0.05) == pytest.approx(0.05)
    assert spent_alpha(0.0, 0.05) == 0
    rng, times = np.random.default_rng(6), np.arange(1, 5) / 4
    walks = rng.normal(0, 0.5, (40_000, 4)).cumsum(1)
    left = float(np.mean((walks > np.array(look_boundaries(tuple(times), 0.05)) * np.sqrt(times)).any(1)))
    assert left == pytest.approx(0.05, abs=0.004)


def test_early_looks_ask_for_more_than_the_last() -> None:
    rng = np.random.default_rng(7)
    estimate = difference(arm_sums(rng.normal(size=100)), arm_sums(rng.normal(size=100)))
    widths = []
    for look in (1, 2, 3):
        found = group_sequential(estimate, alpha_lower=0.05, alpha_upper=0.05, look=look, looks=3)
        assert found.lower is not None
        assert found.upper is not None
        widths.append(found.upper - found.lower)
    assert widths[0] > widths[1] > widths[2]


def test_bounds_of_a_ratio_are_of_the_ratio_and_sides_have_their_own_risk() -> None:
    rng = np.random.default_rng(8)
    estimate = log_ratio(arm_sums(rng.lognormal(0.2, 0.5, 3000)), arm_sums(rng.lognormal(0, 0.5, 3000)))
    found = confidence_sequence(estimate, alpha_lower=0.01, alpha_upper=0.05, planned_n=1500)
    assert found.scale == "ratio"
    assert found.lower is not None
    assert found.upper is not None
    assert found.estimate is not None
    assert 1.0 < found.lower < found.estimate < found.upper < 1.5
    assert found.estimate / found.lower > found.upper / found.estimate


def test_one_look_at_few_clusters_is_students() -> None:
    values = np.array([1.0, 2.0, 4.0, 3.0])
    found = fixed_look(difference(arm_sums(values), arm_sums(values)), alpha_lower=0.05, alpha_upper=0.05)
    error = math.sqrt(2 * values.var(ddof=1) / 4)
    assert found.upper == pytest.approx(2.353363 * error, rel=1e-5)
