from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.config import GuardsConfig, KLConfig, PPOConfig
from agentrl.ppo.guards import Finding, judge, new_warnings, suspect_step
from agentrl.ppo.rules import rules

RULES = rules(PPOConfig())
CRITIC_FREE = rules(PPOConfig(preset="grpo"))
ADAPTIVE = rules(PPOConfig(kl=KLConfig(controller="adaptive")))
HEALTHY = {
    "loss": 0.01,
    "kl_per_token": 0.02,
    "kl_per_trajectory": 3.0,
    "approx_kl": 0.005,
    "grad_norm": 1.0,
    "entropy": 1.0,
    "clip_fraction": 0.05,
    "first_clip_fraction": 0.0,
    "ratio_recompute_maxdev": 0.0,
    "explained_variance": 0.4,
    "skipped_optimizer_steps": 0.0,
    "mismatch_abs_prob_mean": 1e-6,
    "mismatch_pearson": 1.0,
    "mismatch_kl": 1e-6,
    "mismatch_chi2": 1e-6,
    "mismatch_weight_mean": 1.0,
    "mismatch_ess": 1.0,
    "zero_variance_fraction": 0.2,
    "infra_failed_fraction": 0.0,
    "malformed_call_fraction": 0.02,
    "repeated_ngram_fraction": 0.1,
    "score_train": 0.5,
    "score_train_std": 0.5,
}
FLAT = {
    "reward_validation": 0.5,
    "holdout_score_validation": 0.5,
    "holdout_rise_validation": 0.01,
    "holdout_rise_validation_stderr": 0.02,
}
"""An evaluation whose hold-out score is what it was at the beginning, by all that can be said."""
FALL = {
    "reward_validation": 0.6,
    "holdout_score_validation": 0.4,
    "holdout_fall_validation": 0.1,
    "holdout_fall_validation_stderr": 0.04,
    "holdout_fall_reward_rise_stderr": 0.1,
}
"""One whose hold-out score fell since its best."""


def series(*changes: Mapping[str, float], healthy: int = 12) -> list[dict[str, float]]:
    """Healthy steps, then one row for each change."""
    rows = [*[HEALTHY] * healthy, *({**HEALTHY, **change} for change in changes)]
    return [{"step": n, **row} for n, row in enumerate(rows, 1)]


def found(history: list[dict[str, float]], table: Any = RULES) -> dict[str, Finding]:
    return {finding.rule.name: finding for finding in judge(history, table)}


def first_step(rule: str, bad: Mapping[str, float], *, is_stop: bool, table: Any = RULES) -> int | None:
    """How many bad steps after healthy ones it takes until the rule warns or stops."""
    for n in range(1, 13):
        finding = found(series(*[bad] * n), table).get(rule)
        if finding is not None and finding.is_stop is is_stop:
            return n
    return None


STOPS = [
    ("non_finite", {"loss": math.nan}, 1),
    ("non_finite", {"kl_per_token": math.inf}, 1),
    ("skipped_steps", {"skipped_optimizer_steps": 1.0}, 4),
    ("first_clip", {"first_clip_fraction": 0.001}, 1),
    ("mismatch_prob", {"mismatch_abs_prob_mean": 0.011}, 5),
    ("mismatch_kl", {"mismatch_kl": 0.11}, 1),
    ("mismatch_chi2", {"mismatch_chi2": 1.1}, 1),
    ("mismatch_weight", {"mismatch_weight_mean": 0.49}, 1),
    ("mismatch_weight", {"mismatch_weight_mean": 2.01}, 1),
    ("mismatch_ess", {"mismatch_ess": 0.29}, 1),
    ("kl", {"kl_per_token": 0.21}, 1),
    ("update_kl", {"abandoned_minibatches": 1.0}, 3),
    ("grad_norm", {"grad_norm": 101.0}, 1),
    ("grad_norm_spike", {"grad_norm": 21.0}, 2),
    ("clip_fraction", {"clip_fraction": 0.41}, 5),
    ("entropy_collapse", {"entropy": 0.19}, 5),
    ("entropy_blow_up", {"entropy": 2.1}, 5),
    ("explained_variance", {"explained_variance": -0.51}, 10),
    ("score_collapse", {"score_train_std": 0.02, **FLAT}, 5),
    ("gaming", {**FALL, "holdout_fall_reward_rise": 0.3}, 2),
    ("holdout", {**FALL, "holdout_fall_reward_rise": 0.01}, 5),
    ("suspicious_score", {**FLAT, "score_train": 0.98}, 1),
]
WARNINGS = [
    ("skipped_steps", {"skipped_optimizer_steps": 1.0}, 1),
    ("recompute", {"ratio_recompute_maxdev": 0.06}, 1),
    ("mismatch_prob", {"mismatch_abs_prob_mean": 0.006}, 1),
    ("mismatch_pearson", {"mismatch_pearson": 0.98}, 1),
    ("mismatch_kl", {"mismatch_kl": 0.02}, 1),
    ("mismatch_weight", {"mismatch_weight_mean": 0.89}, 1),
    ("mismatch_weight", {"mismatch_weight_mean": 1.11}, 1),
    ("mismatch_ess", {"mismatch_ess": 0.69}, 1),
    ("kl", {"kl_per_token": 0.06}, 1),
    ("kl_per_trajectory", {"kl_per_trajectory": 12.1}, 5),
    ("approx_kl", {"approx_kl": 0.03}, 1),
    ("grad_norm_spike", {"grad_norm": 5.1}, 1),
    ("clip_fraction", {"clip_fraction": 0.21}, 1),
    ("entropy_collapse", {"entropy": 0.49}, 1),
    ("zero_variance", {"zero_variance_fraction": 0.71}, 1),
    ("explained_variance", {"explained_variance": -0.1}, 5),
    ("ungraded_rollouts", {"infra_failed_fraction": 0.03}, 1),
    ("malformed_calls", {"malformed_call_fraction": 0.21}, 1),
    ("repetition", {"repeated_ngram_fraction": 0.31}, 1),
    ("holdout_coverage", {"holdout_coverage_validation": 0.89}, 1),
    ("unwatched_score", {"reward_validation": 0.5, "score_train": 0.98}, 1),
    ("gaming", {**FALL, "holdout_fall_reward_rise": 0.3}, 1),
    ("holdout", {**FALL, "holdout_fall_reward_rise": 0.01}, 3),
]


@pytest.mark.parametrize(("rule", "bad", "steps"), STOPS)
def test_each_stop_fires_at_its_step(rule: str, bad: dict[str, float], steps: int) -> None:
    assert first_step(rule, bad, is_stop=True) == steps


@pytest.mark.parametrize(("rule", "bad", "steps"), WARNINGS)
def test_each_warning_fires_at_its_step_and_stops_nothing(rule: str, bad: dict[str, float], steps: int) -> None:
    assert first_step(rule, bad, is_stop=False) == steps
    assert not any(finding.is_stop for finding in judge(series(*[bad] * steps), RULES))


def test_every_rule_is_driven_by_a_series() -> None:
    driven = {rule for rule, _, _ in (*STOPS, *WARNINGS)} | {"score_jump"}
    assert driven == {rule.name for rule in RULES}


def test_groups_without_a_spread_stop_an_advantage_that_learns_nothing_from_them() -> None:
    bad = {"zero_variance_fraction": 0.96}
    assert first_step("zero_variance", bad, is_stop=True, table=CRITIC_FREE) == 5
    assert first_step("zero_variance", bad, is_stop=True) is None


def test_a_kl_target_stops_a_run_that_is_steered_by_it() -> None:
    bad = {"kl_per_trajectory": 12.1}
    assert first_step("kl_per_trajectory", bad, is_stop=True, table=ADAPTIVE) == 5
    assert first_step("kl_per_trajectory", bad, is_stop=True) is None


@pytest.mark.parametrize(
    "edge",
    [
        {"kl_per_token": 0.2},
        {"grad_norm": 20.0},
        {"entropy": 0.2},
        {"entropy": 2.0},
        {"clip_fraction": 0.4},
        {"explained_variance": -0.5},
        {"mismatch_kl": 0.1},
        {"mismatch_weight_mean": 0.5},
        {"mismatch_ess": 0.3},
        {"mismatch_chi2": 1.0},
    ],
)
def test_a_value_at_its_threshold_does_not_stop_a_run(edge: dict[str, float]) -> None:
    assert not any(finding.is_stop for finding in judge(series(*[edge] * 12), RULES))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_rule_says_anything_of_a_healthy_series(data: st.DataObject) -> None:
    """Every metric wanders at random in the range that the papers call normal, from the first step on."""
    healthy = {
        "loss": (-0.1, 0.1), "kl_per_token": (0.0, 0.05), "kl_per_trajectory": (-0.5, 12.0), "approx_kl": (0.0, 0.02),
        "grad_norm": (0.5, 2.0), "entropy": (0.7, 1.3), "clip_fraction": (0.0, 0.2), "first_clip_fraction": (0.0, 0.0),
        "ratio_recompute_maxdev": (0.0, 0.05), "explained_variance": (0.0, 1.0), "mismatch_abs_prob_mean": (0.0, 0.005),
        "mismatch_pearson": (0.99, 1.0), "mismatch_kl": (0.0, 0.01), "mismatch_chi2": (0.0, 1.0),
        "mismatch_weight_mean": (0.9, 1.1), "mismatch_ess": (0.7, 1.0), "zero_variance_fraction": (0.0, 0.7),
        "infra_failed_fraction": (0.0, 0.02), "malformed_call_fraction": (0.0, 0.2),
        "repeated_ngram_fraction": (0.0, 0.2), "score_train": (0.0, 0.97), "value_mean": (-1.0, 1.0),
    }  # fmt: skip
    n_steps = data.draw(st.integers(1, 40))
    rng = data.draw(st.randoms(use_true_random=False))
    names = data.draw(st.sets(st.sampled_from(sorted(healthy))))
    rows = [{"step": n, **{name: rng.uniform(*healthy[name]) for name in names}} for n in range(1, n_steps + 1)]
    assert judge(rows, RULES) == judge(rows, CRITIC_FREE) == judge(rows, ADAPTIVE) == []
    assert suspect_step(rows, RULES) is None


def test_a_slow_signal_must_be_out_of_bounds_without_a_break() -> None:
    bad = {"clip_fraction": 0.9}
    history = series(*[bad] * 4, {}, *[bad] * 4)
    assert not any(finding.is_stop for n in range(1, len(history) + 1) for finding in judge(history[:n], RULES))


def test_an_abandoned_update_now_and_then_does_not_stop_a_run() -> None:
    abandoned = {"abandoned_minibatches": 1.0}
    assert judge(series(abandoned, abandoned, {}, abandoned, abandoned), RULES) == []


def test_two_spikes_of_the_gradient_stop_a_run_only_near_each_other() -> None:
    spike: dict[str, float] = {"grad_norm": 30.0}
    assert found(series(spike, *[{}] * 8, spike))["grad_norm_spike"].is_stop
    assert not found(series(spike, *[{}] * 9, spike))["grad_norm_spike"].is_stop


def test_the_first_gradients_are_compared_with_nothing() -> None:
    rows = [{"step": n, "grad_norm": norm} for n, norm in enumerate([0.001, 90.0, 0.001, 90.0] * 2, 1)]
    assert all(judge(rows[:n], RULES) == [] for n in range(1, 9))


def test_null_switches_a_limit_off() -> None:
    names = [
        name
        for name, info in GuardsConfig.model_fields.items()
        if type(None) in getattr(info.annotation, "__args__", ())
    ]
    off = rules(PPOConfig(guards=GuardsConfig(**dict.fromkeys(names))))
    limits = {rule.name: (rule.warn, rule.stop) for rule in off if rule.warn or rule.stop}
    assert limits.keys() == {"non_finite", "skipped_steps", "holdout_coverage"}


def test_patience_comes_from_the_config() -> None:
    bad = {"entropy": 0.0}
    for patience in (1, 2):
        table = rules(PPOConfig(guards=GuardsConfig(patience_steps=patience)))
        assert first_step("entropy_collapse", bad, is_stop=True, table=table) == patience


def test_entropy_is_judged_against_the_first_step_of_the_whole_run() -> None:
    history = [{"step": 1, **HEALTHY, "entropy": 10.0}, *series(healthy=6)[1:]]
    assert found(history)["entropy_collapse"].is_stop
    assert judge(history[1:], RULES) == []


def test_a_finding_says_what_it_saw() -> None:
    finding = found(series(*[{"clip_fraction": 0.412}] * 5))["clip_fraction"]
    assert str(finding).startswith("clip_fraction is above 0.4 5 times in a row; last values: 0.05,")
    assert str(finding).endswith("0.412")
    assert len(found(series(*[{"clip_fraction": 0.412}] * 5, healthy=100))["clip_fraction"].points) == 50
    json.dumps(finding.to_record())


def test_a_warning_is_given_once_and_again_after_a_recovery() -> None:
    bad = {"clip_fraction": 0.3}
    history = series(bad, bad, {}, bad)
    told = [[finding.rule.name for finding in new_warnings(history[:n], RULES)] for n in range(13, 17)]
    assert told == [["clip_fraction"], [], [], ["clip_fraction"]]


def test_the_last_good_step_is_from_before_the_signal_went_bad() -> None:
    update = found(series(*[{"clip_fraction": 0.5}] * 5))["clip_fraction"]
    assert update.good_step == 12  # the thirteenth update was the first bad one
    policy = found(series(*[{"entropy": 0.1}] * 5))["entropy_collapse"]
    assert policy.good_step == 11  # the policy that step 13 sampled from was made by step 12
    assert found(series({"kl_per_token": 0.3}))["kl"].good_step == 11
    spikes = found(series({"grad_norm": 30.0}, *[{}] * 5, {"grad_norm": 30.0}))["grad_norm_spike"]
    assert spikes.good_step == 12


def test_the_step_that_a_stop_would_go_back_to_is_known_before_it_stops() -> None:
    bad = {"entropy": 0.1}
    assert [suspect_step(series(*[bad] * n), RULES) for n in range(6)] == [None, 11, 11, 11, 11, 11]
    assert suspect_step(series(*[bad] * 4, {}), RULES) is None


def evaluations(*scores: tuple[float, float | None], error: float = 0.0) -> list[dict[str, float]]:
    """A validation score, and the hold-out's where there is one, every second step; compared as HoldoutHistory does."""
    history = series(healthy=2 * len(scores))
    best: tuple[float, float] | None = None
    for row, (proxy, holdout) in zip(history[1::2], scores, strict=True):
        row["reward_validation"] = proxy
        if holdout is None:
            continue
        row["holdout_score_validation"] = holdout
        if best is not None:
            row |= {"holdout_fall_validation": best[1] - holdout, "holdout_fall_reward_rise": proxy - best[0]}
            row |= {"holdout_fall_validation_stderr": error, "holdout_fall_reward_rise_stderr": error}
        best = (proxy, holdout) if best is None or holdout > best[1] else best
    return history


FALLING = [(0.3 + 0.05 * n, 0.5 - 0.05 * n) for n in range(6)]
CREEPING = [(0.3 + 0.001 * n, 0.5 - 0.05 * n) for n in range(6)]


def test_a_score_that_rises_while_the_hold_out_falls_warns_at_once_and_stops_at_the_second_evaluation() -> None:
    seen = {n: found(evaluations(*FALLING[: n + 1], error=0.02)).get("gaming") for n in range(4)}
    assert {n: finding.is_stop for n, finding in seen.items() if finding} == {1: False, 2: True, 3: True}
    stop = seen[2]
    assert stop is not None
    assert stop.good_step == 2  # the evaluation that the hold-out liked best


def test_a_score_that_may_have_risen_warns_at_three_evaluations_and_stops_at_five() -> None:
    histories = [evaluations(*CREEPING[: n + 1], error=0.02) for n in range(6)]
    assert not any("gaming" in found(history) for history in histories)
    seen = {n: found(history).get("holdout") for n, history in enumerate(histories)}
    assert {n: finding.is_stop for n, finding in seen.items() if finding} == {3: False, 4: False, 5: True}


def test_a_hold_out_that_falls_less_than_its_noise_stops_nothing() -> None:
    assert not {"holdout", "gaming"} & found(evaluations(*FALLING, error=0.2)).keys()


def test_a_hold_out_that_falls_with_the_score_is_no_hack() -> None:
    falling = evaluations(*((0.5 - 0.05 * n, 0.5 - 0.05 * n) for n in range(6)))
    assert not {"holdout", "gaming"} & found(falling).keys()


def test_a_hold_out_that_recovers_begins_the_count_anew() -> None:
    assert "gaming" not in found(evaluations(*FALLING[:2], (0.5, 0.49), (0.55, 0.5), error=0.02))


def test_evaluations_without_a_hold_out_score_neither_count_nor_interrupt() -> None:
    gap = evaluations(FALLING[0], FALLING[1], (0.4, None), FALLING[2], error=0.02)
    assert found(gap)["gaming"].is_stop


def test_a_perfect_score_stops_a_run_where_the_hold_out_does_not_share_it() -> None:
    assert found(evaluations((0.5, 0.5), (0.98, 0.6)))["suspicious_score"].is_stop
    assert "suspicious_score" not in found(evaluations((0.5, 0.5), (0.97, 0.6)))
    assert "suspicious_score" not in found(evaluations((0.5, 0.5), (0.99, 0.99)))
    history = evaluations((0.5, 0.5), (0.6, 0.6))
    history.append({**HEALTHY, "step": 5, "score_train": 0.99})
    assert found(history)["suspicious_score"].is_stop


def test_a_perfect_score_that_nobody_watches_is_told_and_a_hold_out_that_fails_does_not_share_it() -> None:
    alone = found(evaluations((0.5, None), (1.0, None)))
    assert not alone["unwatched_score"].is_stop
    assert "suspicious_score" not in alone
    assert "unwatched_score" in found(evaluations((0.5, 0.99), (1.0, None)))
    assert "unwatched_score" not in found(evaluations((0.5, 0.5), (1.0, 1.0)))


def test_scores_without_a_spread_stop_nothing_where_the_hold_out_rose_or_is_perfect() -> None:
    collapsed = {"score_train_std": 0.0, **FLAT}
    assert first_step("score_collapse", collapsed, is_stop=True) == 5
    assert first_step("score_collapse", {**collapsed, "holdout_rise_validation": 0.05}, is_stop=True) is None
    assert first_step("score_collapse", {**collapsed, "holdout_score_validation": 0.98}, is_stop=True) is None
    unknown = {key: value for key, value in collapsed.items() if not key.startswith("holdout")}
    assert first_step("score_collapse", unknown, is_stop=True) is None


def test_a_perfect_score_is_taken_from_the_grader_s_scale() -> None:
    assert "suspicious_score" not in found(evaluations((0.5, 0.5), (0.98, 0.6)), rules(PPOConfig(), max_score=10.0))


def test_without_a_hold_out_its_rules_are_silent() -> None:
    history = evaluations(*((0.3 + 0.1 * n, None) for n in range(8)))
    assert not {"holdout", "gaming", "suspicious_score", "score_collapse", "holdout_coverage"} & found(history).keys()


def test_a_jump_of_the_score_warns_once_there_is_a_past_to_compare_with() -> None:
    steady = [(0.3 + 0.01 * (n % 3), None) for n in range(7)]
    assert not found(evaluations(*steady[:7]))
    jump = found(evaluations(*steady[:6], (0.6, None)))["score_jump"]
    assert not jump.is_stop
    assert not found(evaluations(*steady[:4], (0.6, None)))


def test_metrics_that_were_not_measured_are_not_judged() -> None:
    rows = [{"step": n, "explained_variance": math.nan, "mismatch_pearson": math.nan} for n in range(1, 20)]
    assert judge(rows, RULES) == []
