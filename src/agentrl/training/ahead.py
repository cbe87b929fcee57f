"""Overlapped mode: a step's batch is rolled out beside the update of the step before it (arXiv:2410.18252).

    update of step 1 | update of step 2 | update of step 3
    batch of step 2  | batch of step 3  | batch of step 4

Both halves begin with the same weights: the engine samples from a copy of them, so a batch is one update behind when it
is learned from, never two. Between two steps nothing is in flight: the engine is given the new weights then, and what
is measured or saved there is one state. The finished batch is part of a checkpoint, since the weights that sampled it
are gone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import torch

from agentrl.runs.traces import from_trace, to_trace
from agentrl.training.batches import Batch
from agentrl.types import Rollout

Result = TypeVar("Result")


class Ahead:
    """At most one batch that is rolled out before its step.

    Args:
        roll_out: the batch of a step, by its number.
    """

    def __init__(self, roll_out: Callable[[int], Coroutine[Any, Any, Batch]]) -> None:
        self._roll_out = roll_out
        self._step = 0
        self._task: asyncio.Task[Batch] | None = None
        self._batch: Batch | None = None  # of a checkpoint
        self._started = self._ended = 0.0

    def start(self, step: int) -> None:
        """Begin with the batch of `step`; it goes on whenever the event loop is free."""
        self._step, self._started, self._ended = step, time.monotonic(), 0.0
        self._task = asyncio.create_task(self._roll_out(step))
        self._task.add_done_callback(self._note_end)

    def _note_end(self, _: asyncio.Task[Batch]) -> None:
        self._ended = time.monotonic()

    @property
    def seconds(self) -> float:
        """That the batch under way has taken so far; 0 where there is none."""
        return (self._ended or time.monotonic()) - self._started if self._task is not None else 0.0

    async def settle(self) -> None:
        """Return when nothing is in flight. How it went is `take`'s to say: the step before it is complete."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def take(self, step: int) -> Batch:
        """The batch of `step`, rolled out now where that has not happened before.

        Raises:
            TrainingStopped: the endpoints that it needs did not recover.
        """
        task, batch = self._task, self._batch
        self._task = self._batch = None
        if task is None and batch is None:
            return await self._roll_out(step)
        assert self._step == step, f"the batch is of step {self._step}, not {step}"
        return batch if task is None else await task  # type: ignore[return-value]

    async def aclose(self) -> None:
        """Break off what is in flight; a batch that is complete stays, to be saved."""
        if self._task is not None:
            self._task.cancel()
            await _ended(self._task)
            _result(self._task)  # an error of rollouts that nobody takes any more is nobody's

    def state(self) -> dict[str, Any] | None:
        """The batch, where it is complete: all of it for a checkpoint, log-probabilities to the last bit."""
        batch = self._batch or _result(self._task)
        if batch is None:
            return None
        own = {rollout.id for rollout in batch.drawn}
        others = [rollout for rollout in batch.rollouts if rollout.id not in own]
        return {
            "step": self._step,
            "rollouts": [_exact_trace(rollout) for rollout in (*batch.drawn, *others)],
            "n_drawn": len(batch.drawn),
            "learned_from": [rollout.id for rollout in batch.rollouts],
            "metrics": batch.metrics,
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Hand out this batch next. Without one, the next step's is rolled out by the weights of the checkpoint."""
        self._batch = None
        if state is not None:
            rollouts = [from_trace(trace) for trace in state["rollouts"]]
            by_id = {rollout.id: rollout for rollout in rollouts}
            learned_from = [by_id[name] for name in state["learned_from"]]
            self._step = state["step"]
            self._batch = Batch(rollouts[: state["n_drawn"]], learned_from, state["metrics"])


async def in_thread(work: Callable[[], Result]) -> Result:
    """The result of `work`, computed beside the event loop.

    Half an update cannot be saved: who cancels this waits for the end of `work`, gets to use its result, and is
    cancelled at his next wait.
    """
    task = asyncio.ensure_future(asyncio.to_thread(work))
    await _ended(task)
    return task.result()


async def _ended(task: asyncio.Future[Any]) -> None:
    """Wait for the task's end whoever is cancelled meanwhile; that is made up for at the next wait."""
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled and (current := asyncio.current_task()) is not None:
        current.cancel()


def split_threads() -> None:
    """Half of torch's threads for each half of the work.

    More threads than cores would wait for each other inside every matrix product, several times slower than one.
    Threads of Python that have not computed yet take the number over.
    """
    torch.set_num_threads(max(1, torch.get_num_threads() // 2))


def _result(task: asyncio.Task[Batch] | None) -> Batch | None:
    """Of a task that ended well."""
    if task is None or not task.done() or task.cancelled() or task.exception() is not None:
        return None
    return task.result()


def _exact_trace(rollout: Rollout) -> dict[str, Any]:
    trace = to_trace(rollout)
    for turn, recorded in zip(rollout.turns, trace["turns"], strict=True):
        recorded["engine_logprobs"] = turn.engine_logprobs
    return trace
