"""Continuous batching over an ordinary Hugging Face causal LM, with the trainer's own weights.

Episodes join and leave the batch at every token. Each session owns one slot of the key/value cache for its whole
life, so a tool's output costs a prefill of its own tokens only, and while one session waits for a tool the others
decode. Sessions that start with the same prompt share one prefill of it.

All tokens of a context but the last are prefilled, without logits; the last one, like every sampled token after it,
is the input of a decode step. So there is one place where tokens are sampled.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, EngineError
from agentrl.inference.sampling import Sampling
from agentrl.inference.slots import GROWTH, PLAIN, SLIDING, SlotCache, SlotModel
from agentrl.policy.policy import Policy
from agentrl.types import Sample

PREFILL_TOKENS = 2048  # padded tokens of one prefill pass: bounds its activations
SWAP_COST = 4  # moving two sessions takes about as long as decoding this many rows once
TILE = 16  # rows of a deterministic pass: a multiple of this, whose rows matrix kernels treat alike
ATTENTION = ("sdpa", "eager")


@dataclass(eq=False)
class _Session:
    slot: int
    ids: list[int] = field(default_factory=list)  # tokens whose keys and values the slot holds
    prompt: tuple[int, ...] = ()  # the first of them, which other sessions may copy

    def keep(self, token_ids: list[int]) -> None:
        """Forget what `token_ids` does not begin with; its last token is always run, for its logits."""
        known = min(len(self.ids), len(token_ids) - 1)
        if self.ids[:known] != token_ids[:known]:
            known = next(i for i, (held, new) in enumerate(zip(self.ids, token_ids, strict=False)) if held != new)
        del self.ids[known:]


@dataclass(eq=False)
class _Request:
    session: str
    token_ids: list[int]
    max_tokens: int
    uniform: random.Random
    future: asyncio.Future[Sample]
    sampled: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)

    @property
    def last_token(self) -> int:
        return self.sampled[-1] if self.sampled else self.token_ids[-1]


class InProcessEngine:
    """An InferenceEngine on `model`, in this process.

    Args:
        model: a decoder-only causal LM of transformers with `sdpa` or `eager` attention. Only read.
        stop_ids: the tokens that end a turn.
        temperature, top_p, top_k: the sampling distribution; recorded log-probabilities are this distribution's.
        max_batch: sessions with a place in the cache; more wait.
        max_context_tokens: a context that would grow beyond it is an EngineError.
        kv_cache_bytes: lowers `max_batch` to the sessions whose longest contexts fit.
        deterministic: what a session samples is bit-equal whatever runs beside it and whenever it comes: each pass
            has a shape in which a row does not depend on the others, or, where this machine has no such shape, one
            session.

    Attributes:
        max_sessions: how many have a place at once.
        prefilled_tokens, sampled_tokens: computed so far; `shared_tokens`: copied from a session with the same prompt.
        busy_seconds: time spent computing, over all steps.

    Raises:
        ConfigError: not even one session fits into `kv_cache_bytes`.
    """

    def __init__(
        self,
        model: Any,
        *,
        stop_ids: Sequence[int],
        max_batch: int,
        max_context_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int | None = None,
        kv_cache_bytes: int = 4 * 2**30,
        deterministic: bool = False,
    ) -> None:
        self._model = SlotModel(model)
        self._stop_ids = frozenset(stop_ids)
        self._sampling = Sampling(temperature, top_p, top_k)
        self._max_context_tokens = max_context_tokens
        self._is_deterministic = deterministic
        session_bytes = self._model.bytes_per_position() * -(-max_context_tokens // GROWTH) * GROWTH
        fitting = kv_cache_bytes // session_bytes
        if not fitting:
            raise ConfigError(
                f"inference.kv_cache_bytes: found {kv_cache_bytes:,}; allowed: at least {session_bytes:,}, what one "
                f"episode of {max_context_tokens} tokens takes"
            )
        is_tiled = deterministic and fitting >= TILE and self._model.rows_are_independent(TILE, GROWTH)
        self._tile = TILE if is_tiled else 1
        self.max_sessions = min(max_batch, fitting - fitting % self._tile)
        rows = -(-self.max_sessions // self._tile) * self._tile
        self._cache = SlotCache(rows, align=GROWTH if deterministic else 1)
        self._sessions: dict[str, _Session] = {}
        self._prompts: dict[tuple[int, ...], _Session] = {}
        self._waiting: deque[_Request] = deque()
        self._ended: deque[str] = deque()
        self._has_news = False  # read by the worker: somebody came or went, so it should come back
        self._decoding: dict[int, _Request] = {}
        self._idle_rows = 0  # computed for nobody since the last swap
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._driver: asyncio.Task[None] | None = None
        self.policy_version = 0
        self.prefilled_tokens = self.shared_tokens = self.sampled_tokens = 0
        self.busy_seconds = 0.0

    @classmethod
    def from_config(cls, config: RunConfig, policy: Policy) -> InProcessEngine:
        """The engine that `inference:` and `rollout:` describe, on the policy's own weights.

        Raises:
            ConfigError: the model cannot be run in this way.
        """
        _check_architecture(policy.model.config.get_text_config(), config)
        inference = config.inference
        return cls(
            policy.model,
            stop_ids=policy.chat.stop_ids,
            temperature=inference.temperature,
            top_p=inference.top_p,
            top_k=inference.top_k,
            max_batch=inference.max_batch,
            max_context_tokens=config.rollout.max_context_tokens,
            kv_cache_bytes=inference.kv_cache_bytes,
            deterministic=inference.deterministic,
        )

    async def sync(self, policy: Policy) -> None:
        """See InferenceEngine; the weights are shared, so only the caches of the old ones are in question."""
        if policy.model is not self._model.model:
            raise EngineError("this engine samples from another policy's weights: make one for this policy")
        if is_open := self._sessions.keys() - set(self._ended):
            raise EngineError(f"{len(is_open)} sessions are open: the weights cannot change under them")
        if self._driver is not None and not self._is_idle:
            await asyncio.wait([self._driver])  # it may be in the last step of a rollout that was cut off
        self.policy_version = policy.version

    async def generate(self, token_ids: Sequence[int], *, session: str, seed: int, max_tokens: int) -> Sample:
        """See InferenceEngine."""
        if not token_ids or max_tokens < 1 or len(token_ids) + max_tokens > self._max_context_tokens:
            raise EngineError(
                f"found a context of {len(token_ids)} tokens and {max_tokens} to generate; allowed: at least one of "
                f"each, {self._max_context_tokens} together",
                rollout_id=session,
            )
        future: asyncio.Future[Sample] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Request(session, list(token_ids), max_tokens, random.Random(seed), future))
        self._has_news = True
        self._wake()
        return await future

    async def end_session(self, session: str) -> None:
        """Free the session's slot; the last slot's session moves into it."""
        self._ended.append(session)
        self._has_news = True
        if self._is_idle:
            self._free_ended()  # otherwise between two steps: a step reads the slots as they are
            self._wake()

    @property
    def _is_idle(self) -> bool:
        return self._driver is None or self._driver.done()

    def _wake(self) -> None:
        if self._waiting and self._is_idle:
            self._driver = asyncio.create_task(self._drive())

    async def _drive(self) -> None:
        """Step until nobody waits who could be served. Between steps only this thread touches the slots."""
        loop = asyncio.get_running_loop()
        while True:
            self._has_news = False
            self._free_ended()
            admitted = self._admit()
            if not admitted and not self._decoding:
                return
            try:
                finished = await loop.run_in_executor(self._worker, self._work, admitted)
            except asyncio.CancelledError:  # the event loop closes
                self._has_news = True
                self._worker.submit(int).result()  # the step under way ends first: it writes what is cleared now
                for request in self._drop_all(admitted):
                    request.future.cancel()
                self._sessions.clear()
                self._prompts.clear()
                self._ended.clear()
                raise
            except Exception as error:  # torch raises what it likes: every waiting rollout must hear of it
                what = f"generation failed: {type(error).__name__}: {error}"
                for request in self._drop_all(admitted):
                    request.future.set_exception(EngineError(what, rollout_id=request.session))
                return
            for request in finished:
                if not request.future.done():
                    drawn = tuple(request.sampled), tuple(request.logprobs)
                    is_truncated = request.last_token not in self._stop_ids
                    sample = Sample(*drawn, is_truncated=is_truncated, policy_version=self.policy_version)
                    request.future.set_result(sample)
            await asyncio.sleep(0)  # let the rollouts that just woke queue their next request

    def _drop_all(self, admitted: list[_Request]) -> list[_Request]:
        """Empty the queue and the batch; returns the requests that somebody still waits for."""
        dropped = {*admitted, *self._decoding.values(), *self._waiting}
        self._decoding.clear()
        self._waiting.clear()
        self._prompts.clear()
        for held in self._sessions.values():
            held.ids.clear()  # a step broken off leaves the cache half written
        return [request for request in dropped if not request.future.done()]

    def _admit(self) -> list[_Request]:
        """Take requests off the queue, giving new sessions the next free slot."""
        admitted, still_waiting = [], deque[_Request]()
        busy = {request.session for request in self._decoding.values()}
        while self._waiting:
            request = self._waiting.popleft()
            if request.future.done():
                continue  # its rollout was cancelled
            is_new = request.session not in self._sessions
            if request.session in busy or (is_new and len(self._sessions) >= self.max_sessions):
                still_waiting.append(request)
                continue
            held = self._sessions.setdefault(request.session, _Session(slot=len(self._sessions)))
            held.keep(request.token_ids)
            if len(held.ids) < len(held.prompt):
                self._forget_prompt(held)
            busy.add(request.session)
            admitted.append(request)
        self._waiting = still_waiting
        return admitted

    def _free_ended(self) -> None:
        while self._ended:
            ended = self._sessions.pop(self._ended.popleft(), None)
            if ended is not None:
                self._forget_prompt(ended)
                self._fill_hole(ended.slot)

    def _forget_prompt(self, held: _Session) -> None:
        if self._prompts.get(held.prompt) is held:
            del self._prompts[held.prompt]
        held.prompt = ()

    def _fill_hole(self, hole: int) -> None:
        request = self._decoding.pop(hole, None)
        if request is not None and not request.future.done():
            request.future.set_exception(EngineError("its session was ended", rollout_id=request.session))
        last = max((held.slot for held in self._sessions.values()), default=-1)
        if last <= hole:
            return
        mover = self._in_slot(last)
        self._cache.copy(last, hole, len(mover.ids))
        mover.slot = hole
        if last in self._decoding:
            self._decoding[hole] = self._decoding.pop(last)

    def _in_slot(self, slot: int) -> _Session:
        return next(held for held in self._sessions.values() if held.slot == slot)

    def _work(self, admitted: list[_Request]) -> list[_Request]:
        """Prefill the newcomers, then decode until a turn ends or somebody comes or goes; returns the ended turns."""
        started = time.perf_counter()
        self._prefill(admitted)
        finished: list[_Request] = []
        while self._decoding and not finished:
            self._close_gaps()
            finished = self._decode()
            if self._has_news:
                break
        self.busy_seconds += time.perf_counter() - started
        return finished

    def _prefill(self, admitted: list[_Request]) -> None:
        """Fill the newcomers' slots up to their last token, and let them decode."""
        todo: list[tuple[_Session, list[int]]] = []
        copies: list[tuple[_Session, _Session]] = []
        for request in admitted:
            held = self._sessions[request.session]
            self._decoding[held.slot] = request
            if not held.ids:
                held.prompt = tuple(request.token_ids[:-1])
                first = self._prompts.setdefault(held.prompt, held)
                if first is not held:
                    copies.append((first, held))
                    continue
            todo.append((held, request.token_ids[len(held.ids) : -1]))
        todo = [(held, ids) for held, ids in todo if ids]
        while todo:
            todo.sort(key=lambda each: len(each[1]))
            longest = min(len(todo[-1][1]), PREFILL_TOKENS)
            count = 1 if self._is_deterministic else max(1, PREFILL_TOKENS // longest)
            batch, todo = todo[-count:], todo[:-count]
            self._prefill_pass([(held, ids[:longest]) for held, ids in batch], longest)
            todo += [(held, ids[longest:]) for held, ids in batch if len(ids) > longest]
        for first, held in copies:
            held.ids = list(held.prompt)
            self._cache.copy(first.slot, held.slot, len(held.ids))
            self.shared_tokens += len(held.ids)

    def _prefill_pass(self, batch: list[tuple[_Session, list[int]]], longest: int) -> None:
        # Padding goes behind the fresh tokens: it writes positions that the next tokens overwrite before they are seen.
        # It must not run over the last position either, where learned position embeddings end.
        input_ids = torch.tensor([ids + [0] * (longest - len(ids)) for _, ids in batch])
        positions = torch.tensor([len(held.ids) for held, _ in batch])[:, None] + torch.arange(longest)
        positions.clamp_(max=self._max_context_tokens - 1)
        for held, ids in batch:
            held.ids += ids
            self.prefilled_tokens += len(ids)
        self._model.logits(self._cache, torch.tensor([held.slot for held, _ in batch]), input_ids, positions)

    def _close_gaps(self) -> None:
        """Bring a decoding session from the end of the range to an idle place within it, once that has paid.

        Rows of the range whose sessions wait for tools are computed for nobody. A swap costs as much as SWAP_COST such
        rows: by swapping only when that many were computed, at most half of the time goes to the worse choice.
        """
        highest = max(self._decoding)
        self._idle_rows += highest + 1 - len(self._decoding)
        while self._idle_rows >= SWAP_COST and highest >= len(self._decoding):
            idle = next(slot for slot in range(highest) if slot not in self._decoding)
            mover, sleeper = self._in_slot(highest), self._in_slot(idle)
            self._cache.swap(highest, idle, max(len(mover.ids), len(sleeper.ids)))
            mover.slot, sleeper.slot = idle, highest
            self._decoding[idle] = self._decoding.pop(highest)
            self._idle_rows -= SWAP_COST
            highest = max(self._decoding)
        if highest < len(self._decoding):
            self._idle_rows = 0

    def _decode(self) -> list[_Request]:
        """One token for every session that is generating; returns the requests that ended with it."""
        finished = []
        for rows in self._passes(max(self._decoding) + 1):
            input_ids = torch.zeros(rows.stop - rows.start, 1, dtype=torch.long)
            positions = torch.zeros_like(input_ids)
            for held in self._sessions.values():
                if rows.start <= held.slot < rows.stop:
                    # an idle slot's next position: overwritten before it is seen
                    positions[held.slot - rows.start] = len(held.ids)
            slots = sorted(slot for slot in self._decoding if rows.start <= slot < rows.stop)
            requests = [self._decoding[slot] for slot in slots]
            for slot, request in zip(slots, requests, strict=True):
                input_ids[slot - rows.start] = request.last_token
            logits = self._model.logits(self._cache, rows, input_ids, positions)
            if len(slots) < len(logits):
                logits = logits[torch.tensor(slots) - rows.start]
            tokens, logprobs = self._sampling.draw(logits, [request.uniform.random() for request in requests])
            for slot, request, token, logprob in zip(slots, requests, tokens, logprobs, strict=True):
                self.prefilled_tokens += not request.sampled
                self._sessions[request.session].ids.append(request.last_token)
                request.sampled.append(token)
                request.logprobs.append(logprob)
                is_over = token in self._stop_ids or len(request.sampled) >= request.max_tokens
                if is_over or request.future.done():
                    del self._decoding[slot]
                    finished.append(request)
            self.sampled_tokens += len(requests)
        return finished

    def _passes(self, n_rows: int) -> Iterator[slice]:
        """The slot ranges of one decode step."""
        if self._is_deterministic and self._tile == 1:
            yield from (slice(slot, slot + 1) for slot in sorted(self._decoding))
        else:
            yield slice(0, -(-n_rows // self._tile) * self._tile)


def _check_architecture(model: Any, config: RunConfig) -> None:
    """Refuse what the slots cannot hold or the masks would get wrong.

    Args:
        model: the text model's configuration.
    """
    kinds = set(getattr(model, "layer_types", None) or ()) - {PLAIN, SLIDING}
    if kinds:
        found = f"found {model.model_type}, whose layers are {', '.join(sorted(kinds))}"
        raise ConfigError(f"inference.kind: {found}; in_process runs layers of {PLAIN} and {SLIDING}; use vllm")
    attention = config.policy.attn_implementation
    if attention not in ATTENTION:
        raise ConfigError(f"policy.attn_implementation: found {attention!r}; in_process runs {' or '.join(ATTENTION)}")
    wanted, limit = config.rollout.max_context_tokens, getattr(model, "max_position_embeddings", None)
    if limit is not None and limit < wanted:
        raise ConfigError(
            f"rollout.max_context_tokens: found {wanted}; allowed: at most {limit}, the baseline's "
            "max_position_embeddings"
        )
