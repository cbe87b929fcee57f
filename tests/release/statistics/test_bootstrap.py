"""Resampling: seeded, paired where it says so, by cluster, and right where a formula is known."""

from __future__ import annotations

import numpy as np
import pytest

from agentrl.release.statistics import bootstrap as resampling
from agentrl.release.statistics.bootstrap import bootstrap, own_bootstrap, paired_bootstrap

SIDES = {"alpha_lower": 0.05, "alpha_upper": 0.05}
RNG = np.random.default_rng(1)
OWN, OTHER = RNG.normal(1.0, 1, 300), RNG.normal(0.8, 1, 600)


def test_the_same_numbers_give_the_same_bytes() -> None:
    first, second = (bootstrap(OWN, OTHER, resampling.mean, **SIDES) for _ in range(2))
    assert repr(first) == repr(second)
    assert bootstrap(OWN, OTHER, resampling.mean, **SIDES, seed=18) != first


def test_means_agree_with_the_normal_bounds() -> None:
    found = bootstrap(OWN, OTHER, resampling.mean, **SIDES)
    error = np.sqrt(OWN.var() / 300 + OTHER.var() / 600)
    assert found.estimate == pytest.approx(OWN.mean() - OTHER.mean())
    assert found.lower == pytest.approx(OWN.mean() - OTHER.mean() - 1.645 * error, abs=0.01)


def test_pairs_lose_what_both_sides_share() -> None:
    shared = RNG.normal(0, 5, 200)
    own, other = shared + RNG.normal(0.1, 0.2, 200), shared
    paired = paired_bootstrap(own, other, resampling.mean, **SIDES)
    apart = bootstrap(own, other, resampling.mean, **SIDES)
    assert paired.is_above(0.0)
    assert not apart.is_above(0.0)
    with pytest.raises(ValueError, match="found 200 and 199 units"):
        paired_bootstrap(own, other[1:], resampling.mean, **SIDES)


def test_samples_of_one_task_are_drawn_together() -> None:
    tasks = RNG.normal(0, 1, 40)
    values, cluster = np.repeat(tasks, 8), [f"t{number}" for number in range(40) for _ in range(8)]
    together = own_bootstrap(values, resampling.mean, **SIDES, cluster=cluster)
    alone = own_bootstrap(tasks, resampling.mean, **SIDES)
    assert together.lower == alone.lower
    assert together.n_candidate == 320


def test_quantiles_are_those_of_the_sample() -> None:
    values = np.arange(1.0, 101.0)
    found = own_bootstrap(values, resampling.quantile(0.95), **SIDES)
    assert found.estimate == 95.0
    assert found.lower is not None
    assert found.upper is not None
    assert 85 < found.lower < 95 < found.upper <= 100


def test_a_quantile_ratio_finds_a_slower_tail() -> None:
    slow, fast = RNG.lognormal(0.4, 0.3, 1500), RNG.lognormal(0, 0.3, 1500)
    found = bootstrap(slow, fast, resampling.quantile(0.95), **SIDES, scale="ratio")
    assert found.is_above(1.15)


def test_a_product_of_ratios_is_the_product() -> None:
    ones = np.ones(400)
    success, override = (RNG.random(400) < 0.8) * 1.0, (RNG.random(400) < 0.9) * 1.0
    columns = np.column_stack([success, ones, override, ones])
    found = own_bootstrap(columns, resampling.product_of_ratios, **SIDES)
    assert found.estimate == pytest.approx(success.mean() * override.mean())


def test_large_arms_are_resampled_less_often_but_enough() -> None:
    assert resampling._affordable(4000, 1000) == 4000
    assert resampling._affordable(4000, 10**6) == 1000
