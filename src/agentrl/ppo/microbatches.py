"""Pieces of a batch, each small enough for one forward and backward pass."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from agentrl.policy.packing import RowOrder
from agentrl.ppo.batch import TrajectoryBatch


def microbatches(batch: TrajectoryBatch, max_tokens: int, *, packs: bool, parts: int = 1) -> list[Tensor]:
    """Row indices of pieces of at most `max_tokens` tokens (one row at least).

    Args:
        packs: the policy's passes compute what rows begin with in common once: rows that do are neighbours, and a
            row counts what it adds to the row before. Otherwise rows of similar length are, and padding counts.
        parts: cut at least about this many pieces.
    """
    return _by_prefix(batch, max_tokens, parts) if packs else _by_length(batch, max_tokens, parts)


def _by_prefix(batch: TrajectoryBatch, max_tokens: int, parts: int) -> list[Tensor]:
    order = RowOrder.of(batch.token_ids, batch.action_mask)
    lengths, added = order.lengths.tolist(), (order.lengths - order.shared).tolist()
    budget = min(max_tokens, math.ceil(sum(added) / parts))
    firsts, tokens = [0], lengths[0]
    for row in range(1, len(added)):
        tokens += added[row]
        if tokens > budget:
            firsts.append(row)
            tokens = lengths[row]  # the first of a piece shares with none
    return list(order.rows.tensor_split(firsts[1:]))


def _by_length(batch: TrajectoryBatch, max_tokens: int, parts: int) -> list[Tensor]:
    lengths = batch.attention_mask.sum(-1)
    budget = min(max_tokens, math.ceil(batch.attention_mask.numel() / parts))
    pieces: list[list[int]] = [[]]
    for row in torch.argsort(lengths, stable=True).tolist():
        if pieces[-1] and int(lengths[row]) * (len(pieces[-1]) + 1) > budget:
            pieces.append([])
        pieces[-1].append(row)
    return [torch.tensor(piece) for piece in pieces]
