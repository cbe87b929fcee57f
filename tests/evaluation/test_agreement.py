"""Agreement beyond chance, against hand-made tables, published figures and scikit-learn."""

from __future__ import annotations

import random
from statistics import fmean

import numpy as np
import pytest

from agentrl.evaluation.agreement import (
    cohen_kappa,
    criteria_report,
    krippendorff_alpha,
    label_agreement,
    prediction_powered_mean,
)


def raters(counts: list[list[int]]) -> tuple[list[int], list[int]]:
    """Two raters with a confusion matrix."""
    pairs = [(i, j) for i, row in enumerate(counts) for j, n in enumerate(row) for _ in range(n)]
    return [i for i, _ in pairs], [j for _, j in pairs]


@pytest.mark.parametrize(
    ("counts", "observed", "expected", "kappa"),
    [
        ([[20, 5], [10, 15]], 0.7, 0.5, 0.4),
        ([[45, 5], [5, 45]], 0.9, 0.5, 0.8),
        ([[90, 5], [5, 0]], 0.9, 0.905, -0.0526),  # the prevalence trap
    ],
)
def test_kappa_of_known_tables(counts: list[list[int]], observed: float, expected: float, kappa: float) -> None:
    found = label_agreement(*raters(counts))
    assert (found.observed, found.expected) == (pytest.approx(observed), pytest.approx(expected))
    assert found.kappa == pytest.approx(kappa, abs=5e-5)
    assert found.counts == tuple(map(tuple, counts))
    assert cohen_kappa(counts) == found.kappa


def test_high_agreement_by_prevalence_alone_is_shown_as_such() -> None:
    found = label_agreement(*raters([[90, 5], [5, 0]]))
    assert found.prevalence == pytest.approx((0.95, 0.05))
    assert found.kappa_interval is not None
    assert found.kappa_interval.high < 0.1


def test_kappa_without_anything_to_disagree_about_is_undefined() -> None:
    found = label_agreement([1, 1, 1], [1, 1, 1])
    assert (found.observed, found.expected, found.kappa, found.kappa_interval) == (1.0, 1.0, None, None)
    assert label_agreement([1, 1], [1, 1], labels=[0, 1], weights="quadratic").kappa is None
    assert cohen_kappa([[0, 0], [0, 0]]) is None


def test_one_rater_without_variance_agrees_by_chance() -> None:
    assert label_agreement([1, 1, 1, 1], [0, 1, 0, 1]).kappa == 0.0


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_is_scikit_learns_on_100_random_tables(weights: str) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(3)
    for _ in range(100):
        n_labels, n = int(rng.integers(2, 6)), int(rng.integers(5, 60))
        first, second = rng.integers(0, n_labels, n), rng.integers(0, n_labels, n)
        second = np.where(rng.random(n) < 0.5, first, second)
        labels = list(range(n_labels))
        theirs = sklearn.cohen_kappa_score(first, second, labels=labels, weights=None if weights == "none" else weights)
        counts = np.zeros((n_labels, n_labels))
        np.add.at(counts, (first, second), 1)
        assert cohen_kappa(counts, weights) == pytest.approx(theirs, abs=1e-12)  # type: ignore[arg-type]


def test_the_interval_of_kappa_holds_kappa_and_shrinks_with_more_items() -> None:
    few, many = label_agreement(*raters([[8, 2], [3, 7]])), label_agreement(*raters([[160, 40], [60, 140]]))
    assert few.kappa == pytest.approx(many.kappa)
    for found in (few, many):
        assert found.kappa_interval is not None
        assert found.kappa is not None
        assert found.kappa_interval.low < found.kappa < found.kappa_interval.high
    assert few.kappa_interval is not None
    assert many.kappa_interval is not None
    assert many.kappa_interval.high - many.kappa_interval.low < few.kappa_interval.high - few.kappa_interval.low


def test_raters_need_the_same_items() -> None:
    with pytest.raises(ValueError, match="found 1 and 2 labels"):
        label_agreement([1], [1, 2])
    with pytest.raises(ValueError, match="at least one"):
        label_agreement([], [])


KRIPPENDORFF = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""  # the worked example of "Computing Krippendorff's Alpha-Reliability", 2011


@pytest.mark.parametrize(("level", "alpha"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_published_example(level: str, alpha: float) -> None:
    columns = zip(*(line.split() for line in KRIPPENDORFF.strip().splitlines()), strict=True)
    units = [[float(value) for value in column if value != "."] for column in columns]
    assert krippendorff_alpha(units, level) == pytest.approx(alpha, abs=5e-4)  # type: ignore[arg-type]


def test_alpha_is_1_for_full_agreement_and_undefined_without_variance() -> None:
    assert krippendorff_alpha([[1, 1], [2, 2, 2], [3]]) == 1.0
    assert krippendorff_alpha([[1, 1], [1, 1]]) is None
    assert krippendorff_alpha([[1], []]) is None


def test_criteria_are_held_against_people_and_against_each_other() -> None:
    judged = [{"right": i % 2, "twin": i % 2, "dead": 1.0, "sourced": (i % 3) / 2} for i in range(12)]
    human = [{"right": i % 2, "sourced": 1 - (i % 3) / 2} for i in range(12)]
    report = criteria_report(judged, human)
    found = {each.id: each for each in report.criteria}
    assert [each.id for each in report.criteria if each.is_dead] == ["dead"]
    assert found["dead"].with_people is None
    assert found["right"].with_people is not None
    assert found["right"].with_people.kappa == 1.0
    assert found["sourced"].with_people is not None
    assert found["sourced"].with_people.kappa == pytest.approx(-1.0)
    assert report.correlations["right", "twin"] == pytest.approx(1.0)
    assert report.correlations["dead", "right"] is None
    assert report.correlations["right", "sourced"] == pytest.approx(0.0, abs=1e-12)


def test_a_few_human_labels_take_the_bias_out_of_a_judge() -> None:
    rng = random.Random(5)
    truth = [float(rng.random() < 0.3) for _ in range(400)]
    constant = [0.9] * 400
    estimates = []
    for _ in range(300):
        rated = rng.sample(range(400), 40)
        estimates.append(prediction_powered_mean(constant, [(constant[i], truth[i]) for i in rated]))
    assert fmean(estimates) == pytest.approx(fmean(truth), abs=0.015)
    with pytest.raises(ValueError, match="at least one"):
        prediction_powered_mean([1.0], [])
