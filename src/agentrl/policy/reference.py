"""The frozen baseline that KL is measured against: a copy, or a LoRA policy's own weights without the adapters."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from agentrl.policy.lora import base_parameters, has_adapter, without_adapter
from agentrl.policy.policy import Policy, parameters_digest


class ReferencePolicy:
    """pi_ref: never trained, never changed; `digest()` proves it."""

    def __init__(self, policy: Policy) -> None:
        self._frozen = policy

    @classmethod
    def freeze(cls, policy: Policy) -> ReferencePolicy:
        """The policy as it is now, without gradients: a copy. A LoRA policy's base weights are frozen already."""
        if has_adapter(policy.model):
            return cls(policy)
        frozen = copy.copy(policy)
        frozen.model = copy.deepcopy(policy.model).requires_grad_(False).eval()
        return cls(frozen)

    @property
    def policy(self) -> Policy:
        """The frozen policy, or the LoRA policy whose base weights are meant."""
        return self._frozen

    @torch.no_grad()
    def logprobs(self, token_ids: Tensor, action_mask: Tensor) -> Tensor:
        """[B, T] log-probability of the action tokens under the reference, zero off the mask."""
        with without_adapter(self._frozen.model):
            return self._frozen.evaluate(token_ids, action_mask, with_values=False).logprobs

    def digest(self) -> str:
        """sha256 of the frozen weights; the same for a LoRA policy as for a copy of its baseline."""
        return parameters_digest(base_parameters(self._frozen.model))
