"""The turn loop: generate, call tools, read, until the policy answers or a limit ends it."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.chat import BUDGET_SPENT, MALFORMED, ChatFormat, ParsedTurn
from agentrl.errors import EngineError, ToolError
from agentrl.inference.engine import InferenceEngine
from agentrl.rollout.episode import Episode
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Sample, StopReason, Task, ToolResult, Turn

ENGINE_ATTEMPTS = 3
"""Generations asked for until a turn is given up: an inference server may have been restarted under it."""
ENGINE_PAUSE_SECONDS = 1.0
"""Before the second attempt; twice that before the third."""


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from anything printable: the same parts give the same seed on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class TurnLoop:
    """What the turns of an episode are made with."""

    inference: InferenceEngine
    chat: ChatFormat
    toolbox: Toolbox
    tools: Sequence[dict[str, Any]] | None
    """The tool objects that the prompt describes."""

    async def run(self, episode: Episode, task: Task, *, rollout_id: str, seed: int) -> StopReason:
        """Fill `episode` turn by turn and say why it ended.

        Raises:
            RolloutError: the engine or a tool broke; what went before is in the episode.
        """
        if episode.tokens_left < 1:  # nobody's doing, and no token to learn from
            raise EngineError(f"the prompt leaves no room in {episode.config.max_context_tokens} tokens")
        is_budget_spent = False
        while (spent := episode.spent()) is None:
            index, started = len(episode.turns), time.monotonic()
            sample, attempts = await self._generate(episode, rollout_id, derive_seed(seed, index))
            seconds = time.monotonic() - started
            prefix = f"{rollout_id[6:14]}_{index}"
            parsed = self.chat.parse(sample.token_ids, call_id_prefix=prefix, tools=self.tools)
            episode.say(
                Turn(
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
                    attempts=attempts,
                )
            )
            if sample.is_truncated:
                return StopReason.TOKEN_BUDGET
            if not parsed.calls and not parsed.malformed:
                episode.answer = parsed.text
                return StopReason.FINAL
            if is_budget_spent:
                return StopReason.TOOL_BUDGET  # it was told, and called again
            if episode.is_stuck(parsed.calls):
                return StopReason.STUCK

            results = await self._answer_calls(parsed, episode, task, rollout_id)
            is_budget_spent = episode.calls_left == 0
            shown = list(results)
            if is_budget_spent and shown[-1].output != BUDGET_SPENT:
                shown[-1] = replace(shown[-1], output=f"{shown[-1].output}\n{BUDGET_SPENT}")
            episode.read(results, self.chat.observation_ids(parsed, shown))
        return spent

    async def _generate(self, episode: Episode, rollout_id: str, seed: int) -> tuple[Sample, int]:
        """The next turn, and the attempts that it took; each has the same context and seed."""
        for attempt in range(1, ENGINE_ATTEMPTS):
            try:
                return await self._generate_once(episode, rollout_id, seed), attempt
            except EngineError:
                await asyncio.sleep(ENGINE_PAUSE_SECONDS * attempt)
        return await self._generate_once(episode, rollout_id, seed), ENGINE_ATTEMPTS

    async def _generate_once(self, episode: Episode, rollout_id: str, seed: int) -> Sample:
        return await self.inference.generate(
            episode.context, session=rollout_id, seed=seed, max_tokens=episode.tokens_left
        )

    async def _answer_calls(
        self, parsed: ParsedTurn, episode: Episode, task: Task, rollout_id: str
    ) -> list[ToolResult]:
        """Run the calls that the budget still covers, in parallel; answer the others, and malformed ones, by text."""
        allowed, refused = parsed.calls[: episode.calls_left], parsed.calls[episode.calls_left :]
        results: list[ToolResult] = []
        limit = episode.config.max_turn_seconds
        try:
            async with asyncio.timeout(limit) as clock:
                results += await self.toolbox.run(allowed, rollout_id=rollout_id, item=task.item) if allowed else []
        except TimeoutError as error:
            if not clock.expired():
                raise
            names = ", ".join(sorted({call.name for call in allowed}))
            found = f"tool {names}: no answer within {limit:g} s (rollout.max_turn_seconds)"
            raise ToolError(found, rollout_id=rollout_id) from error
        results += [ToolResult(call.id, call.name, BUDGET_SPENT, 0.0, is_error=True) for call in refused]
        results += [ToolResult("", "", MALFORMED, 0.0, is_error=True) for _ in parsed.malformed]
        # A malformed call costs a call: otherwise garbage could be repeated up to the turn limit for nothing.
        episode.calls_counted += len(parsed.calls) + len(parsed.malformed)
        episode.calls_made += len(allowed)
        return results
