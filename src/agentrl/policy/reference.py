"""The frozen copy of the baseline that KL is measured against."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from agentrl.policy.policy import Policy, weights_digest


class ReferencePolicy:
    """pi_ref: never trained, never changed; `digest()` proves it."""

    def __init__(self, policy: Policy) -> None:
        self._frozen = policy

    @classmethod
    def freeze(cls, policy: Policy) -> ReferencePolicy:
        """A copy of the policy as it is now, without gradients."""
        frozen = copy.copy(policy)
        frozen.model = copy.deepcopy(policy.model).requires_grad_(False).eval()
        frozen.value_head = copy.deepcopy(policy.value_head).requires_grad_(False)
        return cls(frozen)

    @torch.no_grad()
    def logprobs(self, token_ids: Tensor, action_mask: Tensor) -> Tensor:
        """[B, T] log-probability of the action tokens under the reference, zero off the mask."""
        return self._frozen.evaluate(token_ids, action_mask).logprobs

    def digest(self) -> str:
        """sha256 of the frozen weights."""
        return weights_digest(self._frozen.model)
