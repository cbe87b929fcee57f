"""Which examples make up which step: a function of the seed, so that a resumed run goes on with the right ones."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

BATCHES_A_WINDOW = 50
"""Of so many batches the examples are sorted by length: padding becomes rare, and every pass makes other batches."""


def training_order(lengths: Sequence[int], *, epochs: float, batch_size: int, seed: int) -> list[int]:
    """Indices of the examples of a whole run, one batch after the other; only the last may be a smaller one.

    Args:
        lengths: tokens of every example.
        epochs: passes; each goes over the examples in another order.
    """
    draw = random.Random(seed)
    total = math.ceil(round(epochs * len(lengths), 6))
    stream: list[int] = []
    while len(stream) < total:
        stream += draw.sample(range(len(lengths)), len(lengths))
    order: list[int] = []
    for start in range(0, total, BATCHES_A_WINDOW * batch_size):
        window = sorted(stream[start : min(total, start + BATCHES_A_WINDOW * batch_size)], key=lambda i: lengths[i])
        spare = len(window) % batch_size  # 0 but in the last window
        at = draw.randrange(len(window) // batch_size + 1) * batch_size  # any length may be left for the last batch
        last, rest = window[at : at + spare], window[:at] + window[at + spare :]
        batches = [rest[i : i + batch_size] for i in range(0, len(rest), batch_size)]
        draw.shuffle(batches)
        order += [index for batch in [*batches, last] for index in batch]
    return order
