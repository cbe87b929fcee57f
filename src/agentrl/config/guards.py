"""`ppo.guards:` when a run warns and when it stops by itself; docs/guards.md has the rules in one table.

`warn_` and `max_` (or `min_`) of one name are the two limits of one signal. null switches a limit off. Thresholds
without a source are ours; "practice" are those that PPO trainers log and alarm on.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agentrl.config.section import ALLOW_LISTS, Fraction, NonNegative, Positive, PositiveInt, Section

AboveOne = Annotated[float, Field(gt=1)]
Range = Annotated[tuple[NonNegative, NonNegative], ALLOW_LISTS]


class GuardsConfig(Section):
    """When a run warns and when it stops. A loss that is NaN or infinite stops it at once and has no threshold."""

    max_skipped_steps: PositiveInt | None = Field(
        default=3,
        description="Steps in a row with an optimiser step left out because its gradient was not finite; one more "
        "stops the run.",
    )
    warn_kl_per_token: Positive | None = Field(default=0.05, description="As `max_kl_per_token`, to warn.")
    max_kl_per_token: Positive | None = Field(
        default=0.2, description="KL to the reference, nats per action token (k3)."
    )
    max_kl_target_multiple: AboveOne | None = Field(
        default=2.0,
        description="KL to the reference summed over a trajectory (k1), in multiples of "
        "`ppo.kl.target_kl_per_trajectory`, for `patience_steps`. Stops where `ppo.kl.controller: adaptive` steers by "
        "that target, else warns.",
    )
    warn_update_kl: Positive | None = Field(
        default=0.02, description="KL between before and after an update, nats per token (practice)."
    )
    max_update_kl: Positive | None = Field(
        default=0.1,
        description="The same of one minibatch; above it the rest of the step's minibatches are dropped, and three "
        "such steps in a row stop the run (practice).",
    )
    warn_grad_norm_multiple: AboveOne | None = Field(
        default=5.0, description="Gradient norm before clipping, in multiples of the median of the last 50 steps."
    )
    max_grad_norm_multiple: AboveOne | None = Field(
        default=20.0, description="The same; above it twice within 10 steps stops the run."
    )
    max_grad_norm: Positive | None = Field(
        default=100.0, description="Gradient norm before clipping (1,500 was seen where attention sinks were ignored)."
    )
    warn_entropy_fraction: Fraction | None = Field(
        default=0.5, description="Token entropy as a fraction of the first step's; below it, warn (arXiv:2505.22617)."
    )
    min_entropy_fraction: Fraction | None = Field(
        default=0.2, description="Token entropy as a fraction of the first step's; below it the policy has collapsed."
    )
    max_entropy_fraction: AboveOne | None = Field(
        default=2.0, description="Token entropy as a multiple of the first step's; above it the policy dissolves."
    )
    warn_clip_fraction: Fraction | None = Field(default=0.2, description="As `max_clip_fraction`, to warn (practice).")
    max_clip_fraction: Fraction | None = Field(
        default=0.4, description="Fraction of action tokens whose ratio was clipped (practice)."
    )
    max_first_clip_fraction: Fraction | None = Field(
        default=0.0,
        description="The same in a step's first minibatch, before any change: the ratio is 1 there, so more than 0 "
        "means that two passes of the trainer disagree.",
    )
    warn_recompute_maxdev: Positive | None = Field(
        default=0.05,
        description="Largest |ratio - 1| in a step's first minibatch, before any change: 0 in float32 on a CPU, "
        "rounding in bfloat16.",
    )
    warn_mismatch_prob: Positive | None = Field(
        default=0.005,
        description="Mean |difference| of a token's probability in engine and trainer (verl: normally below 0.005).",
    )
    max_mismatch_prob: Positive | None = Field(
        default=0.01,
        description="The same, for `patience_steps`, and before the first update (verl).",
    )
    warn_mismatch_pearson: Fraction | None = Field(
        default=0.99, description="Correlation of the token probabilities of engine and trainer; below it, warn."
    )
    warn_mismatch_kl: Positive | None = Field(
        default=0.01, description="KL(engine || trainer), nats per action token (tinker: stable below 0.01)."
    )
    max_mismatch_kl: Positive | None = Field(default=0.1, description="The same, to stop.")
    max_mismatch_chi2: Positive | None = Field(
        default=1.0, description="Chi-squared divergence of trainer from engine, per action token (verl)."
    )
    warn_mismatch_weight: Range | None = Field(
        default=(0.9, 1.1), description="Range of the mean mismatch weight; outside it, warn (verl)."
    )
    stop_mismatch_weight: Range | None = Field(
        default=(0.5, 2.0), description="Range of the mean mismatch weight; outside it, stop (verl)."
    )
    warn_mismatch_ess: Fraction | None = Field(
        default=0.7, description="Effective sample size of the mismatch weights, as a fraction of the tokens (verl)."
    )
    min_mismatch_ess: Fraction | None = Field(default=0.3, description="The same, to stop (verl).")
    warn_zero_variance_fraction: Fraction | None = Field(
        default=0.7, description="Fraction of tasks whose samples all got the same reward, and so teach no group."
    )
    max_zero_variance_fraction: Fraction | None = Field(
        default=0.95,
        description="The same, for `patience_steps`; stops updates without a critic.",
    )
    warn_explained_variance: float | None = Field(
        default=0.0, description="Explained variance of the critic, for `patience_steps`; below it, warn."
    )
    min_explained_variance: float | None = Field(
        default=-0.5,
        description="The same, for twice `patience_steps`, to stop; 1 is perfect, 0 a constant.",
    )
    warn_ungraded_fraction: Fraction | None = Field(
        default=0.02, description="Fraction of a step's rollouts without a grade or broken by infrastructure."
    )
    max_ungraded_fraction: Fraction = Field(
        default=0.1,
        description="The same; above it the step is withheld and the run pauses.",
    )
    max_outage_seconds: NonNegative = Field(
        default=3600.0, description="Seconds that a run pauses for failing endpoints to recover before it stops."
    )
    max_grader_versions: PositiveInt | None = Field(
        default=1,
        description="Versions that the grader's scores may be of within a run: a grader that was replaced under way "
        "measures something else.",
    )
    max_score_fraction: Fraction | None = Field(
        default=0.98,
        description="Mean score on train or validation, as a fraction of `grading.max_score`; reaching it stops the "
        "run where a hold-out grader does not agree (a perfect score is a hack until shown otherwise).",
    )
    warn_score_jump: Positive | None = Field(
        default=5.0,
        description="Rise of the validation score from one evaluation to the next, in standard deviations of the "
        "rises before it.",
    )
    max_sure_holdout_evaluations: PositiveInt | None = Field(
        default=2,
        description="Evaluations in a row with the hold-out score below its best and the score above what it was then, "
        "both by more than two paired standard errors; one warns, so many stop the run.",
    )
    warn_holdout_evaluations: PositiveInt | None = Field(
        default=3,
        description="Evaluations in a row with the hold-out score below its best by more than two paired standard "
        "errors, and the score above what it was then by anything; so many warn (arXiv:2210.10760).",
    )
    max_holdout_evaluations: PositiveInt | None = Field(
        default=5, description="The same; so many stop the run (arXiv:2210.10760)."
    )
    min_score_std_fraction: Fraction | None = Field(
        default=0.05,
        description="Standard deviation of a step's scores as a fraction of the first step's; below it for "
        "`patience_steps`, while the hold-out score has not risen since the baseline, every answer earns the same for "
        "nothing learned, and the run stops.",
    )
    warn_malformed_fraction: Fraction | None = Field(
        default=0.2, description="Tool calls that could not be read, as a fraction of all attempts to call."
    )
    warn_repetition_rise: Fraction | None = Field(
        default=0.2,
        description="Share of repeated 4-grams within a turn, above the first step's: text degenerates before scores.",
    )
    patience_steps: PositiveInt = Field(
        default=5, description="Steps in a row that a slow signal (entropy, clipping, groups) must be out of bounds."
    )
