"""KL(policy || reference): estimators and the controller of its coefficient."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agentrl.config import KLConfig


def kl_estimate(logprobs: Tensor, ref_logprobs: Tensor, estimator: str) -> Tensor:
    """Per-token estimate of KL(policy || reference) on tokens sampled from the policy (Schulman 2020).

    With d = log pi - log ref:  k1 = d,  k2 = d^2 / 2,  k3 = exp(-d) - 1 + d.
    k1 and k3 average to the exact KL; k3 is never negative and varies less; k2 is biased and cheap to differentiate.

    Args:
        logprobs: log-probability of the sampled tokens under the policy, any shape, in nats.
        ref_logprobs: the same under the reference.
        estimator: k1, k2 or k3.
    """
    d = logprobs - ref_logprobs
    if estimator == "k1":
        return d
    if estimator == "k2":
        return d.square() / 2
    if estimator == "k3":
        return torch.expm1(-d) + d  # exp(-d) - 1 would round to below -d for a small d, and a KL below 0
    raise ValueError(f"unknown KL estimator {estimator!r}; allowed: k1, k2, k3")


class KLController:
    """beta, fixed or steered towards a target KL per trajectory (Ziegler et al. 2019, arXiv:1909.08593, section 2.2).

    beta <- beta * (1 + clip(KL / target - 1, -0.2, 0.2) * n / horizon), kept inside [min_coef, max_coef].
    """

    def __init__(self, config: KLConfig) -> None:
        self._config = config
        self.coef: float = config.coef

    def update(self, kl_per_trajectory: float, n_trajectories: int) -> None:
        """Move beta after a batch. Does nothing for a fixed controller, nor for a KL that is not finite.

        Args:
            kl_per_trajectory: mean over trajectories of the k1 sum over action tokens, in nats.
            n_trajectories: in the batch.
        """
        if self._config.controller == "fixed" or not math.isfinite(kl_per_trajectory):
            return
        error = min(max(kl_per_trajectory / self._config.target_kl_per_trajectory - 1, -0.2), 0.2)
        coef = self.coef * (1 + error * n_trajectories / self._config.horizon)
        self.coef = min(max(coef, self._config.min_coef), self._config.max_coef)
