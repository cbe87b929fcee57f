"""A model behind an OpenAI-compatible API: one chat completion a turn, and whose fault it is where there is none.

What a wait may mend (429, 5xx, timeouts, lost connections) is an EngineError once the retries are spent: the episode is
ungraded. What none does (a wrong key, an unknown model, a request that the server does not take) ends the measurement.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from agentrl.chat import ParsedTurn
from agentrl.config import InferenceConfig
from agentrl.endpoint import Endpoint, EndpointFailure, Reply, excerpt
from agentrl.errors import ConfigError, EngineError
from agentrl.rollout.api_address import HASTY_RETRIES, ApiAddress
from agentrl.rollout.api_reply import FILTERED, ApiReply, read_reply, unusable
from agentrl.types import Message

logger = logging.getLogger(__name__)

ABOUT_CONTEXT = re.compile(r"context.?(length|window|size)|prompt is too long|too many (input )?tokens", re.IGNORECASE)
ABOUT_FILTER = re.compile(r"content_filter|content management policy|data_inspection_failed", re.IGNORECASE)
ABOUT_SEED = re.compile(r"\bseed\b", re.IGNORECASE)
ABOUT_LIMIT = re.compile(r"max_(completion_)?tokens", re.IGNORECASE)
CUT_OFF = re.compile(r"model output limit was reached", re.IGNORECASE)
OUT_OF_MONEY = re.compile(r"insufficient_quota|billing_hard_limit", re.IGNORECASE)
LIMIT_KEYS = ("max_completion_tokens", "max_tokens")
NOTHING = ParsedTurn("", (), ())
MAX_SERVED = 20
"""Names of models that are kept: a server may make up one for every answer."""
MAX_SEED = 2**31 - 1
"""Some servers take no larger one."""
NEVER_MENDED = (401, 402)
WRONG_FROM_THE_START = (400, 403, 404, 405, 422)
"""Of the first request: of a later one they are about what stands in it."""


class NoRoom(Exception):
    """The conversation fills the model's context."""


class RequestRefused(EngineError):
    """A 4xx for what stands in one conversation: asked again, it would be refused again."""


class ApiModel:
    """Takes the place of an InferenceEngine in a RolloutEngine: it gives turns, not tokens.

    Attributes:
        address: which model, and where.
        served: what the server calls the models that answered.
    """

    max_sessions = 2**31
    """Whatever the server bears; the endpoint finds out."""

    def __init__(
        self, address: ApiAddress, config: InferenceConfig, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.address = address
        self.served: list[str] = []
        self._endpoint = address.endpoint(config, transport)
        self._hasty = address.endpoint(config, transport, retries=HASTY_RETRIES)
        self._sampling: dict[str, Any] = {"temperature": config.temperature}
        if config.top_p < 1:
            self._sampling["top_p"] = config.top_p
        if config.top_k is not None:
            self._sampling["top_k"] = config.top_k
        self._limit_key = LIMIT_KEYS[0] if address.is_openai else LIMIT_KEYS[1]
        self._has_other_limit, self._takes_seeds = False, True
        self._has_answered = self._has_warned = False

    def __repr__(self) -> str:
        return f"ApiModel({self.address.model!r}, {self._endpoint.shown_url!r})"

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        return (self._endpoint,)

    async def check(self, tools: Sequence[dict[str, Any]] | None, max_tokens: int) -> None:
        """Ask for one word: a wrong key or model is found now.

        Raises:
            ConfigError: it does not answer.
        """
        messages = [{"role": "user", "content": "Answer with one word: ready"}]
        try:
            await self._complete(self._hasty, messages, tools, "trace_preflight", "preflight", max_tokens, 0)
        except (EngineError, NoRoom) as error:
            raise ConfigError(str(error)) from error

    async def complete(
        self,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] | None,
        *,
        rollout_id: str,
        action: str,
        max_tokens: int,
        seed: int,
    ) -> ApiReply:
        """The model's next turn.

        Args:
            action: names the turn within the rollout: the same for every attempt, and the prefix of its calls' ids.

        Raises:
            EngineError: there is none now.
            NoRoom: the conversation fills the model's context.
            ConfigError: there will never be any.
        """
        return await self._complete(self._endpoint, messages, tools, rollout_id, action, max_tokens, seed)

    async def _complete(
        self,
        endpoint: Endpoint,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]] | None,
        rollout_id: str,
        action: str,
        max_tokens: int,
        seed: int,
    ) -> ApiReply:
        if not self.address.is_openai:  # other servers' templates know no developer
            messages = [{**each, "role": "system"} if each["role"] == "developer" else each for each in messages]
        while True:
            asked = {self._limit_key: max_tokens, **({"seed": seed % MAX_SEED} if self._takes_seeds else {})}
            body: dict[str, Any] = {"model": self.address.model, "messages": list(messages), **self._sampling, **asked}
            if tools:
                body["tools"] = list(tools)
            try:
                reply = await endpoint.post(body, rollout_id=rollout_id, action=action, check=unusable)
            except EndpointFailure as failure:
                if OUT_OF_MONEY.search(str(failure)):
                    raise ConfigError(f"{failure}; no wait mends that") from failure
                raise EngineError(str(failure), rollout_id=rollout_id) from failure
            if reply.status < 400 and reply.json is not None:
                return self._read(reply, reply.json, action)
            if not self._asks_otherwise(reply, asked):
                return self._refused(reply, rollout_id)

    def _read(self, reply: Reply, body: dict[str, Any], action: str) -> ApiReply:
        self._has_answered = True
        found = replace(read_reply(body, action), seconds=reply.seconds, attempts=reply.attempts)
        if found.model and found.model not in self.served and len(self.served) < MAX_SERVED:
            self.served.append(found.model)
            if len(self.served) > 1:
                logger.warning("%r: answers come from several models: %s", self, ", ".join(self.served))
        if not found.has_usage:
            self._warn("tells no usage: its tokens count as 0, and no limit on them or on cost holds")
        elif "<tool_call>" in found.parsed.text and not (found.call_ids or found.is_truncated):
            self._warn("tool calls come as text: start its server with the model's tool-call parser")
        return found

    def _warn(self, text: str) -> None:
        """Once: it holds for every turn."""
        if not self._has_warned:
            self._has_warned = True
            logger.warning("%r: %s", self, text)

    def _asks_otherwise(self, reply: Reply, asked: dict[str, Any]) -> bool:
        """Whether the server refused how it was asked, and is asked in another way from now on."""
        if reply.status not in (400, 422) or ABOUT_CONTEXT.search(reply.text) or CUT_OFF.search(reply.text):
            return False
        if ABOUT_LIMIT.search(reply.text):
            if self._limit_key in asked and not self._has_other_limit:
                self._has_other_limit = True
                self._limit_key = LIMIT_KEYS[1 - LIMIT_KEYS.index(self._limit_key)]
                return True
            return self._limit_key not in asked  # another request has found out meanwhile
        if "seed" in asked and ABOUT_SEED.search(reply.text):
            self._takes_seeds = False
            return True
        return False

    def _refused(self, reply: Reply, rollout_id: str) -> ApiReply:
        """What a 4xx comes to.

        Raises:
            EngineError, NoRoom, ConfigError: as `complete`.
        """
        found = f"{self._endpoint.name} at {self._endpoint.shown_url}: answered {reply.status}{excerpt(reply.text)}"
        if CUT_OFF.search(reply.text):
            return ApiReply(NOTHING, is_truncated=True, message={}, seconds=reply.seconds, attempts=reply.attempts)
        if reply.status in (400, 413, 422) and ABOUT_CONTEXT.search(reply.text):
            raise NoRoom(found)
        if ABOUT_FILTER.search(reply.text):
            parsed = replace(NOTHING, raw=FILTERED)
            return ApiReply(parsed, is_truncated=False, message={}, seconds=reply.seconds, attempts=reply.attempts)
        if reply.status in NEVER_MENDED or (reply.status in WRONG_FROM_THE_START and not self._has_answered):
            raise ConfigError(found + self._advice(reply.status))
        raise RequestRefused(found, rollout_id=rollout_id)

    def _advice(self, status: int) -> str:
        if status in (401, 403):
            key_env = self.address.key_env
            return f"; check the key in ${key_env}" if key_env else "; name the variable that holds a key for it"
        if status in (404, 405):
            return "; check the address and the name of the model"
        return ""

    async def end_session(self, session: str) -> None:
        """Nothing is held for an episode."""

    async def sync(self, policy: object) -> None:
        """An API's weights are not ours to set.

        Raises:
            ConfigError: always.
        """
        del policy
        raise ConfigError(f"{self!r}: it can be measured, not trained")

    async def aclose(self) -> None:
        await self._endpoint.aclose()
        await self._hasty.aclose()
