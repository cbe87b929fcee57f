"""Continuous batching over an ordinary Hugging Face causal LM, with the trainer's own weights or a copy of them.

Episodes join and leave the batch at every token. Each session owns one slot of the key/value cache for its whole
life, so a tool's output costs a pass over its own tokens only, and while one session waits for a tool the others
decode. Sessions that start with the same prompt share one reading of it.

A context is read up to its last token, without logits; the last one, like every sampled token after it, is the input
of a decode step. So there is one place where tokens are sampled.
"""

from __future__ import annotations

import asyncio
import copy
import random
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch

from agentrl.config import RunConfig
from agentrl.config.inference import sessions_that_fit
from agentrl.errors import ConfigError, EngineError
from agentrl.inference.sampling import Sampling
from agentrl.inference.slots import GROWTH, Decoding, Piece, SlotCache, SlotModel
from agentrl.policy.policy import Policy
from agentrl.types import Sample

PREFILL_TOKENS = 2048  # read in one pass: bounds its activations
SWAP_COST = 4  # exchanging two sessions moves about as many bytes as attention reads for this many idle rows
TILE = 16  # decoding tokens of a deterministic pass: at a multiple of this, matrix kernels treat all rows alike
LAYERS = {"full_attention", "sliding_attention"}


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


@dataclass(eq=False)
class _Session:
    slot: int
    ids: list[int] = field(default_factory=list)  # tokens whose keys and values the slot holds
    prompt: _Prompt | None = None  # what they begin with
    request: _Request | None = None  # what it generates now

    def keep(self, token_ids: list[int]) -> None:
        """Forget what `token_ids` does not begin with; its last token is always run, for its logits."""
        known = min(len(self.ids), len(token_ids) - 1)
        if self.ids[:known] != token_ids[:known]:
            known = next(i for i, (held, new) in enumerate(zip(self.ids, token_ids, strict=False)) if held != new)
        del self.ids[known:]


@dataclass(eq=False)
class _Prompt:
    """What several sessions may begin with: read by one, copied by the others."""

    ids: tuple[int, ...]
    users: list[_Session] = field(default_factory=list)
    row: int | None = None  # where the cache keeps it for all of them, once there are two


class InProcessEngine:
    """An InferenceEngine on `model`, in this process.

    Args:
        model: a decoder-only causal LM of transformers with pluggable attention. Only read.
        stop_ids: the tokens that end a turn.
        temperature, top_p, top_k: the sampling distribution; recorded log-probabilities are this distribution's.
        max_batch: sessions with a place in the cache; more wait.
        max_context_tokens: a context that would grow beyond it is an EngineError.
        kv_cache_bytes: lowers `max_batch` to the sessions whose longest contexts fit.
        deterministic: what a session samples is bit-equal whatever runs beside it and whenever it comes: passes have
            shapes in which no row depends on the others, or, where this machine has no such shapes, one session each.
        own_weights: sample from a copy of `model`, which `sync` brings up to date: then the model may run and change
            while sessions are open. It takes the memory of the weights a second time.

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
        own_weights: bool = False,
    ) -> None:
        self._source = model  # whose weights `sync` asks for
        self._model = SlotModel(copy.deepcopy(model).requires_grad_(False) if own_weights else model)
        self._stop_ids = frozenset(stop_ids)
        self._sampling = Sampling(temperature, top_p, top_k)
        self._max_context_tokens = max_context_tokens
        self._is_deterministic = deterministic
        session_bytes = self._model.bytes_per_position() * -(-max_context_tokens // GROWTH) * GROWTH
        # in deterministic passes one slot takes the padding
        fitting = sessions_that_fit(kv_cache_bytes - deterministic * session_bytes, session_bytes)
        if fitting < 1:
            raise ConfigError(
                f"inference.kv_cache_bytes: found {kv_cache_bytes:,}; allowed: at least "
                f"{session_bytes * (1 + deterministic):,}, as an episode of {max_context_tokens} tokens takes "
                f"{session_bytes:,}"
            )
        self.max_sessions = min(max_batch, fitting)
        self._cache = SlotCache(self.max_sessions + deterministic, align=GROWTH if deterministic else 1)
        self._tile = TILE if deterministic else 1
        self._is_one_by_one = deterministic and not self._model.rows_are_independent(
            self.max_sessions, tile=TILE, align=GROWTH
        )
        self._sessions: dict[str, _Session] = {}
        self._prompts: dict[tuple[int, ...], _Prompt] = {}
        self._kept: list[_Prompt] = []  # by row
        self._waiting: deque[_Request] = deque()
        self._ended: deque[str] = deque()
        self._has_news = False  # read by the worker: somebody came or went, so it should come back
        self._idle_rows = 0  # attended to for nobody since the last swap
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._driver: asyncio.Task[None] | None = None
        self.policy_version = 0
        self.prefilled_tokens = self.shared_tokens = self.sampled_tokens = 0
        self.busy_seconds = 0.0

    @classmethod
    def from_config(cls, config: RunConfig, policy: Policy) -> InProcessEngine:
        """The engine that `inference:` and `rollout:` describe, on the policy's weights, or a copy that may lag behind.

        Raises:
            ConfigError: the model cannot be run in this way.
        """
        _check_architecture(policy.model, config)
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
            own_weights=config.ppo.overlap,
        )

    async def sync(self, policy: Policy) -> None:
        """See InferenceEngine; where the weights are shared, only the caches of the old ones are in question."""
        if policy.model is not self._source:
            raise EngineError("this engine samples from another policy's weights: make one for this policy")
        if is_open := self._sessions.keys() - set(self._ended):
            raise EngineError(f"{len(is_open)} sessions are open: the weights cannot change under them")
        if self._driver is not None and not self._is_idle:
            await asyncio.wait([self._driver])  # it may be in the last step of a rollout that was cut off
        if self._model.model is not self._source:
            _copy_weights(self._source, self._model.model)
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

    async def aclose(self) -> None:
        """See InferenceEngine; the policy's weights stay."""
        if self._driver is not None and not self._driver.done():  # rollouts were cut off in the middle of a step
            self._driver.cancel()
            await asyncio.wait([self._driver])
        self._worker.shutdown()

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
            self._admit()
            if not self._running():
                return
            try:
                finished = await loop.run_in_executor(self._worker, self._work)
            except asyncio.CancelledError:  # the event loop closes
                self._has_news = True
                self._worker.submit(int).result()  # the step under way ends first: it writes what is cleared now
                for request in self._drop_all():
                    request.future.cancel()
                self._sessions.clear()
                self._ended.clear()
                raise
            except Exception as error:  # torch raises what it likes: every waiting rollout must hear of it
                what = f"generation failed: {type(error).__name__}: {error}"
                for request in self._drop_all():
                    request.future.set_exception(EngineError(what, rollout_id=request.session))
                return
            for request in finished:
                if not request.future.done():
                    drawn = tuple(request.sampled), tuple(request.logprobs)
                    is_truncated = request.last_token not in self._stop_ids
                    sample = Sample(*drawn, is_truncated=is_truncated, policy_version=self.policy_version)
                    request.future.set_result(sample)
            await asyncio.sleep(0)  # let the rollouts that just woke queue their next request

    def _running(self) -> list[_Session]:
        """The sessions that generate, by slot."""
        running = (held for held in self._sessions.values() if held.request is not None)
        return sorted(running, key=lambda held: held.slot)

    def _drop_all(self) -> list[_Request]:
        """Empty the queue and the batch; returns the requests that somebody still waits for."""
        dropped = [*self._waiting, *(held.request for held in self._running())]
        self._waiting.clear()
        self._prompts.clear()
        self._kept.clear()
        for held in self._sessions.values():  # a step broken off leaves the cache half written
            held.ids, held.prompt, held.request = [], None, None
        return [request for request in dropped if request is not None and not request.future.done()]

    def _admit(self) -> None:
        """Take requests off the queue, giving new sessions the next free slot."""
        still_waiting = deque[_Request]()
        while self._waiting:
            request = self._waiting.popleft()
            if request.future.done():
                continue  # its rollout was cancelled
            held = self._sessions.get(request.session)
            if held is None and len(self._sessions) < self.max_sessions:
                held = self._sessions[request.session] = _Session(slot=len(self._sessions))
            if held is None or held.request is not None:
                still_waiting.append(request)
                continue
            held.keep(request.token_ids)
            held.request = request
            if held.prompt is not None and len(held.ids) < len(held.prompt.ids):
                self._forget_prompt(held)
            if not held.ids:
                ids = tuple(request.token_ids[:-1])
                held.prompt = self._prompts.setdefault(ids, _Prompt(ids))
                held.prompt.users.append(held)
        self._waiting = still_waiting

    def _free_ended(self) -> None:
        while self._ended:
            ended = self._sessions.pop(self._ended.popleft(), None)
            if ended is None:
                continue
            self._forget_prompt(ended)
            if ended.request is not None and not ended.request.future.done():
                error = EngineError("its session was ended", rollout_id=ended.request.session)
                ended.request.future.set_exception(error)
            if ended.slot < len(self._sessions):  # the last session moves into the hole
                last = self._in_slot(len(self._sessions))
                self._cache.copy(last.slot, ended.slot, len(last.ids))
                last.slot = ended.slot

    def _forget_prompt(self, held: _Session) -> None:
        """The session begins with its prompt no more; a prompt that nobody begins with is given up."""
        prompt, held.prompt = held.prompt, None
        if prompt is None:
            return
        prompt.users.remove(held)
        if prompt.users:
            return
        del self._prompts[prompt.ids]
        if prompt.row is not None:
            last = self._kept.pop()
            if last is not prompt:
                assert last.row is not None
                self._cache.move_prompt(last.row, prompt.row)
                self._kept[prompt.row], last.row = last, prompt.row

    def _in_slot(self, slot: int) -> _Session:
        return next(held for held in self._sessions.values() if held.slot == slot)

    def _work(self) -> list[_Request]:
        """Step until a turn ends or somebody comes or goes; returns the ended turns."""
        started = time.perf_counter()
        finished: list[_Request] = []
        while not finished and (running := self._running()):
            finished = self._step(running)
            if self._has_news:
                break
        self.busy_seconds += time.perf_counter() - started
        return finished

    def _step(self, running: list[_Session]) -> list[_Request]:
        """One token for every session that has read its context, and a pass over what the others have to read.

        Returns:
            The requests that ended.
        """
        pieces, decoding, room = dict[_Session, list[int]](), [], PREFILL_TOKENS
        for held in running:
            request = held.request
            assert request is not None
            if request.future.done():  # its rollout was cancelled
                held.request = None
            elif request.sampled or not (unread := self._unread(held, request)):
                decoding.append((held, request))
            elif room and self._is_reader(held) and not (pieces and self._is_deterministic):
                pieces[held] = unread[:room]
                room -= len(pieces[held])
        if not decoding and not pieces:
            return []
        self._close_gaps(decoding)
        logits = self._forward(decoding, [Piece(held.slot, len(held.ids), ids) for held, ids in pieces.items()])
        for held, ids in pieces.items():
            held.ids += ids
            self.prefilled_tokens += len(ids)
        return self._extend(decoding, logits) if decoding else []

    def _is_reader(self, held: _Session) -> bool:
        """Whether it reads by itself: its prompt has been read, or it is the first of those that wait for it."""
        return bool(held.ids) or held.prompt is None or held.prompt.users[0] is held

    def _unread(self, held: _Session, request: _Request) -> list[int]:
        """What of the context is not in the slot yet, its last token aside; a prompt that is there is copied first."""
        if (prompt := held.prompt) is not None and not held.ids:
            length = len(prompt.ids)
            source = next((user for user in prompt.users if user is not held and len(user.ids) >= length), None)
            if source is not None:
                self._cache.copy(source.slot, held.slot, length)
                held.ids = list(prompt.ids)
                self.shared_tokens += length
                if prompt.row is None and len(self._kept) < self._cache.slots // 2 and not self._is_deterministic:
                    prompt.row = len(self._kept)
                    self._kept.append(prompt)
                    self._cache.keep_prompt(source.slot, prompt.row, length)
        return request.token_ids[len(held.ids) : -1]

    def _close_gaps(self, decoding: list[tuple[_Session, _Request]]) -> None:
        """Bring a decoding session from the end of the range to an idle slot within it, once that has paid.

        Attention reads the slots up to the highest that decodes, those of sessions that wait for tools included. By
        swapping only when SWAP_COST of them were read for nobody, at most half of the time goes to the worse choice.
        """
        if not decoding:
            return
        self._idle_rows += decoding[-1][0].slot + 1 - len(decoding)
        while self._idle_rows >= SWAP_COST and decoding[-1][0].slot >= len(decoding):
            taken = {held.slot for held, _ in decoding}
            mover = decoding[-1][0]
            sleeper = self._in_slot(next(slot for slot in range(mover.slot) if slot not in taken))
            self._cache.swap(mover.slot, sleeper.slot, max(len(mover.ids), len(sleeper.ids)))
            mover.slot, sleeper.slot = sleeper.slot, mover.slot
            decoding.sort(key=lambda each: each[0].slot)
            self._idle_rows -= SWAP_COST

    def _forward(self, decoding: list[tuple[_Session, _Request]], pieces: list[Piece]) -> torch.Tensor:
        """Run the model; logits [decoding, V].

        Deterministic passes are of one kind: the shape of a mixed one would depend on who comes when.
        """
        rows = []
        for held, request in decoding:
            row = Decoding(held.slot, len(held.ids), request.last_token)
            if (prompt := held.prompt) is not None and prompt.row is not None:
                row = row._replace(prompt_row=prompt.row, prompt_length=len(prompt.ids))
            rows.append(row)
        if pieces and self._is_deterministic:
            read = self._model.run(self._cache, [], pieces)
            if not rows:
                return read
            pieces = []
        if self._is_one_by_one:
            return torch.cat([self._model.run(self._cache, [row]) for row in rows])
        return self._model.run(self._cache, rows, pieces, tile=self._tile)

    def _extend(self, decoding: list[tuple[_Session, _Request]], logits: torch.Tensor) -> list[_Request]:
        """Draw the next token of each; returns the requests that ended with it."""
        tokens, logprobs = self._sampling.draw(logits, [request.uniform.random() for _, request in decoding])
        finished = []
        for (held, request), token, logprob in zip(decoding, tokens, logprobs, strict=True):
            self.prefilled_tokens += not request.sampled
            held.ids.append(request.last_token)
            request.sampled.append(token)
            request.logprobs.append(logprob)
            if token in self._stop_ids or len(request.sampled) >= request.max_tokens:
                held.request = None
                finished.append(request)
        self.sampled_tokens += len(decoding)
        return finished


@torch.no_grad()
def _copy_weights(source: Any, target: Any) -> None:
    """Give `target`, a copy of `source`, its present weights; tied ones are listed once in both."""
    for read, written in ((source.parameters(), target.parameters()), (source.buffers(), target.buffers())):
        for new, old in zip(read, written, strict=True):
            old.copy_(new)


def _check_architecture(model: Any, config: RunConfig) -> None:
    """Refuse what the slots cannot hold or `_attend` would get wrong."""
    text = model.config.get_text_config()
    name, wanted = text.model_type, config.rollout.max_context_tokens
    others = sorted(set(getattr(text, "layer_types", None) or ()) - LAYERS)
    if others or not model._supports_attention_backend:
        found = f"has layers of {', '.join(others)}" if others else "computes its attention by itself"
        raise ConfigError(
            f"inference.kind: {name} {found}; in_process runs models with pluggable attention and layers of "
            f"{' and '.join(sorted(LAYERS))}; use vllm"
        )
    limit = getattr(text, "max_position_embeddings", None)
    if limit is not None and limit < wanted:
        raise ConfigError(
            f"rollout.max_context_tokens: found {wanted}; allowed: at most {limit}, the baseline's "
            "max_position_embeddings"
        )
