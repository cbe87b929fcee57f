"""AdamW over policy and critic, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agentrl.config import PPOConfig
from agentrl.errors import CheckpointError
from agentrl.policy.shards import is_shard, placed_like, whole


def make_optimizer(named: Mapping[str, nn.Parameter], config: PPOConfig) -> torch.optim.AdamW:
    """AdamW's groups: policy before critic, each with its learning rate; vectors (norms, biases) do not decay."""
    rates = {
        "model.": config.learning_rate,
        "value_head.trunk.": config.critic_learning_rate,
        "value_head.": config.value_learning_rate,
    }
    parts: dict[str, list[nn.Parameter]] = {prefix: [] for prefix in rates}
    for name, parameter in named.items():
        parts[next(prefix for prefix in rates if name.startswith(prefix))].append(parameter)
    groups: list[dict[str, Any]] = []
    for prefix, rate in rates.items():
        for is_matrix, decay in ((True, config.weight_decay), (False, 0.0)):
            params = [parameter for parameter in parts[prefix] if (parameter.ndim > 1) is is_matrix]
            if params:
                groups.append({"params": params, "lr": rate, "weight_decay": decay})
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.adam_eps)


def state_tensors(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """A copy of the optimiser's state: `PARAMETER/KEY` -> tensor; shards are put together, in CPU memory."""
    return {
        f"{name}/{key}": whole(value).cpu() if is_shard(value) else value.clone()
        for name, parameter in named.items()
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def load_state_tensors(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """The inverse of `state_tensors`.

    Raises:
        CheckpointError: they are another policy's.
    """
    for full_name, tensor in tensors.items():
        name, _, key = full_name.rpartition("/")
        parameter = named.get(name)
        if parameter is None or (tensor.ndim and tensor.shape != parameter.shape):
            raise CheckpointError(f"the optimiser state holds {full_name}, which does not fit the policy")
        # AdamW counts its steps on the CPU; its moments live beside the parameter.
        optimizer.state[parameter][key] = tensor.clone() if key == "step" else placed_like(tensor, parameter)
