"""Turns of a policy of ours: token ids in, token ids out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.chat import ChatFormat
from agentrl.errors import EngineError
from agentrl.inference.engine import InferenceEngine
from agentrl.rollout.episode import Episode
from agentrl.rollout.speaker import Said
from agentrl.types import Sample, ToolResult, Turn

ENGINE_ATTEMPTS = 3
"""Generations asked for until a turn is given up: an inference server may have been restarted under it."""
ENGINE_PAUSE_SECONDS = 1.0
"""Before the second attempt; twice that before the third."""


@dataclass(frozen=True)
class SampledTurns:
    """Of one episode; the context is the episode's own."""

    inference: InferenceEngine
    chat: ChatFormat
    tools: Sequence[dict[str, Any]] | None
    """The tool objects that the prompt describes."""
    rollout_id: str

    async def speak(self, episode: Episode, *, call_id_prefix: str, seed: int) -> Said:
        """Sample from the context on."""
        started = time.monotonic()
        sample, attempts = await self._generate(episode, seed)
        seconds = time.monotonic() - started
        parsed = self.chat.parse(sample.token_ids, call_id_prefix=call_id_prefix, tools=self.tools)
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
            attempts=attempts,
        )
        return Said(turn, parsed, sample.is_truncated)

    def hear(self, said: Said, results: Sequence[ToolResult]) -> Sequence[int]:
        """The ids that the chat template writes behind the turn."""
        return self.chat.observation_ids(said.parsed, results)

    async def _generate(self, episode: Episode, seed: int) -> tuple[Sample, int]:
        """The next turn, and the attempts that it took; each has the same context and seed."""
        for attempt in range(1, ENGINE_ATTEMPTS):
            try:
                return await self._generate_once(episode, seed), attempt
            except EngineError:
                await asyncio.sleep(ENGINE_PAUSE_SECONDS * attempt)
        return await self._generate_once(episode, seed), ENGINE_ATTEMPTS

    async def _generate_once(self, episode: Episode, seed: int) -> Sample:
        return await self.inference.generate(
            episode.context, session=self.rollout_id, seed=seed, max_tokens=episode.tokens_left
        )
