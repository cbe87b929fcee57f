"""Keys and values of all sessions, and the attention masks that go with them.

Each session owns one slot. A decode step reads a contiguous range of slots: gathering rows by index made a step three
times slower.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

GROWTH = 256  # cache positions are added in steps of this many
PLAIN, SLIDING = "full_attention", "sliding_attention"


class SlotCache:
    """[slots, heads, positions, head size] a layer, for keys and for values; what a model sees as its cache.

    Args:
        slots: how many sessions fit.
        align: visible positions are rounded up to a multiple of this (`GROWTH` is one).
    """

    def __init__(self, slots: int, *, align: int = 1) -> None:
        self.slots = slots
        self.capacity = 0
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._align = align
        self._rows: slice | Tensor = slice(0, 0)
        self._row_index = torch.zeros(0, 1, dtype=torch.long)
        self._positions = self._row_index
        self._visible = 0

    def aim(self, rows: slice | Tensor, positions: Tensor) -> Tensor:
        """Point the next forward pass at slots and positions [B, n]; returns how far back each query sees.

        Returns:
            [B, 1, n, visible] long, query position minus key position: negative lies in the future.
        """
        self._rows, self._positions = rows, positions
        index = torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        self._row_index = index.to(positions.device)[:, None]
        self._visible = -(-(int(positions.max()) + 1) // self._align) * self._align
        if self._visible > self.capacity:
            self._grow(-(-self._visible // GROWTH) * GROWTH)
        columns = torch.arange(self._visible, device=positions.device)
        return positions[:, None, :, None] - columns

    def _grow(self, capacity: int) -> None:
        for layer, pair in enumerate(self.layers):  # one after the other: only one layer is held twice
            wider = [tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[3]) for tensor in pair]
            for new, old in zip(wider, pair, strict=True):
                new[:, :, : self.capacity] = old
            self.layers[layer] = (wider[0], wider[1])
        self.capacity = capacity

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store [B, heads, n, size] where `aim` pointed and return all that the rows may see."""
        if layer == len(self.layers):
            shape = (self.slots, keys.shape[1], self.capacity, keys.shape[3])
            self.layers.append((keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[3]))))
        stored = self.layers[layer]
        for store, new in zip(stored, (keys, values), strict=True):
            store[self._row_index, :, self._positions] = new.transpose(1, 2)
        return stored[0][self._rows, :, : self._visible], stored[1][self._rows, :, : self._visible]

    def copy(self, source: int, target: int, length: int) -> None:
        """Give slot `target` the first `length` positions of slot `source`."""
        for pair in self.layers:
            for tensor in pair:
                tensor[target, :, :length] = tensor[source, :, :length]

    def swap(self, one: int, other: int, length: int) -> None:
        """Exchange the first `length` positions of two slots."""
        pair_of_slots, exchanged = torch.tensor([one, other]), torch.tensor([other, one])
        for pair in self.layers:
            for tensor in pair:
                tensor[pair_of_slots, :, :length] = tensor[exchanged, :, :length]

    @property
    def bytes_per_position(self) -> int:
        """Memory of one position of one slot, over all layers; 0 before the first pass."""
        return sum(t.shape[1] * t.shape[3] * t.element_size() for pair in self.layers for t in pair)

    def get_seq_length(self, layer: int = 0) -> int:
        """Models ask for this where no positions are given; here they always are."""
        del layer
        return 0


class SlotModel:
    """A causal LM that reads and writes slots.

    Args:
        model: takes a 4-D attention mask and a cache object, as decoder-only models of transformers do; only read.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        text = model.config.get_text_config()
        self._window: int | None = getattr(text, "sliding_window", None)
        self._kinds = set(getattr(text, "layer_types", None) or ())

    @torch.no_grad()
    def logits(self, cache: SlotCache, rows: slice | Tensor, input_ids: Tensor, positions: Tensor) -> Tensor:
        """Run [B, n] tokens at `positions` of `rows`; [B, V] float32, the logits behind each row's last column."""
        device = self.model.device
        positions = positions.to(device)
        distance = cache.aim(rows if isinstance(rows, slice) else rows.to(device), positions)
        output = self.model(
            input_ids=input_ids.to(device),
            attention_mask=self._masks(distance),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return output.logits[:, -1].float()  # type: ignore[no-any-return]

    def _masks(self, distance: Tensor) -> Any:
        """One mask for all layers, or, for models that mix them, one for each kind of layer."""
        past = distance >= 0
        if SLIDING in self._kinds:
            return {PLAIN: self._as_taken(past), SLIDING: self._as_taken(past & (distance < self._window))}
        if self._window is not None and not self._kinds:
            past &= distance < self._window
        return self._as_taken(past)

    def _as_taken(self, mask: Tensor) -> Tensor:
        if self.model.config._attn_implementation != "eager":
            return mask
        # eager adds the mask to the scores, where sdpa takes a yes or no
        return torch.zeros_like(mask, dtype=self.model.dtype).masked_fill_(~mask, -math.inf)

    def bytes_per_position(self) -> int:
        """Cache memory that one token of context takes, measured on one token."""
        cache = SlotCache(1)
        self.logits(cache, slice(0, 1), torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, dtype=torch.long))
        return cache.bytes_per_position

    def rows_are_independent(self, rows: int, align: int) -> bool:
        """Whether a row's logits stay bit-equal among other neighbours, in other places and longer caches.

        Matrix kernels choose their summation order by the shape, so this holds on some machines for some shapes. It is
        tried with `rows` and twice as many, and with `align` and twice as many visible positions.
        """
        few, many = SlotCache(rows, align=align), SlotCache(2 * rows, align=2 * align)
        generator = torch.Generator().manual_seed(0)
        vocabulary = self.model.get_input_embeddings().num_embeddings
        tokens = torch.randint(vocabulary, (2 * rows, 4), generator=generator)
        place = torch.randperm(2 * rows, generator=generator)[:rows]
        for step in range(4):
            position = torch.full((2 * rows, 1), step)
            alone = self.logits(few, slice(0, rows), tokens[place, step, None], position[:rows])
            among = self.logits(many, slice(0, 2 * rows), tokens[:, step, None], position)[place]
            if not torch.equal(alone, among):
                return False
        return True
