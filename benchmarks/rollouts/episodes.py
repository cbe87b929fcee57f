"""Whole rollouts with tools through agentrl, and what they cost besides decoding."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.config import RolloutConfig
from agentrl.inference.engine import InferenceEngine
from agentrl.policy.policy import Policy
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools import Toolbox
from agentrl.types import Rollout, Sample, Task

from .task import MAX_HOPS, AnyAnswer, LookupTool, Scale


@dataclass(frozen=True)
class Batch:
    """What a system made of a batch of tasks."""

    seconds: float
    cpu_seconds: float
    """Of this process: tells a slow system from a busy machine."""
    rollouts: int
    sampled_tokens: int
    tool_calls: int
    unfinished: int
    """Rollouts that their token budget or the turn limit ended."""
    prefill_tokens: int = 0
    new_tokens: int = 0
    """What had to be prefilled, see `new_tokens`."""
    idle_seconds: float = 0.0

    @property
    def rollouts_per_second(self) -> float:
        return self.rollouts / self.seconds

    @property
    def tokens_per_second(self) -> float:
        return self.sampled_tokens / self.seconds


class Watched:
    """An engine, and the time in which nobody asked it for anything: every episode waited for a tool."""

    def __init__(self, engine: InferenceEngine) -> None:
        self._engine = engine
        self._running = 0
        self._idle_since = 0.0
        self.idle_seconds = 0.0

    @property
    def policy_version(self) -> int:
        return self._engine.policy_version

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        if self._running == 0 and self._idle_since:
            self.idle_seconds += time.perf_counter() - self._idle_since
        self._running += 1
        try:
            return await self._engine.generate(token_ids, session=session, seed=seed, max_tokens=max_tokens)
        finally:
            self._running -= 1
            self._idle_since = time.perf_counter()

    async def end_session(self, session: str) -> None:
        await self._engine.end_session(session)

    async def sync(self, policy: Policy) -> None:
        await self._engine.sync(policy)


def limits(policy: Policy, scale: Scale, tasks: Sequence[Task]) -> RolloutConfig:
    """The limits that trl is given too: one budget for all that follows the prompt, and four turns with tools."""
    prompt = max(len(policy.chat.prompt_ids(list(task.messages))) for task in tasks)
    return RolloutConfig(
        max_turns=MAX_HOPS + 1,
        max_tool_calls=2 * MAX_HOPS,  # never reached: the message that it is spent would be news to this model
        max_turn_tokens=scale.completion_tokens,
        max_context_tokens=prompt + scale.completion_tokens,
        announce_budget=False,
        max_concurrent=1024,
    )


async def roll_out(
    engine: InferenceEngine, policy: Policy, scale: Scale, tasks: Sequence[Task], *, tool_seconds: float, seed: int
) -> Batch:
    """Every task `samples` times."""
    watched = Watched(engine)
    await watched.sync(policy)  # as after an update: nothing is kept from the batch before
    config = limits(policy, scale, tasks)
    rollouts = RolloutEngine(watched, policy.chat, Toolbox([LookupTool(tool_seconds)]), AnyAnswer(), config)
    started, cpu_started = time.perf_counter(), time.process_time()
    done = await rollouts.run(tasks, samples_per_task=scale.samples, seed=seed)
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    assert not any(rollout.error for rollout in done), [rollout.error for rollout in done]
    return Batch(
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        rollouts=len(done),
        sampled_tokens=sum(rollout.output_tokens for rollout in done),
        tool_calls=sum(len(turn.tool_results) for rollout in done for turn in rollout.turns),
        unfinished=sum(rollout.stop_reason != "final" for rollout in done),
        prefill_tokens=getattr(engine, "prefilled_tokens", 0),
        new_tokens=new_tokens(done),
        idle_seconds=watched.idle_seconds,
    )


def new_tokens(rollouts: Sequence[Rollout]) -> int:
    """Tokens that must be fed at least once and that no decode step feeds.

    A task's prompt once for all its samples; and before every further turn what the tools said, with the last token
    of the turn before, which was sampled but not yet fed.
    """
    prompts = {rollout.task.id: len(rollout.prompt_ids) for rollout in rollouts}
    later = sum(len(turn.observation_ids) + 1 for rollout in rollouts for turn in rollout.turns[:-1])
    return sum(prompts.values()) + later
