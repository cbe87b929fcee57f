"""The turn loop: generate, call tools, read, until the policy answers or a limit ends it; then grade.

Rollouts run concurrently: an episode that waits for a tool holds nobody up. Training and evaluation use the same
engine. A limit that the policy ran into is its own doing and is graded; what infrastructure broke is left ungraded.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from agentrl.chat import BUDGET_SPENT, MALFORMED, ChatFormat, ParsedTurn, announce_budget
from agentrl.config import RolloutConfig, RunConfig, training_sections
from agentrl.errors import ConfigError, EngineError, RolloutError
from agentrl.grading.build import build_grader
from agentrl.grading.grader import Grader
from agentrl.inference.engine import InferenceEngine
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Grade, Rollout, StopReason, Task, ToolResult, Turn

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from anything printable: the same parts give the same seed on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass
class _Episode:
    """What an episode has gathered so far; kept outside the turn loop so that a time limit loses nothing."""

    context: list[int]
    turns: list[Turn] = field(default_factory=list)
    calls_made: int = 0
    answer: str = ""


class RolloutEngine:
    """Runs tasks through a policy and its tools.

    Args:
        inference: where tokens come from.
        chat: the policy's chat format.
        toolbox: the tools that it may call.
        grader: scores finished rollouts.
        config: the limits.
    """

    def __init__(
        self, inference: InferenceEngine, chat: ChatFormat, toolbox: Toolbox, grader: Grader, config: RolloutConfig
    ) -> None:
        self.inference = inference
        self._chat = chat
        self._toolbox = toolbox
        self._grader = grader
        self._config = config

    @classmethod
    def from_config(cls, config: RunConfig, policy: Policy, base_url: str = "") -> RolloutEngine:
        """The engine of a run: `policy` sampled in this process, the tools and the grader of the config.

        Args:
            base_url: what `{serve}` stands for, see `agentrl.tools.serving`.

        Raises:
            ConfigError: a section is missing, an address or header cannot be used, or the model does not fit.
        """
        from agentrl.inference.in_process import InProcessEngine  # it loads torch, which other engines do without

        sections = training_sections(config)
        # An episode holds its place in the batch while it waits for tools: more episodes would only wait.
        at_once = min(config.rollout.max_concurrent, config.inference.max_batch)
        return cls(
            InProcessEngine.from_config(config, policy),
            policy.chat,
            Toolbox.from_config(sections.tools, base_url, max_output_chars=config.rollout.max_tool_output_chars),
            build_grader(sections.grading, base_url),
            config.rollout.model_copy(update={"max_concurrent": at_once}),
        )

    async def sync(self, policy: Policy) -> None:
        """Sample from the policy's present weights from now on; between two calls of `run`."""
        await self.inference.sync(policy)

    async def aclose(self) -> None:
        """Close the connections to tools and grader."""
        await self._toolbox.aclose()
        await self._grader.aclose()

    def check_prompts(self, tasks: Sequence[Task]) -> None:
        """Find the tasks that could not be started.

        Raises:
            ConfigError: the chat template refuses a conversation, or it leaves no token for an answer.
        """
        limit = self._config.max_context_tokens
        for task in tasks:
            try:
                length = len(self._prompt_ids(task))
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

    async def run(
        self,
        tasks: Sequence[Task],
        *,
        samples_per_task: int = 1,
        seed: object = 0,
        on_done: Callable[[Rollout], None] | None = None,
    ) -> list[Rollout]:
        """Every task `samples_per_task` times, graded; in the order of the tasks, whatever order they finish in.

        A failed rollout is a result: its siblings finish. What an episode draws depends on the seed, the task, the
        sample and the turn, not on its neighbours.
        """
        places = asyncio.Semaphore(self._config.max_concurrent)

        async def one(task: Task, sample_index: int) -> Rollout:
            async with places:
                rollout = await self._roll_out(task, sample_index, derive_seed(seed, task.id, sample_index))
            grade = Grade(None, rollout.error) if rollout.error else await self._grader.grade(rollout)
            rollout = replace(rollout, grade=grade)
            if on_done is not None:
                on_done(rollout)
            return rollout

        jobs = [asyncio.ensure_future(one(task, i)) for task in tasks for i in range(samples_per_task)]
        try:
            return list(await asyncio.gather(*jobs))
        finally:  # where one raised what is no RolloutError, none goes on unseen
            for job in jobs:
                job.cancel()
            await asyncio.gather(*jobs, return_exceptions=True)

    def _prompt_ids(self, task: Task) -> list[int]:
        messages = list(task.messages)
        if self._config.announce_budget:
            messages = announce_budget(messages, self._config.max_tool_calls)
        return self._chat.prompt_ids(messages, tools=task.item.get("tools"))

    async def _roll_out(self, task: Task, sample_index: int, seed: int) -> Rollout:
        """One episode, not graded yet; `error` says why it must not be."""
        rollout_id = f"trace_{uuid.uuid4()}"
        prompt_ids = self._prompt_ids(task)
        episode, error = _Episode(list(prompt_ids)), ""
        started = time.monotonic()
        try:
            async with asyncio.timeout(self._config.max_seconds):
                stop = await self._turns(episode, task, rollout_id, seed)
        except TimeoutError:
            stop, error = StopReason.TIME_LIMIT, f"not finished after {self._config.max_seconds:g} s"
        except RolloutError as failure:
            stop, error = StopReason.INFRASTRUCTURE, f"{type(failure).__name__}: {failure}"
        finally:
            await self.inference.end_session(rollout_id)
        return Rollout(
            id=rollout_id,
            task=task,
            sample_index=sample_index,
            seed=seed,
            prompt_ids=tuple(prompt_ids),
            turns=tuple(episode.turns),
            stop_reason=stop,
            answer=episode.answer,
            seconds=time.monotonic() - started,
            error=error,
        )

    async def _turns(self, episode: _Episode, task: Task, rollout_id: str, seed: int) -> StopReason:
        """Fill `episode` turn by turn and say why it ended."""
        config, chat = self._config, self._chat
        is_budget_spent = False
        for index in range(config.max_turns):
            room = config.max_context_tokens - len(episode.context)
            if room < 1 and not episode.turns:  # nobody's doing, and no token to learn from
                raise EngineError(f"the prompt leaves no room in {config.max_context_tokens} tokens")
            if room < 1:
                return StopReason.TOKEN_BUDGET
            started = time.monotonic()
            sample = await self.inference.generate(
                episode.context,
                session=rollout_id,
                seed=derive_seed(seed, index),
                max_tokens=min(config.max_turn_tokens, room),
            )
            seconds = time.monotonic() - started
            parsed = chat.parse(sample.token_ids, call_id_prefix=f"{rollout_id[6:14]}_{index}")
            turn = Turn(
                token_ids=sample.token_ids,
                engine_logprobs=sample.logprobs,
                text=parsed.raw,
                tool_calls=parsed.calls,
                tool_results=(),
                observation_ids=(),
                policy_version=sample.policy_version,
                seconds=seconds,
                reasoning_tokens=parsed.reasoning_tokens,
                malformed_calls=len(parsed.malformed),
            )
            episode.turns.append(turn)
            episode.context += sample.token_ids
            if sample.is_truncated:
                return StopReason.TOKEN_BUDGET
            if not parsed.calls and not parsed.malformed:
                episode.answer = parsed.text
                return StopReason.FINAL
            if is_budget_spent:
                return StopReason.TOOL_BUDGET  # it was told, and called again

            results = await self._answer_calls(parsed, episode, task, rollout_id)
            is_budget_spent = episode.calls_made >= config.max_tool_calls
            shown = list(results)
            if is_budget_spent and shown[-1].output != BUDGET_SPENT:
                shown[-1] = replace(shown[-1], output=f"{shown[-1].output}\n{BUDGET_SPENT}")
            observation = chat.observation_ids(parsed, shown)
            episode.turns[-1] = replace(turn, tool_results=tuple(results), observation_ids=tuple(observation))
            episode.context += observation
        return StopReason.TURN_LIMIT

    async def _answer_calls(
        self, parsed: ParsedTurn, episode: _Episode, task: Task, rollout_id: str
    ) -> list[ToolResult]:
        """Run the calls that the budget still covers, in parallel; answer the others, and malformed ones, by text."""
        left = self._config.max_tool_calls - episode.calls_made
        allowed, refused = parsed.calls[:left], parsed.calls[left:]
        results = await self._toolbox.run(allowed, rollout_id=rollout_id, item=task.item) if allowed else []
        results += [ToolResult(call.id, call.name, BUDGET_SPENT, 0.0, is_error=True) for call in refused]
        results += [ToolResult("", "", MALFORMED, 0.0, is_error=True) for _ in parsed.malformed]
        # A malformed call costs a call: otherwise garbage could be repeated up to the turn limit for nothing.
        episode.calls_made += len(parsed.calls) + len(parsed.malformed)
        return results
