"""Figures with known answers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from agentrl.config import CalibrationGateConfig
from agentrl.evaluation.intervals import wilson
from agentrl.grading.reward_folder import Calibration
from agentrl.reward_model import calibration as cal
from agentrl.reward_model.gate import failures, length_gap
from agentrl.reward_model.measure import measure
from tests.reward_model.examples import examples_of


def test_a_model_without_a_preference_is_worth_ln_2() -> None:
    assert cal.nll([0.0, 0.0]) == pytest.approx(0.693147, abs=1e-6)
    assert cal.accuracy([0.0, 0.0]) == 0.5


def test_margins_give_accuracy_and_nll() -> None:
    margins = [2, -0.5, 0.1, 1]
    assert cal.accuracy(margins) == 0.75
    assert cal.nll(margins) == pytest.approx(0.514666, abs=1e-6)


def test_ece_and_brier_of_four_predictions() -> None:
    p, y = (0.9, 0.9, 0.6, 0.6), (1, 1, 1, 0)
    assert cal.ece(cal.reliability(p, y, bins=10, equal_mass=False)) == pytest.approx(0.1)
    assert cal.brier(p, y) == pytest.approx(0.135)


@pytest.fixture
def calibrated() -> tuple[np.ndarray, np.ndarray]:
    """Logits, and outcomes that come true as often as the logits say."""
    draw = np.random.default_rng(7)
    logits = draw.normal(0, 1.5, 20_000)
    return logits, (draw.random(20_000) < cal.sigmoid(logits)).astype(float)


def test_what_chance_makes_of_few_predictions_is_told(calibrated: tuple[np.ndarray, np.ndarray]) -> None:
    """The mean of the ECE over samples of 300."""
    logits, outcomes = calibrated
    tables = [
        cal.reliability(cal.sigmoid(logits[at : at + 300]), outcomes[at : at + 300], equal_mass=True)
        for at in range(0, 18_000, 300)
    ]
    mean = np.mean([cal.ece(table) for table in tables])
    assert mean > 0.04
    assert np.mean([cal.ece_of_chance(table) for table in tables]) == pytest.approx(mean, rel=0.1)


@pytest.mark.parametrize("equal_mass", [True, False])
def test_a_calibrated_model_has_hardly_any_error(calibrated: tuple[np.ndarray, np.ndarray], equal_mass: bool) -> None:
    logits, outcomes = calibrated
    assert cal.ece(cal.reliability(cal.sigmoid(logits), outcomes, equal_mass=equal_mass)) < 0.02


def test_the_temperature_undoes_a_factor_and_changes_no_decision(calibrated: tuple[np.ndarray, np.ndarray]) -> None:
    logits, outcomes = calibrated
    assert cal.fit_temperature(2 * logits, outcomes) == pytest.approx(2, abs=0.1)
    margins = np.where(outcomes == 1, logits, -logits)
    temperature = cal.fit_temperature(2 * margins)
    assert temperature == pytest.approx(2, abs=0.1)
    assert cal.accuracy(2 * margins / temperature) == cal.accuracy(2 * margins)
    assert cal.nll(2 * margins / temperature) < cal.nll(2 * margins)


def test_the_temperature_is_where_the_loss_is_least() -> None:
    margins = np.array([3.0, 1.0, -2.0, 0.5])
    best = cal.fit_temperature(margins)
    assert all(cal.nll(margins / best) <= cal.nll(margins / (best * other)) for other in (0.5, 0.99, 1.01, 2))


def test_temperatures_without_an_answer_are_bounded() -> None:
    assert cal.fit_temperature([1.0, 2.0]) == cal.COLDEST  # no mistake
    assert cal.fit_temperature([-1.0, -2.0]) == cal.HOTTEST  # nothing but mistakes


def test_wilson_of_known_counts() -> None:
    assert wilson(8, 10) == pytest.approx((0.490162, 0.943318), abs=1e-6)
    assert wilson(0, 0) == (0, 1)


def test_a_gain_and_a_bias_make_the_hold_out_standard() -> None:
    rewards = np.array([1.0, 4.0, 7.0, 0.0])
    found = Calibration(float(rewards.mean()), float(rewards.std()), float(rewards.mean()), 2.0)
    normal = np.array([found.normalised(each) for each in rewards])
    assert (normal.mean(), normal.std()) == pytest.approx((0, 1))
    assert normal == pytest.approx(found.gain * rewards + found.bias)
    assert found.score(found.mean) == 0.5
    gap = math.log(found.score(4.0) / (1 - found.score(4.0))) - math.log(found.score(1.0) / (1 - found.score(1.0)))
    assert gap == pytest.approx(3.0 / 2.0)  # the two scores say how probably one is better


def test_extreme_rewards_have_scores() -> None:
    found = Calibration(0, 1, 0, 1e-3)
    assert [found.score(each) for each in (-1e6, 1e6)] == [0, 1]
    assert math.isnan(found.score(math.nan))


# What the gate sees


def judged(n: int = 600, **gate: float) -> tuple[dict, list[str]]:
    """A hold-out whose better side gets a calibrated reward, and is as long as the other."""
    examples, rewards = examples_of(n, noise=1.0, seed=3)
    report = measure(examples, rewards, CalibrationGateConfig(**gate), objective="pairs", n_train=5000)  # type: ignore[arg-type]
    return report, report["gate"]["failures"]


def test_a_calibrated_model_passes() -> None:
    report, found = judged(n=2000)
    assert found == []
    scaled = report["comparisons"]["scaled"]
    assert scaled["ece"] == pytest.approx(scaled["ece_of_chance"], abs=0.02)
    assert 0.8 < report["comparisons"]["temperature"] < 1.25


def test_scarce_evidence_never_passes() -> None:
    assert any("min_comparisons" in each for each in judged(n=40)[1])


@pytest.mark.parametrize(("key", "limit"), [("min_accuracy", 0.99), ("min_comparisons", 601)])
def test_each_limit_of_the_gate_bites(key: str, limit: float) -> None:
    _, found = judged(**{key: limit})
    assert len(found) == 1
    assert key in found[0]


def test_a_model_that_scores_length_is_flagged() -> None:
    """Its accuracy is that of the habit that better episodes are longer; where they are not, it is chance."""
    examples, _ = examples_of(2000, noise=1.0, seed=5, longer=0.8)
    rewards = {episode.id: episode.tokens / 50 for episode in examples.episodes.values()}
    report = measure(examples, rewards, CalibrationGateConfig(), objective="pairs", n_train=5000)
    pairs = report["comparisons"]
    assert pairs["accuracy"] > 0.7
    assert report["length"]["correlation"] == pytest.approx(1)
    assert pairs["length_matched_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert pairs["length_balanced_accuracy"] == pytest.approx(0.5, abs=0.05)
    assert (length_gap(pairs) or 0) > 0.2
    assert any("goes with length" in each for each in report["gate"]["failures"])


def test_a_model_that_says_one_thing_is_refused() -> None:
    examples, rewards = examples_of(600, noise=1.0, seed=3)
    report = measure(examples, dict.fromkeys(rewards, 1.0), CalibrationGateConfig(), objective="pairs", n_train=1)
    found = failures(report, CalibrationGateConfig())
    assert any("same reward" in each for each in found)


def test_confidence_without_reason_is_refused() -> None:
    """Half of the decisions are drawn by chance, and claimed like the others: no temperature makes that good."""
    examples, rewards = examples_of(1500, noise=1.0, seed=3)
    for index in range(0, 1500, 2):
        rewards[f"e{index}-a"] = rewards[f"e{index}-b"] + (8.0 if index % 4 else -8.0)
    report = measure(examples, rewards, CalibrationGateConfig(), objective="pairs", n_train=5000)
    assert [each for each in report["gate"]["failures"] if "max_ece" in each]


def test_scores_are_judged_by_their_deciles() -> None:
    examples, _ = examples_of(1500, noise=1.0, seed=9, scores=True)
    logits = {episode.id: math.log(episode.score / (1 - episode.score)) for episode in examples.episodes.values()}  # type: ignore[operator]
    report = measure(examples, logits, CalibrationGateConfig(), objective="scores", n_train=5000)
    assert report["scores"]["spearman"] == pytest.approx(1)
    assert report["scores"]["scaled"]["rmse"] < 0.01
    assert report["calibration"]["centre"] == 0
    doubled = {key: 2 * value for key, value in logits.items()}
    report = measure(examples, doubled, CalibrationGateConfig(), objective="scores", n_train=5000)
    assert report["calibration"]["temperature"] == pytest.approx(2, abs=0.1)


def test_two_people_are_the_ceiling() -> None:
    examples, rewards = examples_of(100, noise=1.0, seed=2, votes=[{"a": True, "b": True}, {"a": True, "b": False}])
    report = measure(examples, rewards, CalibrationGateConfig(), objective="pairs", n_train=1)
    assert report["raters"]["agreement"] == 0.5
    assert report["raters"]["pairs"] == 100
