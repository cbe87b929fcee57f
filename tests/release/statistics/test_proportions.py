"""Counts: published examples, exact identities, and the counts at which other implementations fail."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from agentrl.release.statistics.exact_sequences import (
    exact_own_sequence,
    exact_sequence,
    harm_evidence,
    rate_lower,
    rate_upper,
)
from agentrl.release.statistics.proportions import clopper_pearson, mcnemar, newcombe, paired_difference

TWO_SIDED = {"alpha_lower": 0.025, "alpha_upper": 0.025}
FIVE = {"alpha_lower": 0.05, "alpha_upper": 0.05}


@pytest.mark.parametrize(
    ("counts", "lower", "upper"),
    [  # Newcombe 1998, table II, method 10
        ((56, 70, 48, 80), 0.0524, 0.3339),
        ((9, 10, 3, 10), 0.1705, 0.8090),
        ((6, 7, 2, 7), 0.0582, 0.8062),
        ((5, 56, 0, 29), -0.0381, 0.1926),
        ((0, 10, 0, 20), -0.1611, 0.2775),
        ((0, 10, 0, 10), -0.2775, 0.2775),
        ((10, 10, 0, 20), 0.6791, 1.0),
        ((10, 10, 0, 10), 0.6075, 1.0),
    ],
)
def test_newcombes_own_examples(counts: tuple[int, int, int, int], lower: float, upper: float) -> None:
    found = newcombe(*counts, **TWO_SIDED)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1e-4)


@pytest.mark.parametrize("counts", [(0, 300, 0, 300), (1, 1000, 1, 1000), (300, 300, 300, 300), (0, 300, 300, 300)])
def test_safety_counts_have_a_width_and_stay_within_one(counts: tuple[int, int, int, int]) -> None:
    found = newcombe(*counts, **FIVE)
    assert found.lower is not None
    assert found.upper is not None
    assert -1 <= found.lower < found.upper <= 1
    assert found.upper - found.lower > 0.005


def test_no_violation_in_300_of_each_shows_a_margin_of_a_point() -> None:
    assert newcombe(0, 300, 0, 300, **FIVE).is_below(0.01)
    assert not newcombe(0, 200, 0, 200, **FIVE).is_below(0.01)


@pytest.mark.parametrize(("n", "bound"), [(300, 0.00994), (1000, 0.00299), (2995, 0.0010)])
def test_none_of_n_bounds_the_rate_at_about_three_over_n(n: int, bound: float) -> None:
    assert clopper_pearson(0, n, **FIVE).upper == pytest.approx(bound, rel=0.01)


@given(st.integers(1, 60), st.data())
def test_clopper_pearson_is_the_inverse_of_the_exact_test(n: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, n))
    found = clopper_pearson(events, n, **TWO_SIDED)
    exact = binomtest(events, n).proportion_ci(0.95, "exact")
    assert (found.lower, found.upper) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_mcnemar_is_the_sign_test_of_discordant_pairs() -> None:
    more, fewer = mcnemar(12, 3)
    assert more == pytest.approx(binomtest(12, 15, alternative="greater").pvalue)
    assert fewer == pytest.approx(binomtest(12, 15, alternative="less").pvalue)
    assert mcnemar(0, 0) == (1.0, 1.0)
    with pytest.raises(ValueError, match="at least 0"):
        mcnemar(-1, 2)


@pytest.mark.parametrize(
    ("counts", "lower", "upper"),
    [  # Newcombe 1998 (paired), table I, method 10
        ((36, 12, 2, 0), 0.0569, 0.3404),
        ((36, 14, 0, 0), 0.1528, 0.4167),
        ((43, 0, 0, 0), -0.0820, 0.0820),
    ],
)
def test_pairs_as_published(counts: tuple[int, int, int, int], lower: float, upper: float) -> None:
    found = paired_difference(*counts, **TWO_SIDED)
    assert (found.lower, found.upper) == pytest.approx((lower, upper), abs=1e-3)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 200))
def test_pairs_show_harm_only_where_the_exact_test_does(more: int, fewer: int, alike: int) -> None:
    found = paired_difference(alike, more, fewer, alike // 3, **FIVE)
    p_more, p_fewer = mcnemar(more, fewer)
    assert p_more <= 0.05 or not found.is_above(0.0)
    assert p_fewer <= 0.05 or not found.is_below(0.0)


def test_pairs_cover_the_truth() -> None:
    rng = np.random.default_rng(1)
    chances, truth, missed = (0.7, 0.05, 0.1, 0.15), -0.05, 0
    for counts in rng.multinomial(200, chances, 2000).tolist():
        found = paired_difference(*counts, **FIVE)
        missed += found.is_above(truth)
    assert missed / 2000 < 0.06


@given(st.integers(1, 400), st.data())
def test_exact_sequences_are_wider_than_one_exact_look(n: int, data: st.DataObject) -> None:
    events = data.draw(st.integers(0, n))
    one = clopper_pearson(events, n, **FIVE)
    assert one.lower is not None
    assert one.upper is not None
    assert rate_lower(events, n, 0.05) <= one.lower + 1e-9
    assert rate_upper(events, n, 0.05) >= one.upper - 1e-9


def test_an_exact_sequence_is_crossed_as_rarely_as_it_says_at_any_look() -> None:
    rng, rate = np.random.default_rng(2), 0.01
    looks = np.arange(1, 2001)
    walls = dict.fromkeys(looks.tolist(), 0)
    for n in walls:  # the fewest events at which the truth is excluded from below
        walls[n] = next(x for x in range(walls.get(n - 1, 0), n + 2) if x > n or rate_lower(x, n, 0.05) > rate)
    seen = (rng.random((1000, len(looks))) < rate).cumsum(1)
    assert float(np.mean((seen >= np.array(list(walls.values()))).any(1))) < 0.05


def test_none_of_n_is_excluded_from_above_as_often_as_it_says() -> None:
    n = next(n for n in range(1, 1000) if rate_upper(0, n, 0.05) < 0.01)  # the first look at which it is
    assert 299 <= n <= 370
    assert binom.pmf(0, n, 0.01) < 0.05


@pytest.mark.parametrize(("share", "own"), [(0.05, 0.01), (0.5, 0.01), (0.05, 0.003)], ids=["5 %", "half", "safer"])
def test_harm_is_rarely_found_where_there_is_none_at_any_look(share: float, own: float) -> None:
    rng, crossed, runs = np.random.default_rng(4), 0, 300
    for _ in range(runs):
        is_candidate = rng.random(3000) < share
        has_event = rng.random(3000) < np.where(is_candidate, own, 0.01)
        x, y = (is_candidate & has_event).cumsum(), (~is_candidate & has_event).cumsum()
        looks = np.flatnonzero(is_candidate & has_event)  # evidence only grows where the candidate has an event
        crossed += any(harm_evidence(int(x[at]), int(y[at]), share) >= math.log(20) for at in looks.tolist())
    assert crossed / runs < 0.05


@pytest.mark.parametrize("counts", [(16, 56), (56, 16), (2000, 20), (20, 20_000)], ids=str)
def test_no_event_at_all_is_no_sign_of_harm_however_many_sessions_each_arm_has(counts: tuple[int, int]) -> None:
    """Of a slow candidate fewer sessions have ended than its share."""
    found = exact_sequence(0, counts[0], 0, counts[1], alpha_lower=0.01, alpha_upper=0.05, share=0.5)
    assert found.lower is not None
    assert found.lower < 0


def test_harm_is_found_by_both_arms_before_their_bounds_part() -> None:
    counts = (5, 200, 4, 3800)
    alone = exact_sequence(*counts, alpha_lower=0.01, alpha_upper=0.05)
    together = exact_sequence(*counts, alpha_lower=0.01, alpha_upper=0.05, share=0.05)
    assert not alone.is_above(0.0)
    assert together.is_above(0.0)
    assert alone.upper == together.upper


def test_arms_are_compared_through_a_bound_of_each() -> None:
    found = exact_sequence(0, 500, 2, 9500, **FIVE)
    assert found.is_below(0.01)
    assert not found.is_above(0.0)
    harm = exact_sequence(30, 500, 10, 9500, alpha_lower=0.01, alpha_upper=0.05)
    assert harm.is_above(0.0)
    alone = exact_own_sequence(3, 1000, **FIVE)
    assert alone.estimate == 0.003
    assert alone.lower is not None
    assert alone.upper is not None
    assert 0 < alone.lower < 0.003 < alone.upper < 0.02
