"""FSDP2: the trained weights, their gradients, the optimiser's state and the reference in shards, one per rank.

The policy that everything else knows stays whole on every rank: the in-process engine samples from it, checkpoints
are written from it and read into it. The trainer computes with sharded twins of policy and reference, and the whole
one is filled from them after each update. So nothing but the update knows of shards, and a checkpoint of two ranks is
one of one rank.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

from agentrl.errors import ConfigError
from agentrl.policy.lora import has_adapter
from agentrl.policy.policy import Policy, PolicyOutput
from agentrl.policy.processes import ProcessRanks
from agentrl.policy.reference import ReferencePolicy
from agentrl.policy.shards import is_shard, placed_like, whole


@dataclass(frozen=True)
class Sharding:
    """What is chosen of FSDP2."""

    reshard_after_forward: bool = True
    """Give a layer's gathered weights up after its forward pass, and gather them again for the backward pass."""
    offload: bool = False
    """Keep the shards in CPU memory."""
    layer_classes: tuple[str, ...] = ()
    """Classes that are gathered one at a time; the model's own layers where none is named."""


class ShardedRanks(ProcessRanks):
    """Ranks that train shards of one policy."""

    def __init__(self, device: torch.device, sharding: Sharding) -> None:
        super().__init__(device)
        self._sharding = sharding
        self._mesh = init_device_mesh(device.type, (self.count,))
        self._whole: Policy | None = None
        self._twin: Policy | None = None

    def __str__(self) -> str:
        return f"{self.count} processes, weights in shards (FSDP2), on {self.device.type}"

    def share(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        mine = super().share(pieces)
        each = -(-len(pieces) // self.count)
        return mine + [piece[:0] for piece in pieces[:1]] * (each - len(mine))

    def shard(self, policy: Policy, reference: ReferencePolicy) -> tuple[Policy, ReferencePolicy]:
        self._whole, self._twin = policy, ShardedPolicy(policy, self._mesh, self._sharding)
        if has_adapter(policy.model):
            return self._twin, ReferencePolicy(self._twin)
        return self._twin, ReferencePolicy(ShardedPolicy(reference.policy, self._mesh, self._sharding))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Of what is not sharded; the backward pass has summed the shards."""
        super().sum_gradients(parameter for parameter in parameters if not is_shard(parameter))

    @torch.no_grad()
    def clip_gradients(self, parameters: Iterable[nn.Parameter], max_norm: float) -> float:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        squares = torch.stack([whole(torch.linalg.vector_norm(each.float())).square() for each in gradients])
        norm = squares.sum().sqrt()
        scale = float((max_norm / (norm + 1e-6)).clamp(max=1.0))  # as nn.utils.clip_grad_norm_ does
        for gradient in gradients:
            gradient.mul_(scale)
        return float(norm)

    @torch.no_grad()
    def collect_weights(self) -> None:
        if self._whole is None or self._twin is None:
            return
        self._whole.version = self._twin.version
        for mine, shard in self._pairs(self._whole, self._twin):
            mine.copy_(whole(shard))

    @torch.no_grad()
    def spread_weights(self) -> None:
        if self._whole is None or self._twin is None:
            return
        self._twin.version = self._whole.version
        for mine, shard in self._pairs(self._whole, self._twin):
            shard.copy_(placed_like(mine, shard))

    @staticmethod
    def _pairs(policy: Policy, twin: Policy) -> list[tuple[Tensor, Tensor]]:
        """The trained weights of both; the critic is one and the same."""
        assert isinstance(twin, ShardedPolicy)
        mine = dict(policy.model.named_parameters())
        return [(mine[name], shard) for name, shard in twin.shards.items() if shard.requires_grad]


class ShardedPolicy(Policy):
    """A policy with a copy of `policy`'s model in shards. Every pass is one of all ranks.

    A pass runs inside the forward method of one root module, which gathers what belongs to no layer (embeddings, final
    norm, output layer), whatever a pass does with them.

    Args:
        policy: stays as it is; the critic and the tokenizer are shared with it.
    """

    def __init__(self, policy: Policy, mesh: DeviceMesh, sharding: Sharding) -> None:
        vars(self).update(vars(policy))
        self.model = copy.deepcopy(policy.model)
        self._checkpointed = _same_modules(policy._checkpointed, policy.model, self.model)
        self._root: Any = _Root(self.model)
        options: dict[str, Any] = {
            "mesh": mesh,
            "reshard_after_forward": sharding.reshard_after_forward,
            "offload_policy": CPUOffloadPolicy() if sharding.offload else OffloadPolicy(),
        }
        for layer in _layers(self.model, sharding.layer_classes):
            fully_shard(layer, **options)
        fully_shard(self._root, **{**options, "reshard_after_forward": False})
        for module in self._root.modules():
            if isinstance(module, FSDPModule):  # sums, as the loss is divided by the whole batch's normaliser
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        self.shards = dict(self.model.named_parameters())

    def evaluate(self, token_ids: Tensor, action_mask: Tensor, **options: bool) -> PolicyOutput:
        """See Policy. Without rows, the pass is made for the other ranks' sake and its results are empty."""
        if not len(token_ids):
            width = token_ids.shape[1]
            blank = torch.zeros(1, 2, dtype=torch.long, device=self.device)
            output = self.evaluate(blank, torch.tensor([[False, True]], device=self.device), **options)
            return PolicyOutput(*(part[:0, :1].expand(0, width) for part in _parts(output)))
        evaluate = super().evaluate
        return PolicyOutput(*self._pass(lambda: _parts(evaluate(token_ids, action_mask, **options))))

    def value_features(self, token_ids: Tensor, action_mask: Tensor) -> Tensor:
        """See Policy."""
        features = super().value_features
        if not len(token_ids):
            blank = torch.zeros(1, 2, dtype=torch.long, device=self.device)
            return self.value_features(blank, torch.tensor([[False, True]], device=self.device))[:0]
        return self._pass(lambda: (features(token_ids, action_mask),))[0]

    def _pass(self, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        result: tuple[Tensor, ...] = self._root(compute)
        if not torch.is_grad_enabled():
            self._root.reshard()  # else the root's weights stay gathered until a backward pass
        return result


class _Root(nn.Module):
    """Where a sharded pass begins and ends."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        return compute()


def _layers(model: Any, names: Sequence[str]) -> list[nn.Module]:
    known = tuple(names) or tuple(model._no_split_modules or ())
    found = [module for module in model.modules() if type(module).__name__ in known]
    if not found:
        raise ConfigError(
            f"accelerate's fsdp_transformer_layer_cls_to_wrap: found no layer of {', '.join(known) or 'any class'} "
            f"in {type(model).__name__}; name the class of its layers"
        )
    return found


def _same_modules(chosen: Sequence[nn.Module], model: nn.Module, other: nn.Module) -> list[nn.Module]:
    """The modules of `other` that have the names of the chosen ones of `model`; those of no name there stay."""
    names = {id(module): name for name, module in model.named_modules()}
    return [other.get_submodule(names[id(each)]) if id(each) in names else each for each in chosen]


def _parts(output: PolicyOutput) -> tuple[Tensor, ...]:
    return tuple(getattr(output, field.name) for field in fields(output))
