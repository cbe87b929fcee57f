"""The processes that train one policy together. By itself a process is rank 0 of 1, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from torch import Tensor, nn

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy
    from agentrl.policy.reference import ReferencePolicy

Item = TypeVar("Item")
Value = TypeVar("Value")


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

    def __str__(self) -> str:
        return "one process"

    # The update: passes are shared, what they yield is summed.

    def share(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Those of the pieces (row indices of one microbatch each) that this rank computes: each is of one rank.

        Where the weights are sharded every rank gets equally many, some of them empty: a pass is made by all or none.
        """
        return list(pieces)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over ranks, on every rank; of tensors that are zero but on one rank, it gathers them exactly."""
        return tensor

    def max(self, value: float) -> float:
        """The largest over ranks."""
        return value

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every parameter's gradient the sum over ranks."""

    def clip_gradients(self, parameters: Iterable[nn.Parameter], max_norm: float) -> float:
        """Scale the gradients down to a joint norm of at most `max_norm`; returns the norm before."""
        return float(nn.utils.clip_grad_norm_(parameters, max_norm))

    # The weights: replicated, or in shards that are trained beside a whole copy.

    def shard(self, policy: Policy, reference: ReferencePolicy) -> tuple[Policy, ReferencePolicy]:
        """What the trainer computes with, in the place of these two: themselves, where weights are replicated."""
        return policy, reference

    def collect_weights(self) -> None:
        """Bring the whole policy up to the shards, after an update of them."""

    def spread_weights(self) -> None:
        """Bring the shards up to the whole policy, after a checkpoint was loaded into it."""

    # The loop around it: the first rank decides and writes, all others follow.

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """All ranks' items in the order of ranks, on every rank."""
        return list(items)

    def broadcast(self, value: Value) -> Value:
        """The first rank's value, on every rank: for what must be decided alike, such as by a clock."""
        return value

    def on_first(self, work: Callable[[], Value]) -> Value:
        """Do it on the first rank alone; every rank gets the result, or raises the error."""
        return work()

    async def on_first_async(self, work: Coroutine[Any, Any, Value]) -> Value:
        """As `on_first`, of work that waits."""
        return await work

    def ask_to_stop(self) -> None:
        """Tell all ranks to come to an orderly end at their next rollouts; from a signal handler."""

    def is_asked_to_stop(self) -> bool:
        """Whether a rank has told them so."""
        return False

    def ending_together(self) -> AbstractContextManager[None]:
        """Around all the work: an error of one rank ends all of them, and one of them says why."""
        return nullcontext()
