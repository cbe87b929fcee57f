"""Weights on their way to vLLM servers, and the proof that they arrived.

Every update is a publication: a folder of its own with an adapter (or all weights) under a name that is used once, so
that no server and no cache can take it for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from agentrl.config import RunConfig
from agentrl.errors import TrainingStopped
from agentrl.inference.probe import (
    FORCED_TOKENS,
    PROMPT_TOKENS,
    SAMPLED_TOKENS,
    TEXT,
    Reading,
    disproof,
    moved_along,
)
from agentrl.inference.vllm_server import ServerLost, ServerRefused, VLLMServer

if TYPE_CHECKING:
    from agentrl.policy.policy import Policy

TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
KEPT = 2  # newest publications: a request under way may still use the one before
HINTS = {
    "answered 401": "check inference.headers and the environment variables that they name",
    "answered 403": "check inference.headers and the environment variables that they name",
    "No adapter found": "inference.adapter_dir must lead to the same folder on the server's machine",
    "max_lora_rank": "start the server with a --max-lora-rank of at least policy.lora.rank",
}
"""What a refusal says -> what to do."""


@dataclass(frozen=True)
class Publication:
    """Weights as servers know them."""

    name: str
    path: Path
    version: int
    """Of the policy."""


@dataclass(eq=False)
class Link:
    """A server and what is known of it."""

    server: VLLMServer
    model: str = ""
    """Name of its base model."""
    holds: Publication | None = None
    """What it is proved to sample from."""
    anchor: Reading | None = None
    """The proof after the policy's last clear move."""
    sessions: set[str] = field(default_factory=set)
    lost_at: float | None = None
    """Since when it is away, on the event loop's clock."""
    revival: asyncio.Task[None] | None = None


def sampling_of(config: RunConfig, stop_ids: Iterable[int]) -> dict[str, Any]:
    """Sampling parameters of every request: all that a model's generation_config.json could change unseen is named."""
    inference = config.inference
    return {
        "temperature": inference.temperature,
        "top_p": inference.top_p,
        "top_k": inference.top_k or 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "stop_token_ids": sorted(stop_ids),
        "ignore_eos": True,
        "skip_special_tokens": False,
    }


class Publisher:
    """Writes a policy's weights and sends them to servers.

    Args:
        policy: the first to be published; the probe's text is in its tokens.
    """

    def __init__(self, config: RunConfig, policy: Policy) -> None:
        self.policy = policy
        self.is_full = config.inference.weights == "full"
        self.published: list[Publication] = []
        self._config = config
        self._sampling = sampling_of(config, policy.chat.stop_ids)
        self._tolerance = config.inference.probe_tolerance or TOLERANCE[config.policy.dtype]
        words = policy.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
        length = min(PROMPT_TOKENS, config.rollout.max_context_tokens - SAMPLED_TOKENS)
        self._probe_ids = (words * (length // len(words) + 1))[:length]
        self._run = f"{config.name}-{uuid4().hex[:8]}"  # a server may have seen names of this run before
        self._folder = Path(config.inference.adapter_dir or tempfile.gettempdir()).absolute() / self._run
        self._count = 0

    def model_of(self, link: Link, publication: Publication) -> str:
        """What requests name as their model."""
        return link.model if self.is_full else publication.name

    async def write(self, policy: Policy) -> Publication:
        """Write the weights to a folder of their own.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        from agentrl.policy.checkpoint import publish_weights  # it loads torch, which a policy has done already

        self.policy = policy
        label = f"policy-{policy.version:06d}"
        self._count += 1
        if any(each.version == policy.version for each in self.published):
            label += f"-{self._count}"  # an earlier step's weights were loaded again
        path = self._folder / label
        await asyncio.to_thread(publish_weights, policy, path)
        self.published.append(Publication(f"{self._run}-{label}", path, policy.version))
        return self.published[-1]

    async def send(self, link: Link, publication: Publication) -> None:
        """Have a server load the weights and prove that it samples from them.

        Raises:
            ServerLost: it went away.
            TrainingStopped: it refuses, or serves something else.
        """
        server = link.server
        link.holds = None
        try:
            served = await server.served_model(self._config.inference.model)
            wanted = self._config.rollout.max_context_tokens
            if served.max_context_tokens < wanted:
                found = f"{server.url} takes {served.max_context_tokens} tokens, rollout.max_context_tokens is {wanted}"
                raise ServerRefused(f"{found}: start it with --max-model-len {wanted}", 200)
            link.model = served.name
            if self.is_full:
                await server.reload_weights(publication.name, publication.path)
            else:
                await server.load_adapter(publication.name, publication.path)
                await server.reset_prefix_cache()  # what running requests still hold is an older adapter's
            reading = await self.read(link, publication)
        except ServerRefused as error:
            hints = [f"; {hint}" for words, hint in HINTS.items() if words in str(error)]
            raise TrainingStopped("engine", "".join([str(error), *hints])) from error
        if why := disproof(reading, link.anchor, tolerance=self._tolerance, is_full=self.is_full):
            raise TrainingStopped("engine_probe", f"{server.url} after {publication.path.name}: {why}")
        if link.anchor is None or moved_along(reading, link.anchor) is not None:
            link.anchor = reading
        link.holds, link.lost_at = publication, None

    async def read(self, link: Link, publication: Publication) -> Reading:
        """Both sides' log-probabilities of the probe's tokens; the trainer's weights stand still meanwhile.

        Raises:
            ServerLost: it went away, or was restarted meanwhile.
            ServerRefused: it does not answer such requests.
        """
        ids, start = self._probe_ids, max(1, len(self._probe_ids) - FORCED_TOKENS)
        body = {**self._sampling, "model": self.model_of(link, publication), "seed": 0}
        try:
            forced = await link.server.complete({**body, "max_tokens": 1, "prompt_logprobs": 0}, ids)
            sampled = await link.server.complete({**body, "max_tokens": SAMPLED_TOKENS}, ids)
        except ServerRefused as error:
            if error.status != 404:
                raise
            raise ServerLost(f"{link.server.url} was restarted after it had loaded the weights") from error
        untempered, tempered = self.policy.score(
            [*ids, *sampled.token_ids], start, (1.0, self._config.inference.temperature)
        )
        n_forced = len(ids) - start
        return Reading(
            server_forced=forced.prompt_logprobs[start - 1 :],
            trainer_forced=untempered[:n_forced],
            server_sampled=sampled.logprobs,
            trainer_sampled=tempered[n_forced:],
            untempered=untempered[n_forced:],
        )

    async def still_holds(self, link: Link) -> bool:
        """Whether a server that failed a request is there and was not restarted."""
        if (publication := link.holds) is None:
            return False
        try:
            if self.is_full:
                return await link.server.loaded_weights() == publication.name
            return publication.name in (await link.server.served_model(self._config.inference.model)).adapters
        except (ServerLost, ServerRefused):
            return False

    async def forget(self, links: Iterable[Link], *, keep: int = KEPT) -> None:
        """Take all but the newest publications off servers and disk."""
        old = self.published[: len(self.published) - keep]
        for publication in old:
            self.published.remove(publication)
            for link in () if self.is_full else links:
                with contextlib.suppress(ServerLost, ServerRefused):  # it is down, or was restarted without it
                    await link.server.unload_adapter(publication.name)
            shutil.rmtree(publication.path, ignore_errors=True)
        if not keep:
            shutil.rmtree(self._folder, ignore_errors=True)
