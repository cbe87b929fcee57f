"""The turn loop: speak, call tools, hear, until the policy answers or a limit ends it."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentrl.chat import BUDGET_SPENT, MALFORMED, ParsedTurn
from agentrl.errors import EngineError, ToolError
from agentrl.rollout.episode import Episode
from agentrl.rollout.speaker import Speaker
from agentrl.tools.toolbox import Toolbox
from agentrl.types import StopReason, Task, ToolCall, ToolResult


def derive_seed(*parts: object) -> int:
    """A 63-bit seed from anything printable: the same parts give the same seed on every machine."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True)
class TurnLoop:
    """What the turns of an episode are made with."""

    speaker: Speaker
    toolbox: Toolbox

    async def run(self, episode: Episode, task: Task, *, rollout_id: str, seed: int) -> StopReason:
        """Fill `episode` turn by turn, behind those that it has, and say why it ended.

        Raises:
            RolloutError: the engine or a tool broke; what went before is in the episode.
        """
        if not episode.turns and episode.tokens_left < 1:  # nobody's doing, and no token to learn from
            raise EngineError(f"the prompt leaves no room in {episode.config.max_context_tokens} tokens")
        is_budget_spent = bool(episode.turns) and episode.calls_left == 0
        while (spent := episode.spent()) is None:
            index = len(episode.turns)
            prefix = f"{rollout_id[6:14]}_{index}"
            said = await self.speaker.speak(episode, call_id_prefix=prefix, seed=derive_seed(seed, index))
            if said is None:
                return StopReason.TOKEN_BUDGET
            parsed = said.parsed
            episode.say(said.turn, said.unseen_read)
            if said.is_truncated:
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
            episode.read(results, self.speaker.hear(said, shown))
        return spent

    async def replay(self, episode: Episode, task: Task, *, rollout_id: str) -> None:
        """Make the calls of the episode's turns again: what tools keep for an episode is then what it was.

        What they answer now is not shown: the policy has read what they answered then.

        Raises:
            ToolError: a tool broke.
        """
        again = Episode(episode.config, episode.prompt_ids)
        for index, turn in enumerate(episode.turns):
            made = turn.tool_calls[: again.calls_left]
            prefix = f"call_{rollout_id[6:14]}_{index}"  # new ids: a server may answer those it knows from memory
            calls = [replace(call, id=f"{prefix}_{i}") for i, call in enumerate(made)]
            if calls:
                await self._run_calls(calls, episode, task, rollout_id)
            again.recall(turn)

    async def _answer_calls(
        self, parsed: ParsedTurn, episode: Episode, task: Task, rollout_id: str
    ) -> list[ToolResult]:
        """Run the calls that the budget still covers, in parallel; answer the others, and malformed ones, by text."""
        allowed, refused = parsed.calls[: episode.calls_left], parsed.calls[episode.calls_left :]
        results = await self._run_calls(allowed, episode, task, rollout_id) if allowed else []
        results += [ToolResult(call.id, call.name, BUDGET_SPENT, 0.0, is_error=True) for call in refused]
        results += [ToolResult("", "", MALFORMED, 0.0, is_error=True) for _ in parsed.malformed]
        # A malformed call costs a call: otherwise garbage could be repeated up to the turn limit for nothing.
        episode.calls_counted += len(parsed.calls) + len(parsed.malformed)
        episode.calls_made += len(allowed)
        return results

    async def _run_calls(
        self, calls: Sequence[ToolCall], episode: Episode, task: Task, rollout_id: str
    ) -> list[ToolResult]:
        limit = episode.config.max_turn_seconds
        try:
            async with asyncio.timeout(limit) as clock:
                return await self.toolbox.run(calls, rollout_id=rollout_id, item=task.item)
        except TimeoutError as error:
            if not clock.expired():
                raise
            names = ", ".join(sorted({call.name for call in calls}))
            found = f"tool {names}: no answer within {limit:g} s (rollout.max_turn_seconds)"
            raise ToolError(found, rollout_id=rollout_id) from error
