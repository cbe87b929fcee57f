"""Several processes over torch.distributed with replicated weights: each computes its pieces, gradients are summed.

No DistributedDataParallel around the model: one all-reduce of flat buckets follows the last backward pass of an
optimiser step, however many or few passes a rank had, so uneven and empty shares cannot deadlock.
"""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from agentrl.errors import AgentRLError, RankError
from agentrl.policy.ranks import Ranks

Item = TypeVar("Item")
Value = TypeVar("Value")

BUCKET_ELEMENTS = 2**24  # 64 MB of float32: large enough for the bandwidth, small beside the gradients themselves
TALK_TIMEOUT = timedelta(hours=12)  # one may wait for another's rollouts through an outage; a death shows at once
LAST_WORDS_SECONDS = 5.0  # that a dying process may take to be gone
SPEAKING_SECONDS = 2.0  # that a rank may take to say why


class ProcessRanks(Ranks):
    """The ranks of an initialised default process group.

    Args:
        device: that tensors are summed on.
    """

    def __init__(self, device: torch.device) -> None:
        self.rank, self.count, self.device = dist.get_rank(), dist.get_world_size(), device
        # Objects travel on the CPU, apart from tensors: rollouts may be gathered while an update runs.
        self._talk = dist.new_group(backend="gloo", timeout=TALK_TIMEOUT)
        self._store = dist.distributed_c10d.PrefixStore("agentrl", dist.distributed_c10d._get_default_store())
        self._peers: list[tuple[str, int]] = [("", 0)] * self.count
        dist.all_gather_object(self._peers, (socket.gethostname(), os.getpid()), group=self._talk)

    def __str__(self) -> str:
        return f"{self.count} processes, each with all weights, on {self.device.type}"

    def channel(self) -> Channel:
        """Objects in an order of their own; made by all ranks at the same point of the program."""
        return Channel(self, dist.new_group(backend="gloo", timeout=TALK_TIMEOUT))

    def share(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        """Dealt in turn: pieces are cut to about equal numbers of tokens."""
        return list(pieces[self.rank :: self.count])

    def sum(self, tensor: Tensor) -> Tensor:
        summed = tensor.detach().to(self.device, copy=True).contiguous()
        with self._none_missing():
            dist.all_reduce(summed)
        return summed.to(tensor.device)

    def max(self, value: float) -> float:
        largest = torch.tensor(value, dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        largest = largest.to(self.device)
        with self._none_missing():
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
        return float(largest)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        wanted = list(parameters)
        # A parameter that no rank's pass has reached keeps no gradient, as in one process: AdamW then skips it.
        reached = torch.tensor([parameter.grad is not None for parameter in wanted], dtype=torch.float32)
        reached = self.sum(reached) > 0
        wanted = [parameter for parameter, is_reached in zip(wanted, reached.tolist(), strict=True) if is_reached]
        for parameter in wanted:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _buckets([cast(Tensor, parameter.grad) for parameter in wanted]):
            flat = torch.cat([gradient.flatten() for gradient in bucket])
            with self._none_missing():
                dist.all_reduce(flat)
            for gradient, summed in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                gradient.copy_(summed.view_as(gradient))

    def gather(self, items: Sequence[Item]) -> list[Item]:
        return self._gather(items, self._talk)

    def broadcast(self, value: Value) -> Value:
        box = [value if self.is_first else None]
        with self._none_missing():
            dist.broadcast_object_list(box, src=0, group=self._talk)
        return cast(Value, box[0])

    def on_first(self, work: Callable[[], Value]) -> Value:
        outcome: Outcome | None = None
        if self.is_first:
            try:
                outcome = Outcome(work())
            except Exception as error:  # whatever it is, the others wait for it
                self.broadcast(Outcome.of_error(error))
                raise
        return cast(Value, cast(Outcome, self.broadcast(outcome)).unfold())

    async def on_first_async(self, work: Coroutine[Any, Any, Value]) -> Value:
        outcome: Outcome | None = None
        if self.is_first:
            try:
                outcome = Outcome(await work)
            except Exception as error:
                self.broadcast(Outcome.of_error(error))
                raise
        else:
            work.close()
        return cast(Value, cast(Outcome, self.broadcast(outcome)).unfold())

    def ask_to_stop(self) -> None:
        self._store.set("stop", "1")

    def is_asked_to_stop(self) -> bool:
        with self._none_missing():
            return self._store.check(["stop"])

    @contextmanager
    def ending_together(self) -> Iterator[None]:
        """See Ranks. The first to fail says why; a rank that only lost another, or failed alike, leaves silently.

        Raises:
            RankError: another rank ended without a word, and this one was first to notice.
            SystemExit: another rank has said why.
        """
        try:
            yield
        except RankError:
            self._leave_unless_first()
            raise
        except AgentRLError as error:
            self._leave_unless_first(f"rank {self.rank}: {type(error).__name__}: {error}")
            raise
        except BaseException as error:  # a bug keeps its traceback
            if isinstance(error, RuntimeError) and _is_of_collective(error):  # in a sharded forward or backward pass
                lost = RankError(self._why(error))
                self._leave_unless_first()
                raise lost from error
            self._is_first_to_fail(f"rank {self.rank}: {type(error).__name__}: {error}")
            raise
        else:
            dist.destroy_process_group()

    def _leave_unless_first(self, last_words: str = "") -> None:
        """Return on the rank that is to say why all this ends."""
        if not self._is_first_to_fail(last_words):
            time.sleep(SPEAKING_SECONDS)  # the launcher ends all when one has ended
            raise SystemExit(1) from None

    def _is_first_to_fail(self, last_words: str) -> bool:
        try:
            if last_words:
                self._store.set(f"last words of {self.rank}", last_words)
            return bool(self._store.add("speakers", 1) == 1)
        except RuntimeError:  # the store went with its process: better said twice than not at all
            return True

    def _gather(self, items: Sequence[Item], group: Any) -> list[Item]:
        shares: list[Any] = [None] * self.count
        with self._none_missing():
            dist.all_gather_object(shares, list(items), group=group)
        return [item for share in shares for item in share]

    @contextmanager
    def _none_missing(self) -> Iterator[None]:
        """Around what all ranks do together.

        Raises:
            RankError: one of them has ended, or is stuck.
        """
        try:
            yield
        except RuntimeError as error:  # what torch raises of gloo, NCCL and the store alike
            raise RankError(self._why(error)) from error

    def _why(self, error: RuntimeError) -> str:
        deadline = time.monotonic() + LAST_WORDS_SECONDS
        while True:
            gone = [f"rank {rank}" for rank, (host, pid) in enumerate(self._peers) if _is_gone(host, pid)]
            said = [words for rank in range(self.count) if rank != self.rank and (words := self._last_words(rank))]
            if said:
                return f"the run ends on all ranks: {'; '.join(said)}"
            if gone:
                return f"{' and '.join(gone)} of {self.count} ended without a word (killed, or out of memory?)"
            if time.monotonic() > deadline:
                return f"rank {self.rank} of {self.count} lost the others: {str(error).splitlines()[0]}"
            time.sleep(0.1)

    def _last_words(self, rank: int) -> str:
        key = f"last words of {rank}"
        try:
            return self._store.get(key).decode() if self._store.check([key]) else ""
        except RuntimeError:
            return ""


class Channel:
    """A gather that does not wait for other collective calls of the same ranks."""

    def __init__(self, ranks: ProcessRanks, group: Any) -> None:
        self._ranks, self._group = ranks, group

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """See Ranks."""
        return self._ranks._gather(items, self._group)


@dataclass(frozen=True)
class Outcome:
    """What work came to, on its way to ranks that did not do it; an error travels as its parts."""

    result: Any = None
    error: tuple[type[Exception], tuple[Any, ...], dict[str, Any]] | None = None

    @classmethod
    def of_error(cls, error: Exception) -> Outcome:
        found = cls(error=(type(error), error.args, dict(vars(error))))
        try:
            pickle.dumps(found)
        except Exception:  # of what cannot travel, the words do
            return cls(error=(RuntimeError, (f"{type(error).__name__}: {error}",), {}))
        return found

    def unfold(self) -> Any:
        """The result.

        Raises:
            Exception: what the work has raised.
        """
        if self.error is None:
            return self.result
        kind, args, attributes = self.error
        error = kind.__new__(kind, *args)  # not by its constructor, which need not take its own `args`
        error.__dict__.update(attributes)
        raise error


def _is_of_collective(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _is_gone(host: str, pid: int) -> bool:
    """Whether a process of this machine is no more; of other machines' nothing is known."""
    if host != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return True
    except OSError:  # another user's, or a system that tells no more
        return False
    return state in "ZX"  # dead, and its parent has not looked yet


def _buckets(gradients: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Runs of gradients of one precision, each of about BUCKET_ELEMENTS."""
    bucket: list[Tensor] = []
    size = 0
    for gradient in gradients:
        if bucket and (size + gradient.numel() > BUCKET_ELEMENTS or gradient.dtype != bucket[0].dtype):
            yield bucket
            bucket, size = [], 0
        bucket.append(gradient)
        size += gradient.numel()
    if bucket:
        yield bucket
