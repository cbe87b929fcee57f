"""A causal LM over sessions that each own one slot of a key/value cache.

One pass takes the next token of every decoding session and whole pieces of text of others, as one flat row of tokens:
matrix products do not care whose token is whose, and attention is computed here, session by session. So newcomers
cost their own tokens only, and nobody waits for them.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

ATTENTION = "agentrl_slots"  # the name under which transformers knows `_attend`
LEAST_SAVED = 4096  # positions that need not be read twice: below, the bookkeeping costs more
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
        self.prompts: list[tuple[Tensor, Tensor]] = []  # the same of prompts that several sessions begin with
        self._slots_T = self._positions_T = torch.zeros(0, dtype=torch.long)

    def aim(self, slots_T: Tensor, positions_T: Tensor) -> None:
        """Say where the T tokens of the next pass belong."""
        self._slots_T, self._positions_T = slots_T, positions_T
        step = max(GROWTH, self.align)
        needed = -(-(int(positions_T.max()) + 1) // step) * step
        if needed > self.capacity:
            self._grow(needed)

    def _grow(self, capacity: int) -> None:
        _widen(self.layers, capacity)
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

    @torch.inference_mode()
    def keep_prompt(self, slot: int, row: int, length: int) -> None:
        """Keep the first `length` positions of a slot in a row of `prompts`, of which there are half as many."""
        if not self.prompts:
            n = self.slots // 2
            self.prompts = [(keys[:n, :, :0], values[:n, :, :0]) for keys, values in self.layers]
        if length > self.prompts[0][0].shape[2]:
            _widen(self.prompts, -(-length // GROWTH) * GROWTH)
        for kept, pair in zip(self.prompts, self.layers, strict=True):
            for prompts, tensor in zip(kept, pair, strict=True):
                prompts[row, :, :length] = tensor[slot, :, :length]

    @torch.inference_mode()
    def move_prompt(self, source: int, target: int) -> None:
        """Copy one row of `prompts` over another."""
        for pair in self.prompts:
            for tensor in pair:
                tensor[target] = tensor[source]

    @property
    def bytes_per_position(self) -> int:
        """Memory of one position of one slot, over all layers; 0 before the first pass."""
        return sum(t.shape[1] * t.shape[3] * t.element_size() for pair in self.layers for t in pair)

    def get_seq_length(self, layer: int = 0) -> int:
        """Models ask for this where no positions are given; here they always are."""
        del layer
        return 0


def _widen(layers: list[tuple[Tensor, Tensor]], capacity: int) -> None:
    for layer, pair in enumerate(layers):  # one after the other: only one layer is held twice
        wider = [tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[3]) for tensor in pair]
        for new, old in zip(wider, pair, strict=True):
            new[:, :, : old.shape[2]] = old
        layers[layer] = (wider[0], wider[1])


class Decoding(NamedTuple):
    """A session that predicts its next token."""

    slot: int
    position: int
    token: int
    prompt_row: int = -1
    """Row of the cache's `prompts` that the session begins with, if any."""
    prompt_length: int = 0


@dataclass(frozen=True)
class Piece:
    """Text that is read into a slot without predicting anything."""

    slot: int
    start: int
    """Position of the first token."""
    ids: Sequence[int]


@dataclass(frozen=True)
class _Shared:
    """Which decoding tokens begin with the same prompt, so that it is read once for all of them."""

    length: int  # of what is read in common: the shortest of these prompts
    keys_values: Sequence[tuple[Tensor, Tensor]]
    members_PM: Tensor  # [prompts, most members] token indices, filled up with 0
    place_D: Tensor  # where token d stands among the flattened members

    @staticmethod
    def among(decoding: Sequence[Decoding], cache: SlotCache, device: torch.device) -> _Shared | None:
        """None where there is too little in common to pay for the bookkeeping."""
        length = min((each.prompt_length for each in decoding), default=0)
        rows = max((each.prompt_row for each in decoding), default=-1) + 1
        if (len(decoding) - rows) * length < LEAST_SAVED:
            return None
        members: list[list[int]] = [[] for _ in range(rows)]
        for index, each in enumerate(decoding):
            members[each.prompt_row].append(index)
        most = max(map(len, members))
        place = [0] * len(decoding)
        for row, indices in enumerate(members):
            for column, index in enumerate(indices):
                place[index] = row * most + column
        filled = [indices + [0] * (most - len(indices)) for indices in members]
        return _Shared(length, cache.prompts, torch.tensor(filled, device=device), torch.tensor(place, device=device))


@dataclass
class _Pass:
    """What the tokens of the pass under way may see: first the decoding ones, then the pieces."""

    slots_D: Tensor  # [D] of the decoding tokens
    positions_D: Tensor
    rows: int  # they lie in the slots below this
    pieces: Sequence[Piece]
    first_piece: int  # token index
    align: int
    shared: _Shared | None
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
    module: Any,
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
    del attention_mask
    now: _Pass | None = getattr(_under_way, "now", None)
    if now is None:  # the switch to this attention is the model's, not the thread's
        raise RuntimeError("this model generates in another thread: run it when that has ended")
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
        return weights(queries @ k.transpose(-1, -2) * scale, mask) @ v

    def weights(scores: Tensor, mask: Tensor) -> Tensor:
        """Softmax over the last dimension."""
        n_keys = scores.shape[-1]
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        scores = scores + mask
        if s_aux is not None:
            sinks = s_aux.view(1, groups, shared, 1).repeat_interleave(scores.shape[2] // shared, 2)
            scores = torch.cat([scores, sinks.expand(len(scores), -1, -1, -1).to(scores.dtype)], -1)
        return scores.softmax(-1)[..., :n_keys]

    def on_rows(of_tokens: Tensor) -> Tensor:
        """[D, ...] of the decoding tokens as [rows, ...] of their slots."""
        if n_decoding == now.rows:
            return of_tokens
        return of_tokens.new_zeros(now.rows, *of_tokens.shape[1:]).index_copy_(0, now.slots_D, of_tokens)

    def of_tokens(on_rows: Tensor) -> Tensor:
        return on_rows if n_decoding == now.rows else on_rows[now.slots_D]

    n_decoding = len(now.slots_D)
    if n_decoding and now.shared is not None and sliding_window is None:
        # One softmax over two parts: the prompt, whose keys are read once for all that begin with it, and the rest.
        common, length = now.shared, now.shared.length
        prompts, most = common.members_PM.shape
        prompt_keys, prompt_values = (part[:prompts, :, :length] for part in common.keys_values[module.layer_idx])
        mask = of_tokens(now.mask(-1, None, query.dtype))
        visible = mask.shape[-1]

        def by_prompt(each: Tensor) -> Tensor:
            """[D, groups, shared, x] as [prompts, groups, members * shared, x]."""
            return each[common.members_PM].transpose(1, 2).reshape(prompts, groups, most * shared, -1)

        def by_token(each: Tensor) -> Tensor:
            return each.view(prompts, groups, most, shared, -1).transpose(1, 2).flatten(0, 1)[common.place_D]

        queries = query[0, :, :n_decoding].transpose(0, 1).reshape(n_decoding, groups, shared, size)
        scores = [
            by_token(by_prompt(queries) @ prompt_keys.transpose(-1, -2)),
            of_tokens(on_rows(queries) @ keys[: now.rows, :, length:visible].transpose(-1, -2)),
        ]
        weight = weights(torch.cat(scores, -1) * scale, mask)
        found = by_token(by_prompt(weight[..., :length]) @ prompt_values)
        found += of_tokens(on_rows(weight[..., length:]) @ values[: now.rows, :, length:visible])
        out[:n_decoding] = found.flatten(1, 2)
    elif n_decoding:
        queries = on_rows(query[0, :, :n_decoding].transpose(0, 1)).reshape(now.rows, groups, shared, size)
        mask = now.mask(-1, sliding_window, query.dtype)
        out[:n_decoding] = of_tokens(over(queries, slice(0, now.rows), mask).flatten(1, 2))
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
        decoding: Sequence[Decoding],
        pieces: Sequence[Piece] = (),
        *,
        tile: int = 1,
    ) -> Tensor:
        """One pass; afterwards the slots hold its tokens.

        Args:
            decoding: by rising slot.
            tile: the decoding tokens are padded to a multiple of this, in the cache's last slot.

        Returns:
            [decoding, V] float32 logits.
        """
        n_decoding = len(decoding)
        padding = -n_decoding % tile
        tokens = [*(each[:3] for each in decoding), *[(cache.slots - 1, 0, 0)] * padding]
        for piece in pieces:
            tokens += [(piece.slot, piece.start + i, token) for i, token in enumerate(piece.ids)]
        device, config = self.model.device, self.model.config
        slots_T, positions_T, ids_T = torch.tensor(tokens, device=device).unbind(-1)
        cache.aim(slots_T, positions_T)
        _under_way.now = _Pass(
            slots_T[:n_decoding],
            positions_T[:n_decoding],
            rows=decoding[-1].slot + 1 if decoding else 0,
            pieces=pieces,
            first_piece=n_decoding + padding,
            align=cache.align,
            shared=_Shared.among(decoding, cache, device),
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
            _under_way.now = None
        return output.logits[0, :n_decoding].float()  # type: ignore[no-any-return]

    def bytes_per_position(self) -> int:
        """Cache memory that one token of context takes, measured on one token."""
        cache = SlotCache(1)
        self.run(cache, [Decoding(0, 0, 0)])
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
            alone = [Decoding(slot, step, tokens[place][step]) for slot, place in enumerate(places)]
            among = [Decoding(slot, step, tokens[slot][step]) for slot in range(slots)]
            if not torch.equal(self.run(few, alone, tile=tile), self.run(many, among, tile=tile)[places]):
                return False
        return True
