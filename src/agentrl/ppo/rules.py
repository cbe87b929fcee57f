"""The guards' rules as data: a signal, how it is looked at, and the limits at which it warns and stops.

One line of `rules` is one line of the table in docs/guards.md. Sources stand at the thresholds, in config/guards.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from agentrl.config import GuardsConfig, PPOConfig
from agentrl.ppo.signals import (
    HOLDOUT,
    PROXY,
    Limit,
    View,
    above,
    as_is,
    at_least,
    below,
    falls_of_the_holdout,
    non_finite,
    outside,
    relative_to_first,
    relative_to_median,
    rise_from_first,
    rises_in_deviations,
    score_that_no_holdout_saw,
    score_that_the_holdout_does_not_share,
    spread_without_gain,
)

LOWER_RATE = "lower ppo.learning_rate"
MORE_KL = f"{LOWER_RATE}, or raise ppo.kl.coef"
ENGINE = "compare precision, temperature, weights and attention of engine and trainer"
SAME_PASSES = "look for dropout, and for kernels that do not repeat themselves: two equal passes disagree"
READ = "read the rollouts of that step before anything else"
BLIND = "holdout_missing of the evaluation's rollouts says why; until then no checkpoint is chosen"
HACK = "take the policy that the hold-out likes best, read the samples, and close the hole in the grader"

GAMING_RULES = ("gaming", "holdout", "suspicious_score", "score_collapse")
"""Those that fire where a score and what it should mean part: episodes say more than figures do."""


@dataclass(frozen=True)
class Rule:
    """One line of the table."""

    name: str
    signal: str
    """What its messages call the signal: its key in metrics.jsonl, and how that is looked at."""
    view: View
    warn: Limit | None
    stop: Limit | None
    repair: str
    """What to do first where it fires."""
    is_update: bool = False
    """The signal is of the step's update, or of an evaluation after it; else of the policy that went into the step."""


def rules(config: PPOConfig, *, max_score: float = 1.0) -> tuple[Rule, ...]:
    """All rules under a config; where several stop a run, the first of them is named.

    Args:
        max_score: the best score that the grader gives.
    """
    on, slow = config.guards, config.guards.patience_steps
    return (*_trainer_rules(config, on, slow), *_policy_rules(config, on, slow), *_score_rules(on, max_score))


def _trainer_rules(config: PPOConfig, on: GuardsConfig, slow: int) -> tuple[Rule, ...]:
    """The trainer against itself and against the engine: what else is measured means nothing where these fail."""
    # Under staleness, engine and trainer also differ by the updates that lie between them.
    is_fresh = config.max_staleness == 0
    skips = None if on.max_skipped_steps is None else Limit(high=0, steps=on.max_skipped_steps + 1)
    return (
        Rule("non_finite", "metrics that are not finite", non_finite, None, above(0), LOWER_RATE, is_update=True),
        Rule("skipped_steps", *metric("skipped_optimizer_steps"), above(0), skips, LOWER_RATE, is_update=True),
        Rule("first_clip", *metric("first_clip_fraction"), None, above(on.max_first_clip_fraction), SAME_PASSES),
        Rule("recompute", *metric("ratio_recompute_maxdev"), above(on.warn_recompute_maxdev), None, SAME_PASSES),
        Rule(
            "mismatch_prob",
            *metric("mismatch_abs_prob_mean"),
            above(on.warn_mismatch_prob) if is_fresh else None,
            above(on.max_mismatch_prob, slow) if is_fresh else None,
            ENGINE,
        ),
        Rule(
            "mismatch_pearson",
            *metric("mismatch_pearson"),
            below(on.warn_mismatch_pearson) if is_fresh else None,
            None,
            ENGINE,
        ),
        Rule("mismatch_kl", *metric("mismatch_kl"), above(on.warn_mismatch_kl), above(on.max_mismatch_kl), ENGINE),
        Rule("mismatch_chi2", *metric("mismatch_chi2"), None, above(on.max_mismatch_chi2), ENGINE),
        Rule(
            "mismatch_weight",
            *metric("mismatch_weight_mean"),
            outside(on.warn_mismatch_weight),
            outside(on.stop_mismatch_weight),
            ENGINE,
        ),
        Rule("mismatch_ess", *metric("mismatch_ess"), below(on.warn_mismatch_ess), below(on.min_mismatch_ess), ENGINE),
    )


def _policy_rules(config: PPOConfig, on: GuardsConfig, slow: int) -> tuple[Rule, ...]:
    """How far and how fast the policy moves, what it turns into, and whether there is anything to learn."""
    by_token = config.ratio_level == "token"  # GSPO clips many times more, on purpose (arXiv:2507.18071, section 5)
    multiple = on.max_kl_target_multiple
    nats = above(multiple and multiple * config.kl.target_kl_per_trajectory, slow)
    is_steered = config.kl.controller == "adaptive"
    abandoned = as_is("abandoned_minibatches", absent=0.0)
    three_updates = None if on.max_update_kl is None else Limit(high=0, steps=3)
    median_of = ("grad_norm over its running median", relative_to_median("grad_norm"))
    two_spikes = None if (most := on.max_grad_norm_multiple) is None else Limit(high=most, steps=2, within=10)
    entropy = ("entropy as a fraction of step 1's", relative_to_first("entropy"))
    repetition = ("rise of repeated_ngram_fraction since step 1", rise_from_first("repeated_ngram_fraction"))
    groups = above(on.max_zero_variance_fraction, slow)
    return (
        Rule("kl", *metric("kl_per_token"), above(on.warn_kl_per_token), above(on.max_kl_per_token), MORE_KL),
        Rule("kl_per_trajectory", *metric("kl_per_trajectory"), nats, nats if is_steered else None, MORE_KL),
        Rule("approx_kl", *metric("approx_kl"), above(on.warn_update_kl), None, LOWER_RATE, is_update=True),
        Rule("update_kl", "abandoned_minibatches", abandoned, None, three_updates, LOWER_RATE, is_update=True),
        Rule("grad_norm", *metric("grad_norm"), None, above(on.max_grad_norm), LOWER_RATE, is_update=True),
        Rule("grad_norm_spike", *median_of, above(on.warn_grad_norm_multiple), two_spikes, LOWER_RATE, is_update=True),
        Rule(
            "clip_fraction",
            *metric("clip_fraction"),
            above(on.warn_clip_fraction) if by_token else None,
            above(on.max_clip_fraction, slow) if by_token else None,
            f"{LOWER_RATE}, or take fewer minibatches and epochs",
            is_update=True,
        ),
        Rule(
            "entropy_collapse",
            *entropy,
            below(on.warn_entropy_fraction),
            below(on.min_entropy_fraction, slow),
            f"{LOWER_RATE}, raise ppo.clip_range_high, or look for a reward that one answer always gets",
        ),
        Rule("entropy_blow_up", *entropy, None, above(on.max_entropy_fraction, slow), f"{LOWER_RATE}; {ENGINE}"),
        Rule("malformed_calls", *metric("malformed_call_fraction"), above(on.warn_malformed_fraction), None, READ),
        Rule("repetition", *repetition, above(on.warn_repetition_rise), None, READ),
        Rule(
            "zero_variance",
            *metric("zero_variance_fraction"),
            above(on.warn_zero_variance_fraction),
            None if config.has_critic else groups,  # a critic learns from groups without a spread, too
            "the tasks are too easy or too hard: switch ppo.dynamic_sampling on, or take more samples_per_task",
        ),
        Rule(
            "explained_variance",
            *metric("explained_variance"),
            below(on.warn_explained_variance, slow),
            below(on.min_explained_variance, 2 * slow),
            "raise ppo.value_learning_rate or ppo.critic_warmup_steps",
        ),
    )


def _score_rules(on: GuardsConfig, max_score: float) -> tuple[Rule, ...]:
    """Whether scores can be had, and still mean what they should.

    What concerns a hold-out grader is silent without its columns in the metrics.
    """
    ceiling = None if on.max_score_fraction is None else on.max_score_fraction * max_score
    alone = ("score that the hold-out does not share", score_that_the_holdout_does_not_share(ceiling))
    unseen = ("score that no hold-out saw", score_that_no_holdout_saw)
    jump = (f"rise of {PROXY} in standard deviations", rises_in_deviations)
    sure = (f"fall of {HOLDOUT} while {PROXY} surely rose", falls_of_the_holdout(is_rise_certain=True))
    falls = (f"fall of {HOLDOUT} while {PROXY} rose", falls_of_the_holdout(is_rise_certain=False))
    flat = ("score_train_std as a fraction of step 1's, the hold-out not having risen", spread_without_gain(ceiling))
    counts = (on.max_sure_holdout_evaluations, on.warn_holdout_evaluations, on.max_holdout_evaluations)
    twice, few, many = (Limit(high=0, steps=n) if n else None for n in counts)
    lost = above(on.warn_ungraded_fraction)  # from max_ungraded_fraction on the run pauses: rollout/outage.py
    lost_holdout = below(1 - on.max_ungraded_fraction)
    return (
        Rule("ungraded_rollouts", *metric("infra_failed_fraction"), lost, None, "infra_failed_CLASS says what breaks"),
        Rule("holdout_coverage", *metric("holdout_coverage_validation"), lost_holdout, None, BLIND, is_update=True),
        Rule("suspicious_score", *alone, None, at_least(ceiling), READ, is_update=True),
        Rule("unwatched_score", *unseen, at_least(ceiling), None, f"{READ}; watch the score: grading.holdout"),
        Rule("score_jump", *jump, above(on.warn_score_jump), None, READ, is_update=True),
        Rule("gaming", *sure, twice and above(0), twice, HACK, is_update=True),
        Rule("holdout", *falls, few, many, HACK, is_update=True),
        Rule("score_collapse", *flat, None, below(on.min_score_std_fraction, on.patience_steps), HACK),
    )


def metric(key: str) -> tuple[str, View]:
    """A key of metrics.jsonl, judged as it is."""
    return key, as_is(key)
