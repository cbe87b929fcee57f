"""`ppo:` the update. Defaults are the vetted algorithm, so a key in YAML is visibly a choice.

Sources: Schulman et al. 2017 (arXiv:1707.06347) for PPO, Schulman et al. 2016 (arXiv:1506.02438) for GAE, Ziegler et
al. 2019 (arXiv:1909.08593) for the KL penalty and its controller, DAPO (arXiv:2503.14476) for the wider upper clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.guards import GuardsConfig
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

    steps: Count = Field(default=20, description="PPO steps; 0 only evaluates the baseline.")
    tasks_per_step: PositiveInt = Field(default=32, description="Tasks drawn a step.")
    samples_per_task: PositiveInt = Field(
        default=4, description="Rollouts a task (what hosted RFT calls compute_multiplier)."
    )
    epochs: PositiveInt = Field(default=1, description="Passes over a step's rollouts.")
    minibatches: PositiveInt = Field(default=4, description="Optimiser updates a pass.")
    microbatch_tokens: PositiveInt = Field(
        default=4096, description="Padded tokens of one forward and backward pass: bounds memory, changes no result."
    )
    learning_rate: NonNegative = Field(default=1.0e-5, description="Learning rate of the policy; 0 trains nothing.")
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
    gamma: Annotated[float, Field(gt=0, le=1)] = Field(default=1.0, description="Discount per action token.")
    gae_lambda: Fraction = Field(default=0.95, description="GAE's lambda: 1 is Monte Carlo, 0 the TD error.")
    advantage: Literal["token_gae"] = Field(
        default="token_gae", description="GAE over action tokens, tool output left out."
    )
    whiten_advantages: bool = Field(
        default=True, description="Advantages to mean 0 and standard deviation 1 over the step's action tokens."
    )
    aggregation: Literal["token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm"] = Field(
        default="token_mean", description="How token losses become one number."
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

    def problems(self) -> Iterator[Problem]:
        yield from self._potentials_cancel()
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
        advantage: str = self.advantage
        if advantage in ("rloo", "grpo"):
            why = "which compares whole episodes, and what potentials add to one is the same for all samples of a task"
            yield Problem(
                ("process_rewards", "potentials"),
                f"found some with advantage: {advantage}, {why}; allowed with token_gae, turn_gae and gigpo",
            )
        elif self.gamma < 1 and advantage != "turn_gae":
            why = "potentials change from turn to turn, so only turn_gae may discount them"
            yield Problem(("gamma",), f"found {self.gamma:g} with process_rewards.potentials; allowed: 1, as {why}")
