"""Turns of a model behind an API: messages in, a message out. Its tokens are counted by the server, and not known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentrl.errors import EngineError
from agentrl.rollout.api_model import ApiModel, NoRoom
from agentrl.rollout.api_reply import ApiReply
from agentrl.rollout.episode import Episode
from agentrl.rollout.speaker import Said
from agentrl.types import Message, ToolResult, Turn


class ApiTurns:
    """Of one episode.

    Args:
        model: is asked.
        messages: the task's.
        tools: the tool objects that it may call; None for none.
        rollout_id: on every request.
    """

    def __init__(
        self, model: ApiModel, messages: Sequence[Message], tools: Sequence[dict[str, Any]] | None, rollout_id: str
    ) -> None:
        self._model, self._tools, self._rollout_id = model, tools, rollout_id
        self._messages = list(messages)
        self._last: ApiReply | None = None
        self._in_context = 0  # tokens, as far as they are known

    async def speak(self, episode: Episode, *, call_id_prefix: str, seed: int) -> Said | None:
        """Ask for the next message."""
        try:
            reply = await self._model.complete(
                self._messages,
                self._tools,
                rollout_id=self._rollout_id,
                action=call_id_prefix,
                max_tokens=episode.tokens_left,
                seed=seed,
            )
        except NoRoom as full:
            if not episode.turns:
                raise EngineError(str(full), rollout_id=self._rollout_id) from full
            return None
        self._last = reply
        read = max(0, reply.prompt_tokens - self._in_context)
        self._in_context += read + reply.output_tokens - reply.reasoning_tokens  # thoughts are not read again
        turn = Turn(
            token_ids=(),
            engine_logprobs=(),
            text=reply.parsed.raw,
            tool_calls=reply.parsed.calls,
            tool_results=(),
            observation_ids=(),
            policy_version=0,
            seconds=reply.seconds,
            reasoning_tokens=reply.reasoning_tokens,
            malformed_calls=len(reply.parsed.malformed),
            attempts=reply.attempts,
            unseen_tokens=reply.output_tokens,
        )
        return Said(turn, reply.parsed, reply.is_truncated, unseen_read=read)

    def hear(self, said: Said, results: Sequence[ToolResult]) -> Sequence[int]:
        """Put the turn and a message for each of its calls behind the conversation."""
        assert self._last is not None
        self._messages.append(self._last.message)
        for call_id, result in zip(self._last.call_ids, results, strict=True):
            self._messages.append({"role": "tool", "tool_call_id": call_id, "content": result.output})
        del said
        return ()
