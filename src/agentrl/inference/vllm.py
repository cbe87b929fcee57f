"""Rollouts from vLLM servers: token ids in and out, the weights sent after every update.

A server takes part while it is proved to hold the newest weights. An episode stays with the server that holds its
prefix; when that one is lost, the episode moves on, and the server is taken back once it has proved itself again.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, EngineError, TrainingStopped
from agentrl.inference.vllm_server import ServerLost, ServerRefused, VLLMServer
from agentrl.inference.vllm_weights import Link, Publisher, sampling_of
from agentrl.types import Sample

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
FIRST_PAUSE_SECONDS = 0.25


class VLLMEngine:
    """An InferenceEngine on one or several vLLM servers. Use it from one event loop, then `aclose`.

    Args:
        servers: not asked for anything before the first generation or sync.
        policy: what is sent to them first.

    Attributes:
        policy_version: of the weights that new turns are sampled from.
        retried: generations that were tried again.
        moved_sessions: episodes that went on at another server.
        restarts: times that a server had to be sent the weights again.
    """

    def __init__(self, servers: Sequence[VLLMServer], policy: Policy, config: RunConfig) -> None:
        self._links = [Link(server) for server in servers]
        self._config = config.inference
        self._max_context_tokens = config.rollout.max_context_tokens
        self._stop_ids = frozenset(policy.chat.stop_ids)
        self._sampling = sampling_of(config, self._stop_ids)
        self._publisher = Publisher(config, policy)
        self._homes: dict[str, Link] = {}
        self._syncing = asyncio.Lock()
        self._gate = asyncio.Event()  # closed while weights change: a turn is one version's
        self._gate.set()
        self._fatal: TrainingStopped | None = None
        self.policy_version = policy.version
        self.retried = self.moved_sessions = self.restarts = 0

    @classmethod
    def from_config(cls, config: RunConfig, policy: Policy) -> VLLMEngine:
        """The engine that `inference:` describes.

        Raises:
            ConfigError: an address or a header cannot be used, or the model cannot be reloaded.
        """
        inference = config.inference
        if inference.weights == "full" and policy.model.config.get_text_config().tie_word_embeddings:
            raise ConfigError(
                "inference.weights: found full with a baseline whose embeddings are tied, which vLLM's CPU backend "
                "reloads without the output layer; save it untied, or set policy.lora and weights: lora"
            )
        wait, at_once = inference.timeout_seconds, inference.max_batch
        servers = [
            VLLMServer(url, inference.headers, timeout_seconds=wait, max_concurrency=at_once) for url in inference.urls
        ]
        return cls(servers, policy, config)

    @property
    def max_sessions(self) -> int:
        """Servers queue what they cannot decode at once: `rollout.max_concurrent` is the limit."""
        return sys.maxsize

    async def aclose(self) -> None:
        """Take this run's adapters off the servers and delete them."""
        await self._withdraw()
        for link in self._links:
            await link.server.aclose()

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        """See InferenceEngine.

        Raises:
            TrainingStopped: a server does not serve the policy, or cannot be sent it.
        """
        if not token_ids or max_tokens < 1 or len(token_ids) + max_tokens > self._max_context_tokens:
            raise EngineError(
                f"found a context of {len(token_ids)} tokens and {max_tokens} to generate; allowed: at least one of "
                f"each, {self._max_context_tokens} together",
                rollout_id=session,
            )
        async with self._syncing:
            if not self._publisher.published:
                await self._sync(self._publisher.policy)
        attempt = 0
        while True:
            link = await self._route(session)
            try:
                return await self._sample(link, token_ids, seed=seed, max_tokens=max_tokens)
            except (ServerLost, ServerRefused) as error:
                if isinstance(error, ServerRefused) and error.status != 404:  # 404: it has lost the adapter
                    raise EngineError(str(error), rollout_id=session) from error
                attempt += 1
                if attempt > self._config.retries:
                    raise EngineError(f"{error} ({attempt} attempts)", rollout_id=session) from error
                self.retried += 1
                if self._gate.is_set() and not await self._publisher.still_holds(link):
                    self._lose(link)  # another server, or this one once it is back, goes on
                else:
                    await asyncio.sleep(FIRST_PAUSE_SECONDS * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))

    async def _sample(self, link: Link, token_ids: Sequence[int], *, seed: int, max_tokens: int) -> Sample:
        publication = link.holds
        assert publication is not None, "nothing runs between finding a ready server and asking it"
        model = self._publisher.model_of(link, publication)
        drawn = await link.server.complete(
            {**self._sampling, "model": model, "seed": seed, "max_tokens": max_tokens}, token_ids
        )
        if self._publisher.is_full and await link.server.loaded_weights() != publication.name:
            raise ServerLost(f"{link.server.url} has other weights than those that it was sent")
        is_truncated = drawn.token_ids[-1] not in self._stop_ids
        return Sample(drawn.token_ids, drawn.logprobs, is_truncated=is_truncated, policy_version=publication.version)

    async def end_session(self, session: str) -> None:
        """Forget where the session was; the server itself drops its prefix when it needs the room."""
        if (home := self._homes.pop(session, None)) is not None:
            home.sessions.discard(session)

    async def _route(self, session: str) -> Link:
        """The session's own server, or the ready one with the fewest sessions; waits while none is ready."""
        while True:
            await self._gate.wait()
            if self._fatal is not None:
                raise self._fatal
            home = self._homes.get(session)
            if home is not None and self._is_ready(home):
                return home
            ready = [link for link in self._links if self._is_ready(link)]
            if not ready:
                await self._wait_for_a_server()
                continue
            self._homes[session] = chosen = min(ready, key=lambda link: len(link.sessions))
            if home is not None and home is not chosen:
                home.sessions.discard(session)
                self.moved_sessions += 1
            chosen.sessions.add(session)
            return chosen

    def _is_ready(self, link: Link) -> bool:
        return link.holds is not None and link.holds is self._publisher.published[-1]

    def _lose(self, link: Link) -> None:
        """Send it nothing more until it has proved itself again."""
        link.holds = None
        if link.lost_at is None:
            link.lost_at = asyncio.get_running_loop().time()
        if link.revival is None or link.revival.done():
            logger.warning("%s was lost, with %d episodes", link.server.url, len(link.sessions))
            link.revival = asyncio.create_task(self._bring_back(link))
            link.revival.add_done_callback(lambda task: task.cancelled() or task.exception())  # somebody may ask later

    async def _bring_back(self, link: Link) -> None:
        """Wait until the server answers, send it the weights again, have it prove them.

        Raises:
            EngineError: it stayed away.
            TrainingStopped: it came back as another.
        """
        now = asyncio.get_running_loop().time
        deadline = (link.lost_at or now()) + self._config.restart_seconds
        while True:
            if await link.server.is_healthy():
                try:
                    await self._publisher.send(link, self._publisher.published[-1])
                except TrainingStopped as error:
                    self._fatal = error
                    raise
                except ServerLost:
                    pass
                else:
                    self.restarts += 1
                    logger.warning("%s is back, and serves version %d", link.server.url, self.policy_version)
                    return
            if now() >= deadline:
                away = f"{link.server.url} has been away for {self._config.restart_seconds:g} s (restart_seconds)"
                raise EngineError(f"{away}; is the server running, and is inference.url right?")
            await asyncio.sleep(POLL_SECONDS)

    async def _wait_for_a_server(self) -> None:
        """Until one may be ready.

        Raises:
            EngineError: none came back in time.
            TrainingStopped: one came back as another.
        """
        for link in self._links:
            self._lose(link)
        waiting = {link.revival for link in self._links if link.revival is not None}
        while waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._fatal is not None:
                raise self._fatal
            failed = [task for task in done if not task.cancelled() and task.exception() is not None]
            if len(failed) < len(done):
                return  # one is back, or newer weights are on their way
            if not waiting:
                failed[0].result()

    async def sync(self, policy: Policy) -> None:
        """Send the policy's present weights to every server, and have each prove that it samples from them.

        With adapters, turns under way go on with the version that they began with; with full weights the servers let
        them finish first. Either way a turn is of one version, the one that it is stamped with.

        Raises:
            ConfigError: at the first time, a server cannot serve this policy.
            EngineError: at the first time, no server can be reached.
            TrainingStopped: either of them later.
        """
        async with self._syncing:
            await self._sync(policy)

    async def _sync(self, policy: Policy) -> None:
        is_first = not self._publisher.published
        self._gate.clear()
        try:
            await self._send_everywhere(policy)
        except TrainingStopped as error:
            if is_first:
                await self._withdraw()
                raise ConfigError(f"inference: {error}") from error
            raise
        except EngineError as error:
            if is_first:
                await self._withdraw()
                raise
            raise TrainingStopped("engine", str(error)) from error
        finally:
            self._gate.set()
        self.policy_version = policy.version
        await self._publisher.forget(self._links)

    async def _send_everywhere(self, policy: Policy) -> None:
        await self._cancel_revivals()  # they would send the version before
        publication = await self._publisher.write(policy)
        sent = await asyncio.gather(
            *(self._publisher.send(link, publication) for link in self._links), return_exceptions=True
        )
        for link, outcome in zip(self._links, sent, strict=True):
            if isinstance(outcome, ServerLost):
                self._lose(link)
            elif isinstance(outcome, BaseException):
                raise outcome
        if not any(self._is_ready(link) for link in self._links):
            await self._wait_for_a_server()

    async def _withdraw(self) -> None:
        """Leave nothing behind on servers and disk."""
        await self._cancel_revivals()
        await self._publisher.forget(self._links, keep=0)

    async def _cancel_revivals(self) -> None:
        revivals = [link.revival for link in self._links if link.revival is not None]
        for revival in revivals:
            revival.cancel()
        await asyncio.gather(*revivals, return_exceptions=True)  # a paused server is resumed first
