"""AdamW over policy and critic, and its state as named tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agentrl.config import PPOConfig
from agentrl.errors import CheckpointError
from agentrl.policy.shards import is_shard, placed_like, whole


class MasterAdamW(torch.optim.AdamW):
    """AdamW that steps on float32 copies of weights of lower precision, and rounds these into the weights.

    bfloat16 has 8 bits for a number: a step smaller than 1/256 of the weight would be lost every time (Micikevicius et
    al. 2018, arXiv:1710.03740, section 3.1). The copies are part of the state, under "master".
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """As AdamW's."""
        rounded = [
            (parameter, parameter.data, parameter.grad)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.dtype in (torch.bfloat16, torch.float16)
        ]
        for parameter, weights, gradient in rounded:
            master = self.state[parameter].pop("master", None)  # AdamW takes a state that is not empty for its own
            parameter.grad = None
            parameter.data = weights.float() if master is None else master
            parameter.grad = gradient.float()
        try:
            return super().step(closure)
        finally:
            for parameter, weights, gradient in rounded:
                self.state[parameter]["master"] = parameter.data
                parameter.grad = None
                parameter.data = weights.copy_(parameter.data)
                parameter.grad = gradient


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
    return MasterAdamW(groups, betas=config.betas, eps=config.adam_eps)


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
