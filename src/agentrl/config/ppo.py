"""`ppo:` the update. Defaults are the vetted algorithm, so a key in YAML is visibly a choice.

Sources: Schulman et al. 2017 (arXiv:1707.06347) for PPO, Schulman et al. 2016 (arXiv:1506.02438) for GAE, Ziegler et
al. 2019 (arXiv:1909.08593) for the KL penalty and its controller, DAPO (arXiv:2503.14476) for the wider upper clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, model_validator

from agentrl.config.guards import GuardsConfig
from agentrl.config.presets import Advantage, Preset, with_preset
from agentrl.config.rewards import (
    DynamicSamplingConfig,
    ProcessRewardsConfig,
    TokenPenaltyConfig,
    ToolEfficiencyConfig,
)
from agentrl.config.section import (
    ALLOW_LISTS,
    Count,
    Fraction,
    NonNegative,
    Positive,
    PositiveInt,
    Problem,
    Section,
)

HalfOpen = Annotated[float, Field(ge=0, lt=1)]
Range = Annotated[tuple[Positive, Positive], ALLOW_LISTS]
MAX_SEQUENCE_CLIP = 0.02


class KLConfig(Section):
    """KL(policy || reference), per action token. Only two of the six placements and estimators are right."""

    coef: NonNegative = Field(default=0.05, description="beta: reward lost per nat of KL; 0 switches the penalty off.")
    placement: Literal["reward", "loss"] = Field(
        default="reward", description="`reward` penalises each token's reward before GAE; `loss` adds a loss term."
    )
    estimator: Literal["k1", "k2", "k3"] = Field(
        default="k1", description="Schulman's estimators of the KL: k1 belongs to `reward`, k2 to `loss` (token-local)."
    )
    controller: Literal["fixed", "adaptive"] = Field(
        default="fixed", description="`adaptive` moves beta towards the target KL (Ziegler et al. 2019)."
    )
    target_kl_per_trajectory: Positive = Field(
        default=6.0, description="Adaptive controller's target: nats summed over a trajectory's action tokens."
    )
    horizon: PositiveInt = Field(default=10_000, description="Adaptive controller's time constant, in trajectories.")
    min_coef: NonNegative = Field(default=1.0e-4, description="Adaptive controller's lower bound of beta.")
    max_coef: Positive = Field(default=1.0, description="Adaptive controller's upper bound of beta.")

    def problems(self) -> Iterator[Problem]:
        match self.placement, self.estimator:
            case "loss", "k1":
                why = "the gradient of k1 as a loss is zero on average, so it would regularise nothing"
                yield Problem(("estimator",), f"found k1 with placement: loss; allowed: k2, as {why}")
            case "loss", "k3":
                why = "k3 as a loss follows KL(reference || policy) and ends at another policy"
                yield Problem(("estimator",), f"found k3 with placement: loss; allowed: k2, as {why}")
            case "reward", "k2" | "k3":
                why = f"{self.estimator} inside the reward optimises something other than the KL"
                yield Problem(("estimator",), f"found {self.estimator} with placement: reward; allowed: k1, as {why}")
        if self.min_coef > self.max_coef:
            yield Problem(("min_coef",), f"found {self.min_coef:g}; allowed: at most max_coef ({self.max_coef:g})")
        elif self.controller == "adaptive" and not self.min_coef <= self.coef <= self.max_coef:
            yield Problem(
                ("coef",),
                f"found {self.coef:g} with controller: adaptive; "
                f"allowed: from min_coef ({self.min_coef:g}) to max_coef ({self.max_coef:g})",
            )


class PPOConfig(Section):
    """One step: tasks_per_step x samples_per_task rollouts, then `epochs` passes in `minibatches` updates."""

    preset: Preset = Field(
        default="token_gae",
        description="A named algorithm: sets the defaults of the keys that make it up (docs/algorithm.md has the "
        "table); a key that is written wins.",
    )

    steps: Count = Field(default=20, description="PPO steps; 0 only evaluates the baseline.")
    tasks_per_step: PositiveInt = Field(default=32, description="Tasks drawn a step.")
    samples_per_task: PositiveInt = Field(
        default=4,
        validation_alias=AliasChoices("samples_per_task", "compute_multiplier"),
        description="Rollouts a task; `compute_multiplier`, the name of hosted RFT, is read too.",
    )
    epochs: PositiveInt = Field(default=1, description="Passes over a step's rollouts.")
    minibatches: PositiveInt = Field(default=4, description="Optimiser updates a pass.")
    microbatch_tokens: PositiveInt = Field(
        default=4096,
        description="Tokens of one forward and backward pass, what trajectories begin with in common counted once: "
        "bounds memory, changes no result.",
    )
    learning_rate: NonNegative = Field(default=1.0e-5, description="Learning rate of the policy; 0 trains nothing.")
    learning_rate_schedule: Literal["constant", "linear", "cosine"] = Field(
        default="constant", description="All learning rates after the warm-up: as they are, or down to 0 at `steps`."
    )
    learning_rate_warmup_steps: Count = Field(
        default=0, description="Steps over which all learning rates rise from 0 on a line."
    )
    value_learning_rate: NonNegative = Field(
        default=1.0e-3, description="Learning rate of the value head, which starts at zero whatever it reads."
    )
    critic_learning_rate: NonNegative = Field(
        default=2.0e-5,
        description="Learning rate of the trunk below the value head with `policy.critic: separate`: twice the "
        "policy's default, as a critic should be ahead (arXiv:2503.01491).",
    )
    betas: Annotated[tuple[HalfOpen, HalfOpen], ALLOW_LISTS] = Field(
        default=(0.9, 0.95), description="Decay rates of AdamW's two moments."
    )
    adam_eps: Positive = Field(default=1.0e-5, description="AdamW's epsilon.")
    weight_decay: NonNegative = Field(default=0.0, description="Decoupled weight decay of AdamW.")
    max_grad_norm: Positive = Field(
        default=1.0, description="Global gradient norm to clip to, policy and value together."
    )
    clip_range_low: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.2, description="The ratio is clipped below at 1 minus this."
    )
    clip_range_high: Positive = Field(default=0.28, description="The ratio is clipped above at 1 plus this (DAPO).")
    dual_clip: Annotated[float, Field(gt=1)] | None = Field(
        default=3.0, description="Bounds the loss of negative advantages at this multiple; null is off."
    )
    ratio_level: Literal["token", "sequence"] = Field(
        default="token",
        description="What is clipped: each token's ratio, or its geometric mean over the trajectory's action tokens "
        "(GSPO).",
    )
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(
        default=1.0, description="Discount per action token; per turn with `turn_gae` and `gigpo`."
    )
    gae_lambda: Fraction = Field(default=0.95, description="GAE's lambda: 1 is Monte Carlo, 0 the TD error.")
    advantage: Advantage = Field(
        default="token_gae",
        description="GAE over action tokens (tool output left out) or over turns; or without a critic: the reward "
        "beside those of the task's other samples.",
    )
    scale_by_group_std: bool = Field(
        default=True, description="`grpo` and `gigpo`: divide by the group's (sample) standard deviation."
    )
    min_group_std: NonNegative = Field(
        default=0.05,
        description="Least standard deviation to divide by: below it a judge's noise would be made as loud as success.",
    )
    step_weight: NonNegative = Field(
        default=1.0, description="`gigpo`: weight of the advantage over turns that began from the same state."
    )
    whiten_advantages: bool = Field(
        default=True, description="Advantages to mean 0 and standard deviation 1 over the step's action tokens."
    )
    aggregation: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm"] = Field(
        default="token_mean", description="How token losses become one number."
    )
    aggregation_constant: Positive = Field(
        default=1024.0, description="`const_norm` divides token sums by this (tokens) and by the trajectories."
    )
    entropy_coef: NonNegative = Field(default=0.0, description="Weight of the entropy bonus.")
    value_coef: NonNegative = Field(default=0.1, description="Weight of the value loss.")
    value_clip: Positive = Field(default=0.2, description="Values move at most this far from the old ones in the loss.")
    critic_warmup_steps: Count = Field(
        default=20, description="Steps that train only the critic, on the frozen policy's rollouts, before the first."
    )
    mismatch_cap: Annotated[float, Field(ge=1)] = Field(
        default=2.0, description="Cap of the weight old/engine per token (truncated importance sampling)."
    )
    old_logprobs: Literal["recomputed", "engine"] = Field(
        default="recomputed",
        description="What the ratio is taken to: the trainer's own log-probabilities before the update, with mismatch "
        "weights; or the engine's, whose difference is then clipped with the rest (and, without a critic, one forward "
        "pass less).",
    )
    mismatch_trajectory_range: Range | None = Field(
        default=None,
        description="Range of a trajectory's geometric mean of old/engine, such as [0.99, 1.01]; a trajectory outside "
        "is dropped from the loss; null keeps all.",
    )
    mismatch_token_range: Range | None = Field(
        default=None,
        description="Range of old/engine of a single token, such as [1.0e-4, 100]; a trajectory with a token outside "
        "is dropped from the loss; null keeps all.",
    )
    kl: KLConfig = Field(default=KLConfig(), description="The penalty that keeps the policy near the baseline.")
    max_staleness: Count = Field(
        default=0, description="Updates that a rollout's oldest token may lie behind; older rollouts are dropped."
    )
    overlap: bool = Field(
        default=False,
        description="Roll out the next step's tasks while the update runs, with the weights before it; needs "
        "`max_staleness: 1`.",
    )
    token_penalty: TokenPenaltyConfig = Field(default=TokenPenaltyConfig(), description="The price of a sampled token.")
    malformed_call_penalty: NonNegative = Field(
        default=0.0, description="Reward taken off for each tool call that cannot be read."
    )
    tool_efficiency: ToolEfficiencyConfig | None = Field(
        default=None, description="A price on tool calls, as a factor on the score; null is off."
    )
    process_rewards: ProcessRewardsConfig | None = Field(
        default=None, description="Rewards for the way to the answer; null rewards the answer alone."
    )
    dynamic_sampling: DynamicSamplingConfig | None = Field(
        default=None, description="Replace tasks whose samples all scored the same; null trains on what was drawn."
    )
    guards: GuardsConfig = Field(default=GuardsConfig(), description="When the run warns, and when it stops.")

    @property
    def has_critic(self) -> bool:
        """Whether advantages come from values; else they come from a task's other samples."""
        return self.advantage in ("token_gae", "turn_gae")

    @model_validator(mode="before")
    @classmethod
    def _preset_sets_defaults(cls, values: Any) -> Any:
        return with_preset(values) if isinstance(values, dict) else values

    def warnings(self) -> Iterator[str]:
        """What is allowed, and not what it seems."""
        if self.kl.placement == "loss":
            yield (
                "ppo.kl.placement: loss counts each token's KL by itself; early tokens do not pay for the KL that they "
                "cause later, as they do with placement: reward"
            )

    def problems(self) -> Iterator[Problem]:
        yield from self._potentials_cancel()
        yield from self._ranges_fit()
        if not self.has_critic:
            yield from self._nothing_asks_for_a_critic()
        if self.overlap and not self.max_staleness:
            why = "a batch that is rolled out during an update is one update behind when it is learned from"
            yield Problem(("max_staleness",), f"found 0 with overlap: true; allowed: at least 1, as {why}")
        rollouts = self.tasks_per_step * self.samples_per_task
        if self.minibatches > rollouts:
            yield Problem(
                ("minibatches",),
                f"found {self.minibatches}; allowed: at most {rollouts}, the rollouts of a step "
                f"(tasks_per_step {self.tasks_per_step} x samples_per_task {self.samples_per_task})",
            )

    def _potentials_cancel(self) -> Iterator[Problem]:
        """Shaping leaves the best policy the best where its discount is the advantage's, and no baseline removes it."""
        if self.process_rewards is None or not self.process_rewards.potentials:
            return
        if self.advantage in ("rloo", "grpo"):
            why = "which compares whole episodes, and what potentials add to one is the same for all samples of a task"
            yield Problem(
                ("process_rewards", "potentials"),
                f"found some with advantage: {self.advantage}, {why}; allowed with token_gae, turn_gae and gigpo",
            )
        elif self.gamma < 1 and self.advantage != "turn_gae":
            why = "potentials change from turn to turn, so only turn_gae may discount them"
            yield Problem(("gamma",), f"found {self.gamma:g} with process_rewards.potentials; allowed: 1, as {why}")

    def _ranges_fit(self) -> Iterator[Problem]:
        if self.ratio_level == "sequence":
            for key in ("clip_range_low", "clip_range_high"):
                if (found := getattr(self, key)) > MAX_SEQUENCE_CLIP:
                    why = "the mean over a trajectory hardly moves, so it would never be clipped (GSPO: about 4.0e-4)"
                    allowed = f"allowed: at most {MAX_SEQUENCE_CLIP:g}"
                    yield Problem((key,), f"found {found:g} with ratio_level: sequence; {allowed}, as {why}")
        for key in ("mismatch_trajectory_range", "mismatch_token_range"):
            if (bounds := getattr(self, key)) is None:
                continue
            if not bounds[0] < 1 < bounds[1]:
                yield Problem((key,), f"found {list(bounds)}; allowed: a range around 1, which is no mismatch")
            elif self.old_logprobs == "engine":
                why = "the engine's log-probabilities are then compared with nothing"
                yield Problem((key,), f"found {list(bounds)} with old_logprobs: engine; allowed: null, as {why}")

    def _nothing_asks_for_a_critic(self) -> Iterator[Problem]:
        given = f"with advantage: {self.advantage}"
        if self.samples_per_task < 2:
            why = "a group of one has nothing to be compared with"
            yield Problem(("samples_per_task",), f"found 1 {given}; allowed: at least 2, as {why}")
        if self.whiten_advantages:
            why = "the group is the baseline already, and a second one would undo its zeros"
            yield Problem(("whiten_advantages",), f"found true {given}; allowed: false, as {why}")
        for key in ("critic_warmup_steps", "value_coef"):
            if found := getattr(self, key):
                yield Problem((key,), f"found {found:g} {given}; allowed: 0, as there is no critic to train")
