"""When endpoints fail, a step waits: what infrastructure broke is rolled out again once it works."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

from agentrl.errors import TrainingStopped
from agentrl.rollout.engine import REFUSED
from agentrl.types import Rollout, Task

FIRST_PAUSE_SECONDS = 1.0
MAX_PAUSE_SECONDS = 30.0
ERROR_NAME = re.compile(r"^\w+Error: ")
FOR_GOOD = {
    "formula_parse_error",
    "invalid_variable_error",
    "python_grader_runtime_error",
    "sample_parse_error",
    REFUSED,
}
"""Flags of grades that are missing for what grader, row or answer are: the same rollout would never be graded. Beside
any other flag, such as that of a server, the next time may be better."""


class Outage(TrainingStopped):
    """It lasted too long. `rollouts` is the batch that stays incomplete, with the reasons."""

    RULE = "ungraded"

    def __init__(self, message: str, rollouts: Sequence[Rollout]) -> None:
        super().__init__(self.RULE, message)
        self.rollouts = rollouts


class Episodes(Protocol):
    """What is guarded: a RolloutEngine, or what stands in front of one."""

    @property
    def tools(self) -> tuple[str, ...]: ...

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        samples_per_task: int = 1,
        seed: object = 0,
        on_done: Callable[[Rollout], None] | None = None,
        is_watched: bool = False,
    ) -> list[Rollout]: ...

    async def run_again(self, rollouts: Sequence[Rollout], *, is_watched: bool = False) -> list[Rollout]: ...

    async def wait_until_healthy(self) -> None: ...


class OutageGuard:
    """Runs tasks through an engine, and waits where more rollouts are lost to infrastructure than may be.

    The lost ones are rolled out again with the seeds that they had, and those that went well are kept: every task has
    all its samples in the end, each drawn as it would have been without the outage. Going on with the survivors
    alone would teach from those episodes that happen to need the broken endpoint least.

    Args:
        max_lost_fraction: what may be missing of a batch, see `ppo.guards.max_ungraded_fraction`.
        max_outage_seconds: for one batch to be complete after its first failure.
        tell: is told of pauses, their cause and their end.
        clock: in seconds; ranks that share rollouts must decide by the same one.

    Attributes:
        rolled_out_again: rollouts of the last batch that took more than one attempt.
        seconds_paused: that the last batch waited.
    """

    def __init__(
        self,
        engine: Episodes,
        *,
        max_lost_fraction: float,
        max_outage_seconds: float,
        tell: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._max_lost_fraction = max_lost_fraction
        self._max_outage_seconds = max_outage_seconds
        self._tell = tell
        self.rolled_out_again = 0
        self.seconds_paused = 0.0

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that there are."""
        return self._engine.tools

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        samples_per_task: int = 1,
        seed: object = 0,
        on_done: Callable[[Rollout], None] | None = None,
        is_watched: bool = False,
    ) -> list[Rollout]:
        """As `RolloutEngine.run`, complete but for the few that may be missing.

        Raises:
            Outage: the endpoints did not recover in time, or cannot; the message says why.
        """
        self.rolled_out_again, self.seconds_paused = 0, 0.0
        rollouts = await self._engine.run(
            tasks, samples_per_task=samples_per_task, seed=seed, on_done=on_done, is_watched=is_watched
        )
        if not self._are_too_many(lost := _lost(rollouts), rollouts):
            return rollouts
        started, pause, n_pauses, again = self._clock(), FIRST_PAUSE_SECONDS, 0, set[int]()

        async def roll_out_again(chosen: Sequence[int]) -> None:
            found = await self._engine.run_again([rollouts[i] for i in chosen], is_watched=is_watched)
            for i, rollout in zip(chosen, found, strict=True):
                rollouts[i] = rollout
            again.update(chosen)

        while self._are_too_many(lost, rollouts):
            left = started + self._max_outage_seconds - self._clock()
            cause = describe_outage([rollouts[i] for i in lost], len(rollouts), self._max_lost_fraction)
            if self._are_too_many(for_good := [i for i in lost if _is_lost_for_good(rollouts[i])], rollouts):
                ungraded = [rollouts[i] for i in for_good]
                said = describe_outage(ungraded, len(rollouts), self._max_lost_fraction, what="cannot be graded")
                raise Outage(f"{said}; no wait mends that", rollouts)
            if left <= 0:
                raise Outage(f"{cause}; waited {self._max_outage_seconds:g} s (max_outage_seconds)", rollouts)
            self._tell(f"paused: {cause}; waiting up to {left:.0f} s for it to recover")
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await asyncio.sleep(pause)  # breakers do not see every failure: a grader may answer without a score
                    await self._engine.wait_until_healthy()
            # One rollout is the probe: it takes the way that the others take. Each time another one, as a single task
            # may be broken for reasons of its own.
            probe = lost[n_pauses % len(lost)]
            await roll_out_again([probe])
            if rollouts[probe].is_valid:
                await roll_out_again([i for i in lost if i != probe])
            n_pauses, pause = n_pauses + 1, min(2 * pause, MAX_PAUSE_SECONDS)
            lost = _lost(rollouts)
        self.rolled_out_again, self.seconds_paused = len(again), self._clock() - started
        self._tell(f"going on after {self.seconds_paused:.0f} s: {len(again)} rollouts were rolled out again")
        return rollouts

    def _are_too_many(self, lost: Sequence[int], rollouts: Sequence[Rollout]) -> bool:
        return bool(lost) and (len(lost) > self._max_lost_fraction * len(rollouts) or len(lost) == len(rollouts))


def _lost(rollouts: Sequence[Rollout]) -> list[int]:
    return [i for i, rollout in enumerate(rollouts) if not rollout.is_valid]


def _is_lost_for_good(rollout: Rollout) -> bool:
    return bool(rollout.grade.errors) and FOR_GOOD.issuperset(rollout.grade.errors)


def describe_outage(
    lost: Sequence[Rollout], n_rollouts: int, limit: float, *, what: str = "are lost to infrastructure"
) -> str:
    """How many rollouts are lost, to whom, and why, the commonest culprits first."""
    reasons = [rollout.error or rollout.grade.reason for rollout in lost]
    by_culprit = Counter(_culprit(reason) for reason in reasons)
    last = {_culprit(reason): reason for reason in reasons}
    shown = "; ".join(f"{count} x {last[culprit]}" for culprit, count in by_culprit.most_common(3))
    return f"{len(lost)} of {n_rollouts} rollouts {what} (at most {limit:.0%} may be): {shown}"


def _culprit(reason: str) -> str:
    """Which endpoint a reason names: `ToolError: tool search at http://...: answered 503` -> up to `answered`."""
    return ERROR_NAME.sub("", reason).partition(": ")[0]
