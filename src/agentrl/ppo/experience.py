"""What an update learns from: a batch, what three policies said about its tokens, and the advantages that follow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.phases import Phases
from agentrl.policy.policy import Policy
from agentrl.policy.ranks import Ranks
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.advantage import Advantages, explained_variance, gae, token_rewards, turn_gae, whiten
from agentrl.ppo.batch import TrajectoryBatch
from agentrl.ppo.groups import group_advantages, kl_advantages
from agentrl.ppo.kl import kl_estimate
from agentrl.ppo.mismatch import mismatch_metrics, mismatch_weights, trusted


@dataclass(frozen=True)
class Experience:
    """A batch and everything about it that stays fixed during the update; all [B, T], zero off the mask."""

    batch: TrajectoryBatch
    old_logprobs: Tensor
    ref_logprobs: Tensor
    values: Tensor
    advantages: Tensor
    returns: Tensor
    weights: Tensor
    """Mismatch weights, engine against trainer."""
    is_trusted: Tensor
    """[B] False for a trajectory that the mismatch filters keep out of the loss."""

    def rows(self, index: Tensor) -> Experience:
        batch = self.batch.rows(index)
        width = batch.token_ids.shape[1]

        def cut(part: Tensor) -> Tensor:
            return part[index][:, :width]

        return Experience(
            batch=batch,
            old_logprobs=cut(self.old_logprobs),
            ref_logprobs=cut(self.ref_logprobs),
            values=cut(self.values),
            advantages=cut(self.advantages),
            returns=cut(self.returns),
            weights=cut(self.weights),
            is_trusted=self.is_trusted[index],
        )


@torch.no_grad()
def evaluate_pieces(
    policy: Policy,
    reference: ReferencePolicy,
    batch: TrajectoryBatch,
    pieces: Sequence[Tensor],
    config: PPOConfig,
    ranks: Ranks,
    phases: Phases,
) -> tuple[Tensor, Tensor, Tensor]:
    """(old, reference) log-probabilities and values of the whole batch, [B, T] each; ranks share the passes.

    With `old_logprobs: engine` the old ones are the engine's; without a critic the policy's pass is then left out.
    """
    old, ref, values = (torch.zeros_like(batch.engine_logprobs) for _ in range(3))
    by_engine = config.old_logprobs == "engine"
    for piece in ranks.share(pieces):
        rows = batch.rows(piece)
        width = rows.token_ids.shape[1]
        if config.has_critic or not by_engine:
            with phases("old_logprobs"):
                output = policy.evaluate(rows.token_ids, rows.action_mask, with_values=config.has_critic)
            old[piece, :width], values[piece, :width] = output.logprobs.to(old), output.values.to(old)
        with phases("reference"):
            ref[piece, :width] = reference.logprobs(rows.token_ids, rows.action_mask).to(old)
    old, ref, values = (ranks.sum(each) for each in (old, ref, values))
    return torch.where(batch.action_mask, batch.engine_logprobs, 0.0) if by_engine else old, ref, values


def make_experience(
    batch: TrajectoryBatch,
    old: Tensor,
    ref: Tensor,
    values: Tensor,
    config: PPOConfig,
    *,
    kl_coef: float,
    gae_lambda: float,
) -> Experience:
    """Rewards, advantages and mismatch weights, from what the policies said.

    Args:
        kl_coef: beta, where the KL is a part of the reward; else 0.
    """
    mask = batch.action_mask
    is_trusted = trusted(
        old,
        batch.engine_logprobs,
        mask,
        trajectory_range=config.mismatch_trajectory_range,
        token_range=config.mismatch_token_range,
    )
    kl = kl_estimate(old, ref, "k1")
    if config.has_critic:
        advantages, returns = _estimate(batch, kl, values, config, kl_coef=kl_coef, gae_lambda=gae_lambda)
    else:
        advantages = group_advantages(batch, config) + kl_advantages(kl, mask, kl_coef=kl_coef)
        returns = torch.zeros_like(advantages)
    if config.whiten_advantages and bool(is_trusted.any()):
        advantages = whiten(advantages, mask & is_trusted[:, None])
    weights = mismatch_weights(old, batch.engine_logprobs, cap=config.mismatch_cap)
    return Experience(batch, old, ref, values, advantages, returns, torch.where(mask, weights, 0.0), is_trusted)


def _estimate(
    batch: TrajectoryBatch, kl: Tensor, values: Tensor, config: PPOConfig, *, kl_coef: float, gae_lambda: float
) -> Advantages:
    mask, gamma = batch.action_mask, config.gamma
    rewards = token_rewards(batch.rewards, kl, mask, kl_coef=kl_coef, turn_rewards=batch.turn_rewards)  # r_t
    if config.advantage == "turn_gae":
        return turn_gae(rewards, values, batch.turn_ids, mask, gamma=gamma, gae_lambda=gae_lambda)
    return gae(rewards, values, mask, gamma=gamma, gae_lambda=gae_lambda)


def describe(experience: Experience, config: PPOConfig) -> dict[str, float]:
    """What can be said of a batch before it changes the policy."""
    batch, mask = experience.batch, experience.batch.action_mask
    old, ref = experience.old_logprobs, experience.ref_logprobs
    metrics = {
        "kl_per_token": float(kl_estimate(old[mask], ref[mask], "k3").mean()),
        "kl_per_trajectory": float(torch.where(mask, old - ref, 0.0).sum(-1).mean()),
    }
    if config.has_critic:
        metrics["explained_variance"] = explained_variance(experience.values, experience.returns, mask)
        metrics["value_mean"] = float(experience.values[mask].mean())
    if config.old_logprobs == "recomputed":
        metrics |= mismatch_metrics(old, batch.engine_logprobs, experience.weights, mask)
    if config.mismatch_trajectory_range or config.mismatch_token_range:
        metrics["mismatch_dropped"] = float((~experience.is_trusted).sum())
    return metrics
