"""The one loss of all presets: clipped surrogate, value loss, entropy bonus and KL, per token."""

from __future__ import annotations

import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.policy.policy import PolicyOutput
from agentrl.ppo.experience import Experience
from agentrl.ppo.kl import kl_estimate
from agentrl.ppo.loss import policy_loss, probability_ratio, sequence_ratio, value_loss


def loss_terms(part: Experience, now: PolicyOutput, config: PPOConfig, *, kl_coef: float) -> dict[str, Tensor]:
    """The loss of every token, and the terms that it is made of; all [B, T].

    Args:
        now: what the current weights say about the part's tokens.
        kl_coef: beta; of the loss with `kl.placement: loss` only.
    """
    mask = part.batch.action_mask
    token_ratio = probability_ratio(now.logprobs, part.old_logprobs)
    by_token = config.ratio_level == "token"
    ratio = token_ratio if by_token else sequence_ratio(now.logprobs, part.old_logprobs, mask)
    low, high = config.clip_range_low, config.clip_range_high
    surrogate = part.weights * policy_loss(
        ratio, part.advantages, clip_low=low, clip_high=high, dual_clip=config.dual_clip
    )
    terms = {
        "loss": surrogate - config.entropy_coef * now.entropy,
        "policy_loss": surrogate,
        "entropy": now.entropy,
        "approx_kl": kl_estimate(now.logprobs, part.old_logprobs, "k2"),
        "clip_fraction": ((ratio < 1 - low) | (ratio > 1 + high)).float(),
        "ratio_deviation": torch.where(mask, (token_ratio.detach() - 1).abs(), 0.0),
    }
    if config.has_critic:
        terms["value_loss"] = value_loss(now.values, part.values, part.returns, clip=config.value_clip)
        terms["loss"] = terms["loss"] + config.value_coef * terms["value_loss"]
    if config.kl.placement == "loss":
        terms["kl_loss"] = importance(part, token_ratio, config) * kl_estimate(
            now.logprobs, part.ref_logprobs, config.kl.estimator
        )
        terms["loss"] = terms["loss"] + kl_coef * terms["kl_loss"]
    return terms


def importance(part: Experience, token_ratio: Tensor, config: PPOConfig) -> Tensor:
    """pi / pi_engine, capped, without gradient: the KL is a mean over the current policy, the tokens are another's."""
    return part.weights * token_ratio.detach().clamp(max=config.mismatch_cap)
