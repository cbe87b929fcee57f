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
    al. 2018, arXiv:1710.03740, section 3.1).
    """

    def __init__(self, groups: list[dict[str, Any]], **options: Any) -> None:
        self.masters: dict[nn.Parameter, nn.Parameter] = {}
        for group in groups:
            group["params"] = [self._stepped(parameter) for parameter in group["params"]]
        super().__init__(groups, **options)

    def _stepped(self, parameter: nn.Parameter) -> nn.Parameter:
        if parameter.dtype not in (torch.bfloat16, torch.float16):
            return parameter
        self.masters[parameter] = nn.Parameter(parameter.detach().float())
        return self.masters[parameter]

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """As AdamW's."""
        for parameter, master in self.masters.items():
            master.grad = None if parameter.grad is None else parameter.grad.float()
        result = super().step(closure)
        for parameter, master in self.masters.items():
            parameter.copy_(master)
            master.grad = None
        return result


def stepped(optimizer: torch.optim.Optimizer, parameter: nn.Parameter) -> nn.Parameter:
    """What the optimiser changes for a parameter, and keeps a state of: its float32 copy, or itself."""
    return optimizer.masters.get(parameter, parameter) if isinstance(optimizer, MasterAdamW) else parameter


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
    """A copy of the optimiser's state: `PARAMETER/KEY` -> tensor; shards are put together, in CPU memory.

    The keys are AdamW's, and `master` for the float32 copy of a weight.
    """
    kept: dict[str, Tensor] = {}
    for name, parameter in named.items():
        own = stepped(optimizer, parameter)
        values = {**optimizer.state.get(own, {}), **({"master": own.detach()} if own is not parameter else {})}
        for key, value in values.items():
            kept[f"{name}/{key}"] = whole(value).cpu() if is_shard(value) else value.clone()
    return kept


@torch.no_grad()
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
        own = stepped(optimizer, parameter)
        if key == "master":
            own.copy_(placed_like(tensor, own))
        else:
            # AdamW counts its steps on the CPU; its moments live beside the parameter.
            optimizer.state[own][key] = tensor.clone() if key == "step" else placed_like(tensor, own)
