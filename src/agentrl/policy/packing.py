"""Rows of tokens as one prefix tree, so that a pass computes what they begin with in common once, and no padding.

Rows are sorted; each adds to the tree what its neighbour does not share, as one *segment*: a run of flat tokens that
attend causally to themselves and to all of their ancestors. Every other operation of a transformer treats tokens one
by one and needs to know nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention.bias import causal_lower_right
from torch.nn.functional import scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "agentrl_tree"  # the name under which transformers knows `_attend`
LAYERS = {"full_attention", "sliding_attention"}
PROBE = ((3, 1, 4, 1, 5, 2), (3, 1, 4, 2, 6, 5), (3, 1, 4, 2, 6, 5), (5, 3))  # rows that share, repeat and stand alone
TOLERANCE = 0.02  # of the largest hidden state: rounding stays far below it in bfloat16 too, a wrong mask far above


@dataclass(frozen=True)
class RowOrder:
    """Rows in lexicographic order, where those that begin alike are neighbours."""

    rows: Tensor
    """[B] row indices in this order."""
    lengths: Tensor
    """[B] tokens that a pass over the row needs: those before its last action; in this order."""
    shared: Tensor
    """[B] how many of them the row before begins with too; in this order."""

    @staticmethod
    def of(token_ids: Tensor, action_mask: Tensor) -> RowOrder:
        """Of rows [B, T]; a row without an action counts as one token."""
        ids, mask = token_ids.cpu(), action_mask.cpu()
        columns = torch.arange(mask.shape[1])
        lengths = torch.where(mask, columns, 1).amax(-1).clamp(min=1)
        texts = [row[:length] for row, length in zip(ids.tolist(), lengths.tolist(), strict=True)]
        order = torch.tensor(sorted(range(len(texts)), key=texts.__getitem__), dtype=torch.long)
        lengths = lengths[order]
        differs = ids[order][1:] != ids[order][:-1]
        differs |= columns >= torch.minimum(lengths[1:], lengths[:-1])[:, None]
        alike = torch.where(differs, columns, mask.shape[1]).amin(-1)  # the first column that differs
        return RowOrder(order, lengths, torch.cat([torch.zeros(min(len(order), 1), dtype=torch.long), alike]))


@dataclass(frozen=True)
class Padded:
    """Rows as they are, for a model whose attention cannot be told about trees.

    No attention mask: padding stands on the right, where causal attention does not look.
    """

    token_ids: Tensor
    """[B, T]."""
    before: Tensor
    """[actions] index, into B * T states, of the token before each action, in the order of the action mask."""

    @staticmethod
    def of(token_ids: Tensor, action_mask: Tensor) -> Padded:
        flat = torch.arange(action_mask.numel(), device=token_ids.device).view(action_mask.shape)
        return Padded(token_ids, flat[:, :-1][action_mask[:, 1:]])

    def run(self, trunk: Any) -> Any:
        """The trunk's output over all tokens."""
        return trunk(input_ids=self.token_ids, use_cache=False)


@dataclass(frozen=True)
class PrefixTree:
    """N tokens that stand for B rows; sizes and paths describe its S segments."""

    token_ids: Tensor
    """[1, N]."""
    position_ids: Tensor
    """[1, N] of each token in its rows."""
    before: Tensor
    """[actions] index, into the N tokens, of the one before each action, in the order of the action mask; rows that
    share it read the same one."""
    sizes: list[int]
    """[S] tokens of each segment, in flat order."""
    cuts: list[int]
    """Sizes of the pieces that the N tokens are cut into wherever a segment begins or a row leaves another."""
    paths: list[list[int]]
    """[S] the pieces that a segment attends to: its ancestors', then its own."""
    _masks: dict[tuple[int, int, int | None], Tensor] = field(default_factory=dict, repr=False)

    @staticmethod
    def of(token_ids: Tensor, action_mask: Tensor) -> PrefixTree:
        """Of rows [B, T]: everything before each row's last action."""
        order = RowOrder.of(token_ids, action_mask)
        places = torch.zeros(action_mask.shape, dtype=torch.long)  # [B, T] flat index of each token
        path = torch.zeros(0, dtype=torch.long)  # the row before, as flat indices
        starts, leaves, ends, total = [], [], [], 0
        for row, length, shared in zip(order.rows.tolist(), order.lengths.tolist(), order.shared.tolist(), strict=True):
            path = torch.cat([path[:shared], torch.arange(total, total + length - shared)])
            places[row, :length] = path
            if length > shared:
                starts.append(total)
                leaves.append(int(path[shared - 1]) + 1 if shared else total)
                total += length - shared
                ends.append(path)
        bounds = torch.tensor(sorted({*starts, *leaves, total}))
        is_start = torch.zeros(total + 1, dtype=torch.bool)
        is_start[bounds] = True
        piece = is_start.cumsum(0) - 1
        paths = [torch.unique_consecutive(piece[each]).tolist() for each in ends]
        column = torch.arange(action_mask.shape[1]).expand(action_mask.shape)
        used = column < torch.empty_like(order.lengths).scatter_(0, order.rows, order.lengths)[:, None]
        first = torch.zeros(total, dtype=torch.long)
        first[places[used]] = torch.arange(action_mask.numel()).view(action_mask.shape)[used]
        device = token_ids.device
        return PrefixTree(
            token_ids=token_ids.flatten()[first.to(device)][None],
            position_ids=(first % action_mask.shape[1]).to(device)[None],
            before=places[:, :-1].to(device)[action_mask[:, 1:]],
            sizes=torch.tensor([*starts, total]).diff().tolist(),
            cuts=bounds.diff().tolist(),
            paths=paths,
        )

    def run(self, trunk: Any) -> Any:
        """The trunk's output over all N tokens."""
        with _attention(trunk.config, ATTENTION):
            return trunk(input_ids=self.token_ids, position_ids=self.position_ids, use_cache=False, prefix_tree=self)

    @cached_property
    def _is_path(self) -> bool:
        return len(self.sizes) == 1

    def attend(self, query: Tensor, keys: Tensor, values: Tensor, window: int | None, **options: Any) -> Tensor:
        """[1, heads, N, size] of queries over keys and values [1, key heads, N, size]; `options` are the kernel's.

        Cut once and put together again: slices would each have a gradient of the size of all N tokens.
        """
        if self._is_path:
            return self._attend_segment(query, keys, values, window, **options)
        all_keys, all_values = (torch.split(each, self.cuts, 2) for each in (keys, values))
        found = []
        for queries, path in zip(torch.split(query, self.sizes, 2), self.paths, strict=True):
            k, v = (
                each[path[0]] if len(path) == 1 else torch.cat([each[i] for i in path], 2)
                for each in (all_keys, all_values)
            )
            found.append(self._attend_segment(queries, k, v, window, **options))
        return torch.cat(found, 2)

    def _attend_segment(self, query: Tensor, k: Tensor, v: Tensor, window: int | None, **options: Any) -> Tensor:
        """The last tokens of a path over all of it."""
        options |= {"enable_gqa": query.shape[1] != k.shape[1]}
        n, length = query.shape[2], k.shape[2]
        is_windowed = window is not None and window < length
        if n == length and not is_windowed:
            return scaled_dot_product_attention(query, k, v, is_causal=True, **options)
        if query.device.type == "cuda" and not is_windowed:
            return scaled_dot_product_attention(query, k, v, attn_mask=causal_lower_right(n, length), **options)
        mask = self._mask(n, length, window if is_windowed else None, query)
        return scaled_dot_product_attention(query.flip(2), k, v, attn_mask=mask, **options).flip(2)

    def _mask(self, n: int, length: int, window: int | None, like: Tensor) -> Tensor:
        """[n, length] for queries in reverse order: 0 where one sees a key, -inf elsewhere.

        What a query sees depends on its distance to the key, which query i from the end has to key j by i + j alone:
        every row of the mask is the row before shifted by one, so all of them lie in one line of n + length numbers.
        """
        key = (n, length, window)
        if key not in self._masks:
            distance = length - 1 - torch.arange(n + length - 1, device=like.device)
            is_hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
            line = torch.zeros(len(distance), dtype=like.dtype, device=like.device).masked_fill_(is_hidden, -torch.inf)
            mask = line.as_strided((n, length), (1, 1))
            self._masks[key] = mask if like.device.type == "cpu" else mask.contiguous()
        return self._masks[key]


def _attend(
    module: Any,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    attention_mask: Tensor | None,
    *,
    prefix_tree: PrefixTree,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, called by the model; returns [1, N, heads, size]."""
    del module, attention_mask
    if softcap is not None or s_aux is not None:
        raise NotImplementedError("no fused kernel caps scores or knows attention sinks")
    found = prefix_tree.attend(query, keys, values, sliding_window, scale=scaling, dropout_p=dropout)
    return found.transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)


@contextmanager
def _attention(config: Any, name: str) -> Iterator[None]:
    before, config._attn_implementation = config._attn_implementation, name
    try:
        yield
    finally:
        config._attn_implementation = before


def recompute(config: Any, layer: Any, *inputs: Any) -> Any:
    """Run a layer without keeping its activations: the backward pass runs it again, with the attention of now."""
    now = config._attn_implementation
    contexts = lambda: (nullcontext(), _attention(config, now))  # noqa: E731 (of the first and of the second run)
    return checkpoint(layer, *inputs, use_reentrant=False, context_fn=contexts)


@torch.no_grad()
def can_pack(model: nn.Module) -> bool:
    """Whether the model says the same of a prefix tree as of its rows; tried on a few tokens.

    Not so where attention is not pluggable, has sinks or capped scores, is linear, or was chosen to be another kernel.
    """
    config: Any = getattr(model, "config", None)
    if getattr(config, "_attn_implementation", None) != "sdpa":
        return False
    if not getattr(model, "_supports_attention_backend", False):
        return False
    if set(getattr(config.get_text_config(), "layer_types", None) or ()) - LAYERS:
        return False
    device = next(model.parameters()).device
    width = max(map(len, PROBE))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in PROBE], device=device)
    mask = torch.tensor([[0 < t < len(row) for t in range(width)] for row in PROBE], device=device)
    trunk: Any = model.base_model
    try:
        tree, padded = (each.of(ids, mask) for each in (PrefixTree, Padded))
        found, wanted = (each.run(trunk).last_hidden_state.flatten(0, 1)[each.before] for each in (tree, padded))
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError, KeyError):
        return False
    return bool((found - wanted).abs().max() <= TOLERANCE * wanted.abs().max())
