"""Rollouts shared by the ranks of a run: each rolls out its tasks, and all end up with all rollouts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from agentrl.rollout.engine import RolloutEngine
from agentrl.types import Rollout, Task

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy
    from agentrl.policy.processes import ProcessRanks
    from agentrl.policy.ranks import Ranks

POLL_SECONDS = 0.5  # how often a rank looks whether another was told to stop


def shared_rollouts(engine: RolloutEngine, ranks: Ranks, *, is_remote: bool) -> RolloutEngine | SharedRollouts:
    """The engine to roll out with: this process' own, where it is alone."""
    from agentrl.policy.processes import ProcessRanks  # it loads torch

    return SharedRollouts(engine, ranks, is_remote=is_remote) if isinstance(ranks, ProcessRanks) else engine


class SharedRollouts:
    """A RolloutEngine to those who use it; every rank makes the same calls in the same order, beside an update or not.

    A rollout's seed is a function of the task and the sample, so it does not matter which rank draws it. Whatever ends
    one rank's rollouts early ends everybody's, at the same call.

    Args:
        engine: this rank's own.
        ranks: who shares.
        is_remote: inference servers generate: the first rank alone talks to them, and rolls out everything.
    """

    def __init__(self, engine: RolloutEngine, ranks: ProcessRanks, *, is_remote: bool) -> None:
        self._engine, self._ranks, self._is_remote = engine, ranks, is_remote
        self._channel = ranks.channel()
        self._n_shares = 1 if is_remote else ranks.count
        self._now = 0.0

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that there are."""
        return self._engine.tools

    @property
    def grader_versions(self) -> dict[str, str]:
        """As the engine's."""
        return self._engine.grader_versions

    def clock(self) -> float:
        """When the last rollouts were gathered, by the first rank's clock: what all must decide alike goes by it."""
        return self._now

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        samples_per_task: int = 1,
        seed: object = 0,
        on_done: Callable[[Rollout], None] | None = None,
        is_watched: bool = False,
    ) -> list[Rollout]:
        """As RolloutEngine.run; a task's samples are of one rank, where they share a prompt.

        Args:
            on_done: hears of this rank's own.

        Raises:
            RankError: a rank has ended.
            CancelledError: a rank's rollouts were interrupted.
        """
        mine = self._engine.run(
            self._share(tasks), samples_per_task=samples_per_task, seed=seed, on_done=on_done, is_watched=is_watched
        )
        shares = await self._gather(mine)
        size = samples_per_task
        return [
            rollout
            for i in range(len(tasks))
            for rollout in shares[i % self._n_shares][i // self._n_shares * size :][:size]
        ]

    async def run_again(self, rollouts: Sequence[Rollout], *, is_watched: bool = False) -> list[Rollout]:
        """As RolloutEngine.run_again."""
        shares = await self._gather(self._engine.run_again(self._share(rollouts), is_watched=is_watched))
        return [shares[i % self._n_shares][i // self._n_shares] for i in range(len(rollouts))]

    async def wait_until_healthy(self) -> None:
        """As RolloutEngine.wait_until_healthy, of this rank's endpoints; at once where a rank was told to stop."""
        await self._until_stop(self._engine.wait_until_healthy())

    async def sync(self, policy: Policy) -> None:
        """As RolloutEngine.sync; where servers generate, they are sent the weights by the first rank."""
        work = self._engine.sync(policy)
        await (self._ranks.on_first_async(work) if self._is_remote else work)

    def _share(self, items: Sequence[Any]) -> list[Any]:
        """What this rank does of the items, which are dealt in turn."""
        return list(items[self._ranks.rank :: self._n_shares]) if self._ranks.rank < self._n_shares else []

    async def _gather(self, work: Coroutine[Any, Any, list[Rollout]]) -> list[list[Rollout]]:
        """Every rank's result."""
        found: list[Rollout] | None = None
        with suppress(asyncio.CancelledError):  # the others are waiting for an answer, and must hear of it
            found = await self._until_stop(work)
        # In a thread: the event loop may have an update to look after, which the others wait for.
        gathering = asyncio.ensure_future(asyncio.to_thread(self._channel.gather, [(found, time.monotonic())]))
        try:
            gathered = await asyncio.shield(gathering)
        except asyncio.CancelledError:
            await gathering
            raise
        self._now = gathered[0][1]
        shares = [share for share, _ in gathered if share is not None]
        if len(shares) < len(gathered):
            raise asyncio.CancelledError
        return shares

    async def _until_stop(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result, or None where a rank was told to stop before."""
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if self._ranks.is_asked_to_stop():
                    return None
                await asyncio.wait([task], timeout=POLL_SECONDS)
            return task.result()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
