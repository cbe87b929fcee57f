"""A causal LM over sessions that each own one slot of a key/value cache.

One pass takes the next token of every decoding session and whole pieces of text of others, as one flat row of tokens:
matrix products do not care whose token is whose, and attention is computed here, session by session. So newcomers
cost their own tokens only, and nobody waits for them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "agentrl_slots"  # the name under which transformers knows `_attend`
GROWTH = 256  # cache positions are added in steps of this many


class SlotCache:
    """[slots, heads, positions, head size] a layer, for keys and for values; what a model sees as its cache.

    Args:
        slots: how many sessions fit; where passes are padded, the last one takes the padding.
        align: attention reads a multiple of this many positions (`GROWTH` is one).
    """

    def __init__(self, slots: int, *, align: int = 1) -> None:
        self.slots = slots
        self.align = align
        self.capacity = 0
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._slots_T = self._positions_T = torch.zeros(0, dtype=torch.long)

    def aim(self, slots_T: Tensor, positions_T: Tensor) -> None:
        """Say where the T tokens of the next pass belong."""
        self._slots_T, self._positions_T = slots_T, positions_T
        step = max(GROWTH, self.align)
        needed = -(-(int(positions_T.max()) + 1) // step) * step
        if needed > self.capacity:
            self._grow(needed)

    def _grow(self, capacity: int) -> None:
        for layer, pair in enumerate(self.layers):  # one after the other: only one layer is held twice
            wider = [tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[3]) for tensor in pair]
            for new, old in zip(wider, pair, strict=True):
                new[:, :, : self.capacity] = old
            self.layers[layer] = (wider[0], wider[1])
        self.capacity = capacity

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store [1, heads, T, size] where `aim` pointed; returns all that is stored, for `_attend`."""
        if layer == len(self.layers):
            shape = (self.slots, keys.shape[1], self.capacity, keys.shape[3])
            self.layers.append((keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[3]))))
        for store, new in zip(self.layers[layer], (keys, values), strict=True):
            store[self._slots_T, :, self._positions_T] = new[0].transpose(0, 1)
        return self.layers[layer]

    @torch.inference_mode()
    def copy(self, source: int, target: int, length: int) -> None:
        """Give slot `target` the first `length` positions of slot `source`."""
        for pair in self.layers:
            for tensor in pair:
                tensor[target, :, :length] = tensor[source, :, :length]

    @torch.inference_mode()
    def swap(self, one: int, other: int, length: int) -> None:
        """Exchange the first `length` positions of two slots."""
        here, there = torch.tensor([one, other]), torch.tensor([other, one])
        for pair in self.layers:
            for tensor in pair:
                tensor[here, :, :length] = tensor[there, :, :length]

    @property
    def bytes_per_position(self) -> int:
        """Memory of one position of one slot, over all layers; 0 before the first pass."""
        return sum(t.shape[1] * t.shape[3] * t.element_size() for pair in self.layers for t in pair)

    def get_seq_length(self, layer: int = 0) -> int:
        """Models ask for this where no positions are given; here they always are."""
        del layer
        return 0


@dataclass(frozen=True)
class Piece:
    """Text that is read into a slot without predicting anything."""

    slot: int
    start: int
    """Position of the first token."""
    ids: Sequence[int]


@dataclass
class _Pass:
    """What the tokens of the pass under way may see: first the decoding ones, then the pieces."""

    slots_D: Tensor  # [D] of the decoding tokens
    positions_D: Tensor
    rows: int  # they lie in the slots below this
    pieces: Sequence[Piece]
    first_piece: int  # token index
    align: int
    masks: dict[tuple[int, int | None], Tensor] = field(default_factory=dict)

    def mask(self, piece: int, window: int | None, dtype: torch.dtype) -> Tensor:
        """0 where a query sees a key and -inf elsewhere: [n, visible] of a piece, [rows, 1, 1, visible] for piece -1.

        The same for all layers of a kind, so it is made once a pass.
        """
        if (piece, window) not in self.masks:
            device = self.positions_D.device
            if piece >= 0:
                start = self.pieces[piece].start
                queries = torch.arange(start, start + len(self.pieces[piece].ids), device=device)
            else:
                queries = torch.zeros(self.rows, dtype=torch.long, device=device)
                queries[self.slots_D] = self.positions_D
            visible = -(-(int(queries.max()) + 1) // self.align) * self.align
            distance = queries[:, None] - torch.arange(visible, device=device)
            is_hidden = distance < 0 if window is None else (distance < 0) | (distance >= window)
            mask = torch.zeros(distance.shape, dtype=dtype, device=device).masked_fill_(is_hidden, -torch.inf)
            self.masks[piece, window] = mask if piece >= 0 else mask[:, None, None]
        return self.masks[piece, window]


_under_way = threading.local()


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer, called by the model: query [1, heads, T, size] over the slots of `keys` and `values`.

    Query heads that share a key head are laid beside each other as if they were positions: no key is copied, and each
    is read once.

    Args:
        softcap: scores are bounded by cap * tanh(score / cap).
        s_aux: [heads] attention sinks: a score that takes part in the softmax and has no value.

    Returns:
        [1, T, heads, size].
    """
    del module, attention_mask
    now: _Pass = _under_way.now
    heads, n_tokens, size = query.shape[1:]
    groups = keys.shape[1]
    shared = heads // groups
    out = query.new_zeros(n_tokens, heads, values.shape[3])
    scale = size**-0.5 if scaling is None else scaling

    def over(queries: Tensor, rows: slice, mask: Tensor) -> Tensor:
        """[B, groups, shared * n, size] over the first positions of `rows`."""
        visible = mask.shape[-1]
        k, v = keys[rows, :, :visible], values[rows, :, :visible]
        if softcap is None and s_aux is None:
            return scaled_dot_product_attention(queries, k, v, attn_mask=mask, scale=scale)
        scores = queries @ k.transpose(-1, -2) * scale
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores + mask
        if s_aux is not None:
            sinks = s_aux.view(1, groups, shared, 1).repeat_interleave(scores.shape[2] // shared, 2)
            scores = torch.cat([scores, sinks.expand(len(scores), -1, -1, -1).to(scores.dtype)], -1)
        return scores.softmax(-1)[..., :visible] @ v

    if n_decoding := len(now.slots_D):
        queries = query[0, :, :n_decoding].transpose(0, 1)
        is_dense = n_decoding == now.rows
        if not is_dense:
            queries = queries.new_zeros(now.rows, heads, size).index_copy_(0, now.slots_D, queries)
        mask = now.mask(-1, sliding_window, query.dtype)
        found = over(queries.reshape(now.rows, groups, shared, size), slice(0, now.rows), mask).flatten(1, 2)
        out[:n_decoding] = found if is_dense else found[now.slots_D]
    first = now.first_piece
    for number, piece in enumerate(now.pieces):
        n, rows = len(piece.ids), slice(piece.slot, piece.slot + 1)
        mask = now.mask(number, sliding_window, query.dtype)
        queries = query[:, :, first : first + n].reshape(1, groups, shared * n, size)
        found = over(queries, rows, mask.repeat(shared, 1))
        out[first : first + n] = found.view(heads, n, -1).transpose(0, 1)
        first += n
    return out[None], None


ALL_ATTENTION_FUNCTIONS.register(ATTENTION, _attend)


class SlotModel:
    """A causal LM that reads and writes slots.

    Args:
        model: of transformers, decoder-only, with pluggable attention; only read.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    @torch.inference_mode()  # a tenth faster than no_grad: bookkeeping of many small operations
    def run(
        self,
        cache: SlotCache,
        decoding: Sequence[tuple[int, int, int]],
        pieces: Sequence[Piece] = (),
        *,
        tile: int = 1,
    ) -> Tensor:
        """One pass; afterwards the slots hold its tokens.

        Args:
            decoding: (slot, position, token) of each session that predicts its next token, by rising slot.
            tile: the decoding tokens are padded to a multiple of this, in the cache's last slot.

        Returns:
            [decoding, V] float32 logits.
        """
        n_decoding = len(decoding)
        padding = -n_decoding % tile
        tokens = [*decoding, *[(cache.slots - 1, 0, 0)] * padding]
        for piece in pieces:
            tokens += [(piece.slot, piece.start + i, token) for i, token in enumerate(piece.ids)]
        device, config = self.model.device, self.model.config
        slots_T, positions_T, ids_T = torch.tensor(tokens, device=device).unbind(-1)
        cache.aim(slots_T, positions_T)
        _under_way.now = _Pass(
            slots_T[:n_decoding],
            positions_T[:n_decoding],
            rows=decoding[-1][0] + 1 if decoding else 0,
            pieces=pieces,
            first_piece=n_decoding + padding,
            align=cache.align,
        )
        trainers, config._attn_implementation = config._attn_implementation, ATTENTION
        try:
            output = self.model(
                input_ids=ids_T[None],
                position_ids=positions_T[None],
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=slice(0, n_decoding + padding),
            )
        finally:
            config._attn_implementation = trainers
        return output.logits[0, :n_decoding].float()  # type: ignore[no-any-return]

    def bytes_per_position(self) -> int:
        """Cache memory that one token of context takes, measured on one token."""
        cache = SlotCache(1)
        self.run(cache, [(0, 0, 0)])
        return cache.bytes_per_position

    def rows_are_independent(self, slots: int, *, tile: int, align: int) -> bool:
        """Whether a session's logits stay bit-equal in other places, among other neighbours, beside longer contexts.

        Matrix kernels choose their order of summation by the shape, so this holds on some machines for some shapes. It
        is tried with `tile` and with `slots` sessions, with `align` and with twice as many positions.
        """
        few, many = SlotCache(slots + 1, align=align), SlotCache(slots + 1, align=2 * align)
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().num_embeddings
        tokens = torch.randint(vocabulary, (slots, 4), generator=generator).tolist()
        places = torch.randperm(slots, generator=generator)[: min(slots, tile)].tolist()
        for step in range(4):
            alone = [(slot, step, tokens[place][step]) for slot, place in enumerate(places)]
            among = [(slot, step, tokens[slot][step]) for slot in range(slots)]
            if not torch.equal(self.run(few, alone, tile=tile), self.run(many, among, tile=tile)[places]):
                return False
        return True
