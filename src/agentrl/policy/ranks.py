"""The processes that train one policy together. By itself a process is rank 0 of 1, and nothing is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from torch import Tensor, nn

Item = TypeVar("Item")


class Ranks:
    """One process alone: every method returns what it was given.

    Every rank holds the whole batch; forward and backward passes are what they share. So means, normalisers and
    whitening are computed from the same tensors everywhere, and no rank ever waits for rows that another lacks.
    """

    rank = 0
    count = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks."""
        return self.rank == 0

    def share(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Those of the pieces (row indices of one microbatch each) that this rank computes: each is of one rank."""
        return list(pieces)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, on every rank; of tensors that are zero but on one rank, it gathers them exactly."""
        return tensor

    def max(self, value: float) -> float:
        """The largest over ranks."""
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every parameter's gradient the sum over ranks."""

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """All ranks' items in the order of ranks, on every rank."""
        return list(items)
