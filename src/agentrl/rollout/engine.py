"""Tasks in, graded rollouts out: sandbox, turns (`turns.py`) and grade of each episode, side by side.

An episode that waits for a tool holds nobody up. Training and evaluation use the same engine. A limit that the policy
ran into is its own doing and is graded; what infrastructure broke is left ungraded.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from agentrl.chat import ChatFormat, announce_budget
from agentrl.config import RolloutConfig, RunConfig, training_sections
from agentrl.errors import ConfigError, EngineError, RolloutError, SandboxError, ToolError
from agentrl.grading.build import build_grader
from agentrl.grading.grader import RolloutGrader
from agentrl.grading.holdout import HoldoutGraders
from agentrl.inference.build import build_engine
from agentrl.inference.engine import InferenceEngine
from agentrl.phases import Phases, Watched
from agentrl.rollout.api_model import ApiModel, RequestRefused
from agentrl.rollout.api_turns import ApiTurns
from agentrl.rollout.beginning import Beginning
from agentrl.rollout.episode import Episode
from agentrl.rollout.sampled_turns import SampledTurns
from agentrl.rollout.speaker import Speaker
from agentrl.rollout.turns import TurnLoop, derive_seed
from agentrl.tools.lifecycle import Lifecycle
from agentrl.tools.toolbox import Toolbox
from agentrl.types import FailureClass, Grade, Message, Rollout, StopReason, Task

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy

REFUSED = "request_refused"
"""Flag of a rollout that an API would refuse again."""
BROKEN_BY = {EngineError: FailureClass.ENGINE, ToolError: FailureClass.TOOL, SandboxError: FailureClass.SANDBOX}


class _Plan(NamedTuple):
    """A rollout to come."""

    task: Task
    sample_index: int
    seed: int
    is_watched: bool = False
    """Hold-out graders score it too."""
    beginning: Beginning | None = None
    """What it goes on from; None to begin with the task."""
    replays: bool = False
    """The beginning's calls are made again."""


class RolloutEngine:
    """Runs tasks through a policy and its tools.

    Args:
        inference: where tokens come from; or a model behind an API, which gives turns.
        chat: the policy's chat format; None for a model behind an API, whose server has it.
        toolbox: the tools that it may call.
        grader: scores finished rollouts.
        config: the limits.
        lifecycle: opens and closes what the tools' server keeps for each episode; None where it keeps nothing.
        holdout: graders that score what is run `is_watched`, and are never part of the reward.
    """

    def __init__(
        self,
        inference: InferenceEngine | ApiModel,
        chat: ChatFormat | None,
        toolbox: Toolbox,
        grader: RolloutGrader,
        config: RolloutConfig,
        lifecycle: Lifecycle | None = None,
        holdout: HoldoutGraders | None = None,
    ) -> None:
        self.inference = inference
        self._chat = chat
        self._toolbox = toolbox
        self._grader = grader
        self._config = config
        self._lifecycle = lifecycle
        self._holdout = holdout or HoldoutGraders({})

    @classmethod
    def from_config(cls, config: RunConfig, policy: Policy | ApiModel, base_url: str = "") -> RolloutEngine:
        """The engine of a run: `policy` sampled as `inference:` says, the tools and the grader of the config.

        Args:
            policy: weights, or a model behind an API in their place.
            base_url: what `{serve}` stands for, see `agentrl.tools.serving`.

        Raises:
            ConfigError: a section is missing, an address or header cannot be used, or the model does not fit.
        """
        sections = training_sections(config)
        inference = policy if isinstance(policy, ApiModel) else build_engine(config, policy)
        # An episode holds its place in the batch while it waits for tools: more episodes would only wait.
        at_once = min(config.rollout.max_concurrent, inference.max_sessions)
        return cls(
            inference,
            None if isinstance(policy, ApiModel) else policy.chat,
            Toolbox.from_config(sections.tools, base_url, max_output_chars=config.rollout.max_tool_output_chars),
            build_grader(sections.grading, base_url),
            config.rollout.model_copy(update={"max_concurrent": at_once}),
            Lifecycle.from_config(sections.tools, base_url),
            HoldoutGraders.from_config(sections.grading, base_url, max_seconds=config.rollout.max_grading_seconds),
        )

    def watch(self, phases: Phases) -> None:
        """Tell `phases` from now on when tokens are generated, and tools and grades awaited."""
        watched: list[Any] = [
            Watched(self.inference, "generate", "generation", phases),
            Watched(self._toolbox, "run", "tools", phases),
            Watched(self._grader, "grade", "grading", phases),
        ]
        self.inference, self._toolbox, self._grader = watched

    def surround(self, tools: Callable[[Toolbox], Toolbox], grader: Callable[[RolloutGrader], RolloutGrader]) -> None:
        """Put something around tools and grader before the first rollout, such as an attack that is measured."""
        self._toolbox, self._grader = tools(self._toolbox), grader(self._grader)

    async def open_ledger(self, folder: Path) -> None:
        """Note in `folder` which sandboxes are open, and close those that a crashed process left there."""
        if self._lifecycle is not None:
            await self._lifecycle.open_ledger(folder)

    async def reap(self, folder: Path) -> None:
        """Close the sandboxes of another run, in which nobody works any more."""
        if self._lifecycle is not None:
            await self._lifecycle.reap(folder)

    async def wait_until_healthy(self) -> None:
        """Return when no endpoint that failed again and again is known to be still failing. Cancel it to give up."""
        endpoints = [*self._toolbox.endpoints, *(self._lifecycle.endpoints if self._lifecycle else ())]
        endpoints += getattr(self._grader, "endpoints", ())
        endpoints += getattr(self.inference, "endpoints", ())
        await asyncio.gather(*(endpoint.wait_until_healthy() for endpoint in endpoints))

    async def sync(self, policy: Policy) -> None:
        """Sample from the policy's present weights from now on; between two calls of `run`."""
        await self.inference.sync(policy)

    async def aclose(self) -> None:
        """Close the sandboxes that are still open, and the connections to inference servers, tools and grader."""
        if self._lifecycle is not None:
            await self._lifecycle.aclose()
        await self._toolbox.aclose()
        await self._grader.aclose()
        await self._holdout.aclose()
        await self.inference.aclose()

    def check_prompts(self, tasks: Sequence[Task]) -> None:
        """Find the tasks that could not be started.

        Raises:
            ConfigError: the chat template refuses a conversation, or it leaves no token for an answer.
        """
        limit = self._config.max_context_tokens
        for task in tasks:
            try:
                length = len(self.prompt_ids(task))
            except Exception as error:  # a template is a program: it may raise anything
                raise ConfigError(f"task {task.id!r}: the chat template refuses its messages ({error})") from error
            if length >= limit:
                raise ConfigError(
                    f"task {task.id!r}: found a prompt of {length} tokens; allowed: fewer than "
                    f"rollout.max_context_tokens ({limit})"
                )

    @property
    def tools(self) -> tuple[str, ...]:
        """Names of the tools that there are."""
        return self._toolbox.names

    @property
    def undescribed_tools(self) -> list[str]:
        """Names of the tools that do not say what they are."""
        return self._toolbox.undescribed

    @property
    def keeps_state(self) -> bool:
        """Whether tools keep something for each episode: a sandbox, a session."""
        return self._lifecycle is not None or self._toolbox.keeps_state

    clock = staticmethod(time.monotonic)
    """In seconds: what its users decide by time is decided by this."""

    @property
    def grader_versions(self) -> dict[str, str]:
        """Name to digest, of the grader that scores and of the hold-outs."""
        return {**getattr(self._grader, "versions", {}), **self._holdout.versions}

    @property
    def tool_versions(self) -> dict[str, str]:
        """Of those tools that tell it without being called."""
        return self._toolbox.versions

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        samples_per_task: int = 1,
        seed: object = 0,
        on_done: Callable[[Rollout], None] | None = None,
        is_watched: bool = False,
    ) -> list[Rollout]:
        """Every task `samples_per_task` times, graded; in the order of the tasks, whatever order they finish in.

        A failed rollout is a result: its siblings finish. What an episode draws depends on the seed, the task, the
        sample and the turn, not on its neighbours.

        Args:
            is_watched: the hold-out graders score each rollout too.
        """
        plans = [
            _Plan(task, i, derive_seed(seed, task.id, i), is_watched) for task in tasks for i in range(samples_per_task)
        ]
        return await self._run(plans, on_done)

    async def run_again(
        self,
        rollouts: Iterable[Rollout],
        *,
        is_watched: bool = False,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> list[Rollout]:
        """The same tasks and samples with the seeds that they had, under new ids."""
        plans = [_Plan(each.task, each.sample_index, each.seed, is_watched) for each in rollouts]
        return await self._run(plans, on_done)

    async def continue_from(
        self,
        beginnings: Sequence[Beginning],
        *,
        replays: bool = False,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> list[Rollout]:
        """Go on from each beginning to a graded episode, under a new id; limits count the beginning too.

        Args:
            replays: the beginning's calls are made again first, their outputs not shown. Always so where tools keep
                something for each episode: a sandbox, a session.
        """
        replays = replays or self.keeps_state
        return await self._run(
            [_Plan(each.task, each.sample_index, each.seed, False, each, replays) for each in beginnings], on_done
        )

    async def _run(self, plans: Sequence[_Plan], on_done: Callable[[Rollout], None] | None) -> list[Rollout]:
        if self._lifecycle is not None:
            await self._lifecycle.close_leftovers()
        places = asyncio.Semaphore(self._config.max_concurrent)
        prompts: dict[str, tuple[int, ...]] = {}  # encoded once for all samples of a task

        async def one(plan: _Plan) -> Rollout:
            rollout_id, lost = f"trace_{uuid.uuid4()}", ""
            try:
                async with places:
                    if plan.beginning is None and plan.task.id not in prompts:
                        prompts[plan.task.id] = tuple(self.prompt_ids(plan.task))
                    prompt_ids = plan.beginning.prompt_ids if plan.beginning else prompts[plan.task.id]
                    rollout = await self._roll_out(plan, rollout_id, prompt_ids)
                rollout = replace(rollout, grade=await self._grade(rollout))
                if plan.is_watched:
                    rollout = replace(rollout, grade=await self._holdout.watch(rollout))
            finally:  # after the grade: a grader may look into the sandbox
                lost = await self._end(rollout_id)
            if lost and rollout.is_valid:
                rollout = _broken(rollout, SandboxError(lost, rollout_id=rollout_id))
            if on_done is not None:
                on_done(rollout)
            return rollout

        jobs = [asyncio.ensure_future(one(plan)) for plan in plans]
        try:
            return list(await asyncio.gather(*jobs))
        finally:  # where one raised what is no RolloutError, none goes on unseen
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def prompt_ids(self, task: Task) -> list[int]:
        """What an episode of the task begins with; empty where a server turns messages into ids."""
        return self._chat.prompt_ids(self._messages(task), tools=self.described(task)) if self._chat else []

    def _messages(self, task: Task) -> list[Message]:
        messages = list(task.messages)
        return announce_budget(messages, self._config.max_tool_calls) if self._config.announce_budget else messages

    def _speaker(self, task: Task, rollout_id: str) -> Speaker:
        """Who takes the turns of an episode."""
        if isinstance(self.inference, ApiModel):
            return ApiTurns(self.inference, self._messages(task), self.offered(task), rollout_id)
        assert self._chat is not None  # an engine of tokens has one
        return SampledTurns(self.inference, self._chat, self.described(task), rollout_id)

    def described(self, task: Task) -> list[dict[str, Any]] | None:
        """The tool objects that the task, or else the config, describes to the policy."""
        return task.item.get("tools") or self._toolbox.descriptions or None

    def offered(self, task: Task) -> list[dict[str, Any]] | None:
        """The tool objects by which an API lets its model call: those described, and the others by their names."""
        return task.item.get("tools") or self._toolbox.offered or None

    async def _roll_out(self, plan: _Plan, rollout_id: str, prompt_ids: tuple[int, ...]) -> Rollout:
        """One episode, not graded yet; `error` says why it must not be."""
        episode = Episode(self._config, prompt_ids)
        for turn in plan.beginning.turns if plan.beginning else ():
            episode.recall(turn)
        turns = TurnLoop(self._speaker(plan.task, rollout_id), self._toolbox)
        failure: RolloutError | None = None
        stop, clock = StopReason.INFRASTRUCTURE, asyncio.timeout(self._config.max_seconds)
        started = time.monotonic()
        try:
            if self._lifecycle is not None:
                await self._lifecycle.open(rollout_id, plan.task.item)
                clock, started = asyncio.timeout(self._config.max_seconds), time.monotonic()
            async with clock:
                if plan.replays:
                    await turns.replay(episode, plan.task, rollout_id=rollout_id)
                stop = await turns.run(episode, plan.task, rollout_id=rollout_id, seed=plan.seed)
        except TimeoutError:
            if not clock.expired():  # somebody else's, that should have been a RolloutError: a bug
                raise
            stop = StopReason.TIME_LIMIT
        except RolloutError as error:
            failure = error
        finally:
            await self.inference.end_session(rollout_id)
        rollout = Rollout(
            id=rollout_id,
            task=plan.task,
            sample_index=plan.sample_index,
            seed=plan.seed,
            prompt_ids=prompt_ids,
            turns=tuple(episode.turns),
            stop_reason=stop,
            answer=episode.answer,
            seconds=time.monotonic() - started,
            error=f"not finished after {self._config.max_seconds:g} s" if stop is StopReason.TIME_LIMIT else "",
            cost_usd=episode.cost_usd,
        )
        return _broken(rollout, failure) if failure else rollout

    async def _grade(self, rollout: Rollout) -> Grade:
        """The grade, or why there is none: a grader that hangs must not hold the step."""
        if rollout.error:
            return replace(rollout.grade, reason=rollout.error)
        limit = self._config.max_grading_seconds
        try:
            async with asyncio.timeout(limit) as clock:
                return await self._grader.grade(rollout)
        except TimeoutError:
            if not clock.expired():
                raise
            return Grade(None, f"grader: no answer within {limit:g} s (rollout.max_grading_seconds)", limit)
        except RolloutError as error:
            return Grade(None, f"{type(error).__name__}: {error}")

    async def _end(self, rollout_id: str) -> str:
        """Let go of what tools and sandbox hold for the rollout; says so where its sandbox turns out to be dead."""
        await self._toolbox.end_rollout(rollout_id)
        return await self._lifecycle.close(rollout_id) if self._lifecycle is not None else ""


def _broken(rollout: Rollout, failure: RolloutError) -> Rollout:
    """The rollout, without a vote: a boundary broke."""
    broken_by = next((each for kind, each in BROKEN_BY.items() if isinstance(failure, kind)), FailureClass.TOOL)
    error = f"{type(failure).__name__}: {failure}"
    return replace(
        rollout,
        stop_reason=StopReason.INFRASTRUCTURE,
        broken_by=broken_by,
        error=error,
        grade=Grade(None, error, errors=(REFUSED,) if isinstance(failure, RequestRefused) else ()),
    )
