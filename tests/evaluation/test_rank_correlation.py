"""Spearman's and Pearson's correlation, and intervals over tasks."""

from __future__ import annotations

import random

import numpy as np
import pytest

from agentrl.evaluation.rank_correlation import mean_interval, pearson, spearman, spearman_interval


def test_it_is_scipys_on_many_tables_with_ties() -> None:
    stats = pytest.importorskip("scipy.stats", reason="scipy is not installed")
    rng = np.random.default_rng(3)
    for _ in range(100):
        a = rng.integers(0, 5, size=30) / 4
        b = np.round(a + rng.normal(0, 0.5, size=30), 1)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)


def test_only_the_order_counts() -> None:
    assert spearman([1, 2, 3, 4], [0.1, 0.2, 0.3, 9.0]) == pytest.approx(1)
    assert spearman([1, 2, 3, 4], [4, 3, 2, -100]) == pytest.approx(-1)
    assert spearman([1, 2, 3, 4, 5], [5, 6, 7, 8, 7]) == pytest.approx(0.8207826817)


def test_a_score_that_never_varies_has_no_correlation() -> None:
    assert spearman([1, 1, 1], [1, 2, 3]) is None
    assert spearman([1], [1]) is None
    assert pearson([1, 1, 1], [1, 2, 3]) is None
    assert pearson([1], [1]) is None
    assert spearman([], []) is None
    assert spearman_interval([1, 1, 1], [1, 2, 3], ["a", "b", "c"]) is None


def test_scores_of_unequal_number_are_refused() -> None:
    with pytest.raises(ValueError, match="found 2 and 1 scores"):
        spearman([1, 2], [1])


def test_the_interval_holds_the_estimate_and_narrows_with_tasks() -> None:
    rng = random.Random(5)

    def interval(n: int) -> tuple[float, float]:
        a = [rng.random() for _ in range(n)]
        b = [x + rng.gauss(0, 0.3) for x in a]
        found, between = spearman(a, b), spearman_interval(a, b, [str(i) for i in range(n)], resamples=300)
        assert found is not None
        assert between is not None
        assert between.low <= found <= between.high
        return between

    few, many = interval(20), interval(500)
    assert many[1] - many[0] < few[1] - few[0]


def test_answers_to_one_task_count_as_one() -> None:
    """Eight copies of each answer are no further evidence."""
    rng = random.Random(7)
    a = [rng.random() for _ in range(40)]
    b = [x + rng.gauss(0, 0.4) for x in a]
    tasks = [str(i) for i in range(40)]
    once = spearman_interval(a, b, tasks, resamples=200)
    assert spearman_interval(a * 8, b * 8, tasks * 8, resamples=200) == pytest.approx(once)
    assert spearman_interval(a, b, ["one"] * 40) is None


def test_the_mean_has_an_interval_over_tasks() -> None:
    between = mean_interval([0.0, 1.0] * 50, [str(i) for i in range(100)], resamples=300)
    assert between is not None
    assert 0.35 < between.low < 0.5 < between.high < 0.65
    assert mean_interval([1.0, 2.0], ["a", "a"]) is None
