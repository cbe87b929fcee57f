"""The clipped objectives (Schulman et al. 2017, arXiv:1707.06347), per token, and how tokens are averaged."""

from __future__ import annotations

import torch
from torch import Tensor


def probability_ratio(logprobs: Tensor, old_logprobs: Tensor) -> Tensor:
    """pi_now / pi_old per token; the log-ratio is clamped to 20 so that one freak token cannot overflow."""
    return (logprobs - old_logprobs).clamp(-20, 20).exp()


def sequence_ratio(logprobs: Tensor, old_logprobs: Tensor, action_mask: Tensor) -> Tensor:
    """[B, T] the trajectory's ratio on each of its action tokens, 1 elsewhere (GSPO, arXiv:2507.18071, eq. 7).

    It is the geometric mean exp(mean over action tokens of log pi_now - log pi_old), not the product: lengths do not
    matter, and the clip range is thousands of times smaller than a token's. The scope is the trajectory, all turns.
    """
    log_ratio = torch.where(action_mask, logprobs - old_logprobs, 0.0)
    mean = log_ratio.sum(-1, keepdim=True) / action_mask.sum(-1, keepdim=True).clamp(min=1)
    return torch.where(action_mask, mean.clamp(-20, 20).exp(), 1.0)


def policy_loss(
    ratio: Tensor, advantages: Tensor, *, clip_low: float, clip_high: float, dual_clip: float | None
) -> Tensor:
    """Per-token clipped surrogate, to be minimised; same shape as `ratio`.

    L = -min(ratio * A, clip(ratio, 1 - clip_low, 1 + clip_high) * A)                    (eq. 7)
    and where A < 0: L <- min(L, -dual_clip * A), so that one bad token cannot dominate (Ye et al. 2020,
    arXiv:1912.09729). clip_high > clip_low is DAPO's "clip-higher" (arXiv:2503.14476).
    """
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    loss = -torch.minimum(ratio * advantages, clipped * advantages)
    if dual_clip is not None:
        loss = torch.where(advantages < 0, torch.minimum(loss, -dual_clip * advantages), loss)
    return loss


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, *, clip: float) -> Tensor:
    """Per-token clipped squared error, 0.5 * max((V - G)^2, (clip(V, V_old +- clip) - G)^2)."""
    clipped = old_values + (values - old_values).clamp(-clip, clip)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def token_weights(action_mask: Tensor, mode: str, *, constant: float = 1024.0) -> Tensor:
    """[B, T] weights w such that sum(w * loss) is the batch's loss in the given mode, zero off the mask.

    As weights of the whole batch they make every split into microbatches exact: the parts' sums add up to it.

    Args:
        action_mask: [B, T] of the batch that one optimiser step sees.
        mode: token_mean (DAPO): 1 / all action tokens. seq_mean_token_mean (GRPO): every trajectory counts the same.
            seq_mean_token_sum: mean over trajectories of their token sums. const_norm (Dr.GRPO): token sums over
            a constant, mean over trajectories.
        constant: for const_norm, in tokens.
    """
    tokens = action_mask.sum(-1, keepdim=True)
    n_trajectories = len(action_mask)
    weights = {
        "token_mean": 1 / tokens.sum(),
        "seq_mean_token_mean": 1 / (tokens * n_trajectories),
        "seq_mean_token_sum": torch.tensor(1 / n_trajectories),
        "const_norm": torch.tensor(1 / (constant * n_trajectories)),
    }
    if mode not in weights:
        raise ValueError(f"unknown aggregation {mode!r}; allowed: {', '.join(weights)}")
    return torch.where(action_mask, weights[mode], 0.0)
