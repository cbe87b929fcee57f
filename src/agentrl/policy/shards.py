"""Tensors that are in shards over several ranks, and back."""

from __future__ import annotations

from torch import Tensor


def whole(tensor: Tensor) -> Tensor:
    """The tensor that a shard is of, on every rank (all ranks call it); any other tensor as it is."""
    return tensor.full_tensor() if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def is_shard(tensor: Tensor) -> bool:
    """Whether this rank holds a part of it only."""
    return hasattr(tensor, "full_tensor")  # a DTensor; its class is slow to import for a process by itself


def placed_like(tensor: Tensor, model: Tensor) -> Tensor:
    """A copy of a whole tensor where `model` is: in shards, if it is. Every rank holds all of it: nothing is sent."""
    if not is_shard(model):
        return tensor.to(model.device, copy=True)
    from torch.distributed.tensor import distribute_tensor

    mesh = model.device_mesh  # type: ignore[attr-defined]
    on_mesh = tensor.to(mesh.device_type, copy=True)
    return distribute_tensor(on_mesh, mesh, model.placements, src_data_rank=None).to(model.device)  # type: ignore[attr-defined]
