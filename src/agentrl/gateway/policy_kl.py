"""How far a policy in front of users has moved from its frozen reference: KL(policy || reference) on live prompts.

Of a share of its sessions, each finished turn's prompt is answered once more by the policy, for nobody to read: at
temperature 1 and without top-p, as the KL is of the policy itself and not of how it is sampled for users, with the
ids of the tokens and their log-probabilities. The reference then scores the same ids as a prompt. So no request of a
user is changed and no text is tokenised a second time; no tool is called; what goes wrong is counted, and a session
that was not measured has no KL, which is not a KL of 0.

    r = log reference(token) - log policy(token);   KL per token = mean of exp(r) - 1 - r

is Schulman's k3 ("Approximating KL divergence", 2020): unbiased, never negative, and of less variance than -r. Both
servers have to be vLLM, with `return_token_ids` and `prompt_logprobs`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, update

from agentrl.config import GatewayConfig
from agentrl.errors import ReleaseError
from agentrl.gateway.turns import FinishedTurn
from agentrl.gateway.upstream import Upstream, UpstreamFailure
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions

logger = logging.getLogger(__name__)

ESTIMATOR = "k3"
MAX_TOKENS = 256
"""Of an answer that is measured: its beginning says enough, and the servers have users."""
QUEUE, WORKERS = 64, 2
LARGEST = 30.0
"""Nats by which the reference may find a token likelier; exp of more would be a session by itself."""
FAILURES_IN_A_ROW, PAUSE_SECONDS = 5, 60.0
"""After so many, nothing is measured for a while: a server that cannot do it is not asked at every turn."""
WRITE_SECONDS = (0.0, 0.5, 2.0)
"""Between attempts to write: the session's own row may come a moment later."""
COPIED = ("messages", "tools", "tool_choice", "response_format", "chat_template_kwargs")
UNCHANGED: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
"""Sent, not left out: a server takes the model's own defaults else."""


class NotMeasured(Exception):
    """Why a turn has no KL; few different texts, as they are counted by it."""


@dataclass(frozen=True)
class MeasuredKl:
    """Of one turn."""

    nats: float
    """Sum over the tokens."""
    tokens: int


@dataclass
class KlCounts:
    """Of one replica since its start."""

    turns: int = 0
    tokens: int = 0
    dropped: int = 0
    """The queue was full."""
    unwritten: int = 0
    not_measured: Counter[str] = field(default_factory=Counter)
    """By reason."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "not_measured": dict(sorted(self.not_measured.items()))}


class PolicyKl:
    """A watcher of finished turns, see `gateway/turns.py`.

    Args:
        upstreams: of the gateway, by name.
        store: the sessions' rows get `policy_kl` and `policy_kl_tokens`, over all turns so far.
        clock: steady seconds.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        config: GatewayConfig,
        store: Store,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._upstreams, self._config, self._store, self._clock = upstreams, config, store, clock
        self._queue: asyncio.Queue[tuple[FinishedTurn, str]] = asyncio.Queue(QUEUE)
        self._workers: list[asyncio.Task[None]] = []
        self._in_a_row, self._paused_until = 0, -math.inf
        self.counts = KlCounts()

    def start(self) -> None:
        """Begin, on the loop that runs."""
        self._workers = [asyncio.ensure_future(self._work()) for _ in range(WORKERS)]

    async def aclose(self) -> None:
        """Give up what waits and what is under way."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    async def drained(self) -> None:
        """Return when nothing waits or is under way."""
        await self._queue.join()

    def watch(self, turn: FinishedTurn) -> None:
        """A turn, once its answer is with the user: it waits to be measured, or it does not."""
        reference = self._reference(turn)
        if (
            turn.is_forced
            or turn.is_fallback
            or turn.upstream == reference
            or not is_sampled(turn.release_id, turn.session_id, self._config.policy_kl_fraction)
            or self._clock() < self._paused_until
        ):
            return
        if turn.path != "chat/completions":
            self.counts.not_measured[f"a request of {turn.path}"] += 1
            return
        try:
            self._queue.put_nowait((turn, reference))
        except asyncio.QueueFull:
            self.counts.dropped += 1

    def _reference(self, turn: FinishedTurn) -> str:
        general = turn.routing.general_upstream if turn.routing is not None else ""
        return self._config.policy_kl_reference or general or self._config.general

    async def _work(self) -> None:
        while True:
            turn, reference = await self._queue.get()
            try:
                measured = await self._measure(turn, reference)
                self._in_a_row = 0
                self.counts.turns += 1
                self.counts.tokens += measured.tokens
                await self._write(turn, measured)
            except NotMeasured as error:
                self.counts.not_measured[str(error)] += 1
                self._in_a_row += 1
                if self._in_a_row >= FAILURES_IN_A_ROW:
                    self._in_a_row, self._paused_until = 0, self._clock() + PAUSE_SECONDS
                    logger.warning("policy KL is not measured for %g seconds: %s", PAUSE_SECONDS, error)
            except Exception:  # a worker that ends would leave the queue to fill up
                logger.exception("policy KL: a turn of session %s was lost", turn.session_id)
            finally:
                self._queue.task_done()

    async def _measure(self, turn: FinishedTurn, reference: str) -> MeasuredKl:
        policy, other = self._upstreams.get(turn.upstream), self._upstreams.get(reference)
        if policy is None or other is None:
            raise NotMeasured("an upstream that the config does not have")
        answer = await _ask(policy, "chat/completions", asked_again(turn.request, policy.config.model))
        prompt, tokens, logprobs = sampled_tokens(answer)
        body = {
            "model": other.config.model,
            "prompt": [*prompt, *tokens],
            "max_tokens": 1,
            "temperature": 1.0,
            "prompt_logprobs": 0,
        }
        return k3(logprobs, scored_tokens(await _ask(other, "completions", body), tokens))

    async def _write(self, turn: FinishedTurn, measured: MeasuredKl) -> None:
        for seconds in WRITE_SECONDS:
            await asyncio.sleep(seconds)
            try:
                if await asyncio.to_thread(add_kl, self._store, turn, measured):
                    return
            except ReleaseError as error:
                logger.warning("policy KL: %s", error)
        self.counts.unwritten += 1


def is_sampled(release_id: str, session_id: str, fraction: float) -> bool:
    """Whether a session is among those that are measured: all of its turns, at every replica, or none."""
    drawn = hashlib.sha256(f"policy-kl\n{release_id}\n{session_id}".encode()).digest()
    return int.from_bytes(drawn[:8], "big") < fraction * 2**64


def asked_again(request: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The user's prompt, sampled as the policy is and with its tokens told."""
    wanted = request.get("max_completion_tokens") or request.get("max_tokens") or MAX_TOKENS
    most = min(wanted, MAX_TOKENS) if isinstance(wanted, int) and wanted > 0 else MAX_TOKENS
    told = {"logprobs": True, "top_logprobs": 0, "return_token_ids": True}
    copied = {key: request[key] for key in COPIED if key in request}
    return {**copied, **UNCHANGED, **told, "model": model, "max_tokens": most, "n": 1, "stream": False}


def sampled_tokens(answer: Mapping[str, Any]) -> tuple[list[int], list[int], list[float]]:
    """Prompt ids, answer ids, and the policy's log-probability of each of those.

    Raises:
        NotMeasured: the server does not tell them, or not all.
    """
    try:
        choice = answer["choices"][0]
        prompt, tokens = answer["prompt_token_ids"], choice["token_ids"]
        logprobs = [float(each["logprob"]) for each in choice["logprobs"]["content"]]
    except (KeyError, IndexError, TypeError, ValueError):
        raise NotMeasured("the policy's server tells no ids or log-probabilities of tokens; is it vLLM?") from None
    if not all(isinstance(ids, list) and all(type(each) is int for each in ids) for ids in (prompt, tokens)):
        raise NotMeasured("the policy's server tells ids that are none")
    if not tokens or len(tokens) != len(logprobs):
        raise NotMeasured("the policy's server tells another number of log-probabilities than of tokens")
    return prompt, tokens, logprobs


def scored_tokens(answer: Mapping[str, Any], tokens: list[int]) -> list[float]:
    """The reference's log-probability of each of the tokens that its prompt ended with.

    Raises:
        NotMeasured: the server does not tell them, or knows other tokens.
    """
    try:
        told = answer["choices"][0]["prompt_logprobs"][-len(tokens) :]
        return [float(each[str(token)]["logprob"]) for each, token in zip(told, tokens, strict=True)]
    except (KeyError, IndexError, TypeError, ValueError):
        found = "the reference tells no log-probabilities of these tokens; is it vLLM, with the policy's vocabulary?"
        raise NotMeasured(found) from None


def k3(policy: list[float], reference: list[float]) -> MeasuredKl:
    """KL(policy || reference) over tokens that the policy sampled.

    Raises:
        NotMeasured: a log-probability is not finite.
    """
    if not all(map(math.isfinite, (*policy, *reference))):
        raise NotMeasured("a log-probability is not finite")
    gaps = [min(other - own, LARGEST) for own, other in zip(policy, reference, strict=True)]
    return MeasuredKl(math.fsum(math.expm1(gap) - gap for gap in gaps), len(gaps))


def add_kl(store: Store, turn: FinishedTurn, measured: MeasuredKl) -> bool:
    """Add a turn to its session's row: `policy_kl` stays the mean over all tokens. False: there is no such row yet.

    Raises:
        ReleaseError: the store cannot be written.
    """
    columns = sessions.c
    before = func.coalesce(columns.policy_kl_tokens, 0)
    nats = func.coalesce(columns.policy_kl, 0.0) * before + measured.nats
    with store.write() as connection:
        changed = connection.execute(
            update(sessions)
            .where(
                columns.workflow == turn.workflow,
                columns.release_id == turn.release_id,
                columns.session_id == turn.session_id,
                columns.arm == turn.arm.value,
            )
            .values(
                policy_kl=nats / (before + measured.tokens),
                policy_kl_tokens=before + measured.tokens,
                recorded_at=None,  # the session log is told of it anew
            )
        )
    return bool(changed.rowcount)


async def _ask(upstream: Upstream, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return await upstream.ask_json(path, json.dumps(body).encode())
    except UpstreamFailure as error:
        found = f"status {error.status}" if error.status else error.kind
        raise NotMeasured(f"{upstream.name} gave no answer ({found})") from None
