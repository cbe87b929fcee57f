"""What a probe computes of scores: unbiased, honest about what is missing, and the same in any order."""

from __future__ import annotations

import random
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations, product
from statistics import fmean

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.evaluation.pass_at_k import all_of_k, one_of_k
from agentrl.evaluation.probe.best_of import best_of, pass_curves
from agentrl.evaluation.probe.bounds import mean_interval, ratio_interval, share_interval
from agentrl.evaluation.probe.groups import expected_shares, fit, groups, recommended, sizes_of
from agentrl.evaluation.probe.power import smallest_effect
from agentrl.evaluation.probe.repeatability import repeatability
from agentrl.evaluation.probe.samples import ItemScores, item_scores
from agentrl.types import StopReason
from benchmarks.probe.truths import FORECASTS, Truth, evenly, same
from tests.factories import make_rollout


def item(
    task_id: str, *scores: float | Sequence[float], asked: int | None = None, threshold: float = 0.75
) -> ItemScores:
    grades = tuple(tuple(each) if isinstance(each, Sequence) else (each,) for each in scores)
    passed = tuple(each[0] >= threshold for each in grades)
    return ItemScores(task_id, "train", len(grades) if asked is None else asked, grades, passed)


@pytest.mark.parametrize("n", range(1, 6))
def test_pass_at_k_and_pass_hat_k_are_the_shares_of_the_subsets(n: int) -> None:
    for c, k in product(range(n + 1), range(1, n + 1)):
        passed = [index < c for index in range(n)]
        subsets = [[passed[index] for index in chosen] for chosen in combinations(range(n), k)]
        assert one_of_k(n, c, k) == pytest.approx(fmean(any(each) for each in subsets))
        assert all_of_k(n, c, k) == pytest.approx(fmean(all(each) for each in subsets))


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(1, 7), Fraction(1, 2), Fraction(9, 10)])
def test_pass_at_k_and_pass_hat_k_are_unbiased(rate: Fraction) -> None:
    """Over all outcomes of n samples, weighted by their chance: exactly 1 - (1 - p)^k and p^k."""
    n = 4
    for k in range(1, n + 1):
        at, hat = 0.0, 0.0
        for outcome in product((False, True), repeat=n):
            c = sum(outcome)
            chance = float(rate**c * (1 - rate) ** (n - c))
            at, hat = at + chance * one_of_k(n, c, k), hat + chance * all_of_k(n, c, k)
        assert at == pytest.approx(float(1 - (1 - rate) ** k))
        assert hat == pytest.approx(float(rate**k))


def test_an_item_with_fewer_votes_than_k_is_left_out_of_pass_at_k() -> None:
    curves = pass_curves([item("a", 1.0, 0.0, 0.0), item("b", 1.0, asked=3)], 3)
    assert curves["pass_at_k"][1].value == pytest.approx((1 / 3 + 1) / 2)
    assert curves["pass_at_k"][3].value == 1.0
    assert curves["pass_hat_k"][3].value == 0.0


@given(st.integers(1, 200), st.data())
def test_the_interval_of_ones_and_zeros_is_clopper_and_pearsons(total: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(0, total))
    low, high = share_interval(count, total)
    assert 0 <= low <= count / total <= high <= 1
    tail = 0.025
    if count:  # the chance of as many or more at the lower end is the tail's
        assert abs(_at_least(count, total, low) - tail) < 0.006
    if count < total:
        assert abs(1 - _at_least(count + 1, total, high) - tail) < 0.006


def _at_least(count: int, total: int, rate: float) -> float:
    from math import lgamma

    if rate in (0.0, 1.0):
        return float(rate == 1.0 or count == 0)
    logs = [
        lgamma(total + 1) - lgamma(c + 1) - lgamma(total - c + 1) + c * np.log(rate) + (total - c) * np.log1p(-rate)
        for c in range(count, total + 1)
    ]
    return float(np.exp(logs).sum())


def test_the_interval_of_a_mean_is_that_of_a_share_where_values_are_ones_and_zeros() -> None:
    for count, total in ((0, 10), (3, 10), (10, 10), (1, 100)):
        one = mean_interval([1.0] * count + [0.0] * (total - count))
        assert one == pytest.approx(share_interval(count, total), abs=0.01)


@pytest.mark.parametrize("alpha", [0.2, 5.0])
@pytest.mark.parametrize("n", [5, 30])
def test_the_interval_of_a_mean_holds_it_at_least_as_often_as_it_says(alpha: float, n: int) -> None:
    draw, mean = np.random.default_rng(4), 0.25
    held = 0
    for _ in range(250):
        low, high = mean_interval(draw.beta(alpha, alpha * (1 / mean - 1), n))
        held += low <= mean <= high
    assert held / 250 > 0.94


def test_intervals_of_nothing_are_the_whole_range() -> None:
    assert mean_interval([]) == (0, 1)
    assert share_interval(0, 0) == (0, 1)
    assert ratio_interval([], []) is None
    assert ratio_interval([0.0], [0.0]) is None


def test_best_of_n_of_a_steady_grader_is_the_mean_of_the_largest() -> None:
    found = best_of([item("a", 0.0, 1.0), item("b", 0.5, 0.5), item("c", 1.0, asked=2)])
    assert found is not None
    assert found.n_items == 2  # c lacks a vote: a best of one would be compared with a best of two
    assert found.best.value == found.true_best.value == pytest.approx(0.75)
    assert found.headroom.value == pytest.approx(0.25)


def test_the_luck_of_a_noisy_grader_is_no_headroom() -> None:
    draw = np.random.default_rng(0)
    noisy = [item(f"t{n}", *np.clip(draw.normal(0.5, 0.2, (3, 3)), 0, 1).tolist()) for n in range(200)]
    found = best_of(noisy)
    assert found is not None
    assert found.best.value > 0.6
    assert found.true_best.value == pytest.approx(0.5, abs=0.02)
    assert found.headroom.interval.low < 0 < found.headroom.interval.high


def test_groups_are_counted_over_whole_items() -> None:
    found = groups([item("a", 0, 0), item("b", 1, 1), item("c", 0.5, 0.5), item("d", 0, 1), item("e", 1, asked=2)])
    assert (found.n_items, found.varied, found.all_worst, found.all_best, found.share) == (4, 1, 1, 1, 0.25)
    assert groups([]).interval == (0, 1)


@pytest.mark.parametrize("truth", FORECASTS, ids=lambda truth: truth.name)
def test_the_share_of_items_that_would_vary_is_forecast_from_three_samples(truth: Truth) -> None:
    many = truth.rates(np.random.default_rng(0), 100_000)
    found = [expected_shares(truth.items(seed), (4, 8)) for seed in range(20)]
    is_beta = "the others at 0" not in truth.name
    for size in (4, 8):
        is_so = float(np.mean(1 - many**size - (1 - many) ** size))
        # where rates follow no beta distribution it is too high, and by no more than that
        assert -0.05 < fmean(each[size].value for each in found) - is_so < (0.05 if is_beta else 0.14)
        covered = fmean(each[size].interval.low <= is_so <= each[size].interval.high for each in found)
        assert covered >= 0.85  # in both cases: the interval begins at the law that promises least


def test_the_share_is_forecast_for_scores_of_several_levels() -> None:
    draw = np.random.default_rng(1)
    rates = draw.dirichlet([0.4, 0.4, 0.8], 4000)
    levels = np.array([0.0, 0.5, 1.0])
    items = [item(f"t{n}", *levels[draw.choice(3, 3, p=each)].tolist()) for n, each in enumerate(rates[:400])]
    for size, found in expected_shares(items, (3, 6, 12)).items():
        assert found.value == pytest.approx(float(np.mean(1 - (rates**size).sum(1))), abs=0.05)


def test_the_forecast_at_the_size_that_was_seen_is_what_was_seen() -> None:
    items = Truth("x", evenly(0, 1), n_items=300).items(3)
    assert expected_shares(items, (3,))[3].value == pytest.approx(groups(items).share, abs=0.03)


def test_more_samples_never_make_fewer_items_vary() -> None:
    items = Truth("x", evenly(0, 0.5)).items(3)
    shares = [each.value for each in expected_shares(items, (2, 3, 4, 8, 16, 32)).values()]
    assert shares == sorted(shares)


def test_where_nothing_varied_the_forecast_is_zero_and_its_interval_is_not() -> None:
    found = expected_shares(Truth("x", same(0.0), n_items=30).items(0), (4, 16))
    assert found[4].value == found[16].value == 0
    assert 0.01 < found[4].interval.high < found[16].interval.high < 0.8
    assert expected_shares([item("a", 1.0, asked=2)], (4,)) == {}


def test_the_fit_finds_the_rates_that_scores_were_drawn_from() -> None:
    draw = np.random.default_rng(2)
    right = draw.binomial(6, draw.beta(2, 3, 4000))
    [alphas] = fit(np.stack([6 - right, right], axis=1).astype(float), np.ones((1, 4000)))
    assert alphas == pytest.approx([3, 2], rel=0.2)


def test_samples_are_recommended_as_planned_or_doubled_where_that_helps() -> None:
    assert sizes_of(4) == (4, 8, 16)
    assert sizes_of(1) == (2, 4)
    enough = recommended(4, expected_shares(Truth("x", evenly(0.1, 0.9)).items(0), sizes_of(4)))
    hard = recommended(4, expected_shares(Truth("x", same(0.03)).items(0), sizes_of(4)))
    hopeless = recommended(4, expected_shares(Truth("x", same(0.0)).items(0), sizes_of(4)))
    assert enough is not None
    assert hard is not None
    assert hopeless is not None
    assert (enough.samples_per_task, hard.samples_per_task, hopeless.samples_per_task) == (4, 16, 4)
    assert "less than 5%" in hopeless.reason
    assert recommended(4, {}) is None


def test_a_grader_is_as_reliable_as_its_noise_leaves_it() -> None:
    answers, noise = 0.2, 0.1
    draw = np.random.default_rng(0)
    real = draw.normal(0.5, answers, (400, 3, 1))
    scored = real + draw.normal(0, noise, (400, 3, 3))
    found = repeatability([item(f"t{n}", *each.tolist()) for n, each in enumerate(scored)], 0.5)
    assert found is not None
    assert found.reliability is not None
    assert found.sigma == pytest.approx(noise, rel=0.05)
    assert found.reliability.value == pytest.approx(answers**2 / (answers**2 + noise**2), abs=0.03)
    assert found.reliability.interval.low < found.reliability.value < found.reliability.interval.high
    assert found.score_variance == pytest.approx(answers**2 + noise**2, rel=0.1)
    assert (found.n_answers, found.grades, found.changed) == (1200, 3, 1200)
    assert found.flips > 100


def test_repeatability_needs_repeats_and_says_nothing_of_equal_scores() -> None:
    assert repeatability([item("a", 0.0, 1.0)], 0.5) is None
    steady = repeatability([item("a", (1.0, 1.0), (1.0, 1.0)), item("b", (0.0, 0.0), (0.0,))], 0.5)
    assert steady is not None
    assert (steady.n_answers, steady.sigma, steady.changed, steady.reliability) == (2, 0.0, 0, None)


def test_the_smallest_effect_is_found_four_times_in_five() -> None:
    """Baseline and candidate simulated: a gain of that size on every item is significant in about 80 % of the runs."""
    draw = np.random.default_rng(3)
    n_items, samples, sigma = 60, 3, 0.2
    before = draw.normal(0.5, 0.15, (2000, n_items, 1))
    first = before + draw.normal(0, sigma, (2000, n_items, samples))
    items = [item(f"t{n}", *each.tolist()) for n, each in enumerate(first[:20].reshape(-1, samples))]
    found = smallest_effect(items, n_items=n_items, samples=samples)
    assert found is not None
    second = before + found.alike + draw.normal(0, sigma, (2000, n_items, samples))
    gains = (second.mean(2) - first.mean(2)).T  # [items, runs]
    z = gains.mean(0) / (gains.std(0, ddof=1) / np.sqrt(n_items))
    assert float(np.mean(z > 1.96)) == pytest.approx(0.8, abs=0.04)
    assert found.uneven > found.alike


def test_the_smallest_effect_falls_with_items_and_needs_two_votes() -> None:
    items = Truth("x", evenly(0.1, 0.9)).items(0)
    few, many = (smallest_effect(items, n_items=n, samples=3) for n in (25, 100))
    assert few is not None
    assert many is not None
    assert few.alike == pytest.approx(2 * many.alike)
    assert smallest_effect([item("a", 1.0)], n_items=100, samples=3) is None
    assert smallest_effect(items, n_items=0, samples=3) is None
    assert smallest_effect([item(name, 0.0, 0.0) for name in "ab"], n_items=100, samples=3) is None
    assert smallest_effect([item("a", 0.0, 0.0), item("b", 1.0, 1.0)], n_items=100, samples=3) is not None


def test_scores_become_shares_of_the_range_and_losses_stay_losses() -> None:
    rollouts = [make_rollout("a", 0, 2.0), make_rollout("a", 1, -2.0), make_rollout("b", 0, None)]
    rollouts.append(make_rollout("b", 1, 1.0, stop_reason=StopReason.INFRASTRUCTURE))
    again = {rollouts[0].id: [1.0]}
    found = item_scores(rollouts, split="train", min_score=-2.0, max_score=2.0, pass_threshold=1.5, again=again)
    assert found[0] == ItemScores("a", "train", 2, ((1.0, 0.75), (0.0,)), (True, False))
    assert found[1] == ItemScores("b", "train", 2, (), ())
    random.Random(0).shuffle(rollouts)
    shuffled = item_scores(rollouts, split="train", min_score=-2.0, max_score=2.0, pass_threshold=1.5, again=again)
    assert shuffled == found
