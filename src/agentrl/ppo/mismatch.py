"""Engine against trainer: the weights that correct a small difference, the filters for a large one, and metrics.

pi / pi_engine = (pi_old / pi_engine) * (pi / pi_old): PPO clips the second factor, the first one is corrected here.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agentrl.ppo.kl import kl_estimate

Range = tuple[float, float]


def mismatch_weights(old_logprobs: Tensor, engine_logprobs: Tensor, *, cap: float) -> Tensor:
    """min(pi_old / pi_engine, cap) per token, without gradient: token-level truncated importance sampling.

    Corrects for an engine whose probabilities differ a little from the trainer's. Never a product over the
    trajectory: over hundreds of tokens that leaves one effective sample (Yao et al. 2025).
    """
    return (old_logprobs - engine_logprobs).clamp(-20, 20).exp().clamp(max=cap).detach()


def trusted(
    old_logprobs: Tensor,
    engine_logprobs: Tensor,
    action_mask: Tensor,
    *,
    trajectory_range: Range | None,
    token_range: Range | None,
) -> Tensor:
    """[B] bool: the trajectories whose log-probabilities engine and trainer agree on.

    Args:
        trajectory_range: of the geometric mean over action tokens of pi_old / pi_engine; None allows any.
        token_range: of every token's pi_old / pi_engine; None allows any.
    """
    log_ratio = torch.where(action_mask, old_logprobs - engine_logprobs, 0.0)
    is_kept = action_mask.any(-1)
    if trajectory_range is not None:
        mean = log_ratio.sum(-1) / action_mask.sum(-1)
        is_kept &= (mean >= math.log(trajectory_range[0])) & (mean <= math.log(trajectory_range[1]))
    if token_range is not None:
        inside = (log_ratio >= math.log(token_range[0])) & (log_ratio <= math.log(token_range[1]))
        is_kept &= (inside | ~action_mask).all(-1)
    return is_kept


def effective_sample_size(log_weights: Tensor) -> float:
    """(sum w)^2 / (n sum w^2), a fraction, from log w."""
    twice_sum, sum_of_squares = 2 * log_weights.logsumexp(-1), (2 * log_weights).logsumexp(-1)
    return float((twice_sum - sum_of_squares).exp()) / len(log_weights)


def mismatch_metrics(
    old_logprobs: Tensor, engine_logprobs: Tensor, weights: Tensor, action_mask: Tensor
) -> dict[str, float]:
    """How far the engine's log-probabilities [B, T] lie from the trainer's, on action tokens."""
    old, engine, chosen = old_logprobs[action_mask], engine_logprobs[action_mask], weights[action_mask]
    apart, probabilities = (old - engine).abs(), torch.stack([old.exp(), engine.exp()])
    per_trajectory = torch.where(action_mask, old_logprobs - engine_logprobs, 0.0).sum(-1)
    metrics = {
        "mismatch_abs_logprob_mean": float(apart.mean()),
        "mismatch_abs_logprob_p99": float(apart.kthvalue(math.ceil(0.99 * len(apart))).values),
        "mismatch_abs_logprob_max": float(apart.max()),
        "mismatch_abs_prob_mean": float((probabilities[0] - probabilities[1]).abs().mean()),
        "mismatch_kl": float(kl_estimate(engine, old, "k3").mean()),
        "mismatch_chi2": float((2 * (old - engine).clamp(-20, 20)).exp().mean() - 1),
        "mismatch_weight_mean": float(chosen.mean()),
        "mismatch_ess": effective_sample_size(chosen.log()),
        "mismatch_ess_trajectories": effective_sample_size(per_trajectory),
    }
    if bool((probabilities.std(-1, correction=0) > 1e-8).all()):
        metrics["mismatch_pearson"] = float(torch.corrcoef(probabilities.double())[0, 1])
    return metrics
