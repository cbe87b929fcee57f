"""The critic: what is expected from here on. On the policy's trunk, or on one of its own (`policy.critic`).

`detached` reads the policy's hidden states without changing them, `shared` lets the value loss into the trunk too,
`separate` trains a second copy of the baseline's trunk. Parameters are named `value_head.` in all three.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn

from agentrl.config import PolicyConfig


class ValueHead(nn.Module):
    """Expected reward to go, from a hidden state before a token.

    The last layer starts at zero, so V = 0 before any training (OpenAI 2019 code).

    Args:
        hidden_size: of the states that it reads.
        inner_size: of its own hidden layer.
        is_detached: its gradient stops at the hidden state, so the critic may learn fast beside a slow policy.
        trunk: the base model that the hidden states come from; None where they are the policy's.
    """

    def __init__(
        self, hidden_size: int, inner_size: int, *, is_detached: bool = True, trunk: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.is_detached = is_detached
        self.trunk = trunk
        self.norm = nn.LayerNorm(hidden_size)
        self.inner = nn.Linear(hidden_size, inner_size)
        self.out = nn.Linear(inner_size, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """[..., hidden size] -> [...]."""
        hidden = hidden.detach() if self.is_detached else hidden
        inner = nn.functional.gelu(self.inner(self.norm(hidden.to(self.out.weight.dtype))))
        return self.out(inner).squeeze(-1)  # type: ignore[no-any-return]


def copy_trunk(model: Any, config: PolicyConfig) -> nn.Module | None:
    """A separate critic's trunk: the baseline's as it is now, all of it trainable; None for the other critics."""
    if config.critic != "separate":
        return None
    trunk: nn.Module = copy.deepcopy(model.base_model)
    return trunk.requires_grad_(True).eval()


def make_critic(hidden_size: int, config: PolicyConfig, trunk: nn.Module | None) -> ValueHead:
    """The critic that `policy.critic` names."""
    return ValueHead(hidden_size, config.value_hidden_size, is_detached=config.critic == "detached", trunk=trunk)
