"""Continuous batching over an ordinary Hugging Face causal LM, with the trainer's own weights.

Episodes join and leave the batch at every token. Each session owns one slot of the key/value cache for its whole
life, so a tool's output costs a prefill of its own tokens only, and while one session waits for a tool the others
decode. Slots stay dense: when a session ends, the last one moves into the hole, so a decode step reads a contiguous
range of the cache (gathering rows by index made a step three times slower).
"""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, EngineError
from agentrl.policy.policy import Policy
from agentrl.types import Sample

PREFILL_TOKENS = 2048  # padded tokens of one prefill pass: bounds its activations
GROWTH = 256  # cache positions are added in steps of this many
ATTENTION = ("sdpa", "eager")


class SlotCache:
    """Keys and values of all sessions, [slots, heads, positions, head size] a layer; what a model sees as its cache."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.capacity = 0
        self.layers: list[tuple[Tensor, Tensor]] = []
        self._rows: slice | Tensor = slice(0, 0)
        self._row_index = torch.zeros(0, 1, dtype=torch.long)
        self._positions = self._row_index
        self._visible = 0

    def aim(self, rows: slice | Tensor, positions: Tensor) -> Tensor:
        """Point the next forward pass at slots and positions [B, n]; returns its attention mask [B, 1, n, visible]."""
        self._rows, self._positions = rows, positions
        index = torch.arange(rows.start, rows.stop) if isinstance(rows, slice) else rows
        self._row_index = index.to(positions.device)[:, None]
        self._visible = int(positions.max()) + 1
        if self._visible > self.capacity:
            self._grow(-(-self._visible // GROWTH) * GROWTH)
        columns = torch.arange(self._visible, device=positions.device)
        return columns[None, None, None, :] <= positions[:, None, :, None]

    def _grow(self, capacity: int) -> None:
        grown = []
        for pair in self.layers:
            wider = [tensor.new_zeros(*tensor.shape[:2], capacity, tensor.shape[3]) for tensor in pair]
            for new, old in zip(wider, pair, strict=True):
                new[:, :, : self.capacity] = old
            grown.append((wider[0], wider[1]))
        self.layers, self.capacity = grown, capacity

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store [B, heads, n, size] where `aim` pointed and return all that the rows may see."""
        if layer == len(self.layers):
            shape = (self.slots, keys.shape[1], self.capacity, keys.shape[3])
            self.layers.append((keys.new_zeros(shape), values.new_zeros((*shape[:3], values.shape[3]))))
        stored = self.layers[layer]
        for store, new in zip(stored, (keys, values), strict=True):
            store[self._row_index, :, self._positions] = new.transpose(1, 2)
        return stored[0][self._rows, :, : self._visible], stored[1][self._rows, :, : self._visible]

    def move(self, source: int, target: int, length: int) -> None:
        """Copy one session's first `length` positions to another slot."""
        for pair in self.layers:
            for tensor in pair:
                tensor[target, :, :length] = tensor[source, :, :length]

    def get_seq_length(self, layer: int = 0) -> int:
        """Models ask for this where no positions are given; here they always are."""
        del layer
        return 0


@dataclass
class _Session:
    slot: int
    ids: list[int] = field(default_factory=list)  # tokens whose keys and values the slot holds

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


class InProcessEngine:
    """An InferenceEngine on `model`, in this process.

    Args:
        model: a causal LM that takes a 4-D attention mask and a cache object (decoder-only architectures of
            transformers whose layers attend to the whole context, with `sdpa` or `eager` attention). Only read.
        stop_id: the token that ends a turn.
        temperature: of the sampling distribution; recorded log-probabilities are this distribution's.
        max_batch: sessions with a place in the cache; more wait.
        max_context_tokens: a context that would grow beyond it is an EngineError.
    """

    def __init__(
        self, model: Any, *, stop_id: int, temperature: float, max_batch: int, max_context_tokens: int
    ) -> None:
        self._model = model
        self._stop_id = stop_id
        self._temperature = temperature
        self._max_context_tokens = max_context_tokens
        self._cache = SlotCache(max_batch)
        self._sessions: dict[str, _Session] = {}
        self._waiting: deque[_Request] = deque()
        self._ended: deque[str] = deque()
        self._decoding: dict[int, _Request] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._driver: asyncio.Task[None] | None = None
        self.policy_version = 0
        self.prefilled_tokens = 0
        self.sampled_tokens = 0

    @classmethod
    def from_config(cls, config: RunConfig, policy: Policy) -> InProcessEngine:
        """The engine that `inference:` and `rollout:` describe, on the policy's own weights.

        Raises:
            ConfigError: the model cannot be run in this way.
        """
        _check_architecture(policy.model.config.get_text_config(), config)
        return cls(
            policy.model,
            stop_id=policy.chat.stop_id,
            temperature=config.inference.temperature,
            max_batch=config.inference.max_batch,
            max_context_tokens=config.rollout.max_context_tokens,
        )

    async def sync(self, policy: Policy) -> None:
        """See InferenceEngine; the weights are shared, so only the caches of the old ones are in question."""
        if policy.model is not self._model:
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
        self._wake()
        return await future

    async def end_session(self, session: str) -> None:
        """Free the session's slot; the last slot's session moves into it."""
        self._ended.append(session)
        if self._is_idle:
            self._free_ended()  # otherwise between two steps: a step reads the slots as they are
            self._wake()

    @property
    def _is_idle(self) -> bool:
        return self._driver is None or self._driver.done()

    def _wake(self) -> None:
        if self._waiting and self._is_idle:
            self._driver = asyncio.create_task(self._drive())

    def _free_ended(self) -> None:
        while self._ended:
            ended = self._sessions.pop(self._ended.popleft(), None)
            if ended is not None:
                self._fill_hole(ended.slot)

    def _fill_hole(self, hole: int) -> None:
        request = self._decoding.pop(hole, None)
        if request is not None and not request.future.done():
            request.future.set_exception(EngineError("its session was ended", rollout_id=request.session))
        last = max((held.slot for held in self._sessions.values()), default=-1)
        if last <= hole:
            return
        mover = next(held for held in self._sessions.values() if held.slot == last)
        self._cache.move(last, hole, len(mover.ids))
        mover.slot = hole
        if last in self._decoding:
            self._decoding[hole] = self._decoding.pop(last)

    async def _drive(self) -> None:
        """Step until nobody waits who could be served. Between steps only this thread touches the slots."""
        loop = asyncio.get_running_loop()
        while True:
            self._free_ended()
            admitted = self._admit()
            if not admitted and not self._decoding:
                return
            try:
                finished = await loop.run_in_executor(self._worker, self._step, admitted)
            except asyncio.CancelledError:  # the event loop closes
                self._worker.submit(int).result()  # the step under way ends first: it writes what is cleared now
                for request in self._drop_all(admitted):
                    request.future.cancel()
                self._sessions.clear()
                self._ended.clear()
                raise
            except Exception as error:  # torch raises what it likes: every waiting rollout must hear of it
                what = f"generation failed: {type(error).__name__}: {error}"
                for request in self._drop_all(admitted):
                    request.future.set_exception(EngineError(what, rollout_id=request.session))
                return
            for request in finished:
                if not request.future.done():
                    truncated = request.sampled[-1] != self._stop_id
                    drawn = tuple(request.sampled), tuple(request.logprobs)
                    sample = Sample(*drawn, is_truncated=truncated, policy_version=self.policy_version)
                    request.future.set_result(sample)
            await asyncio.sleep(0)  # let the rollouts that just woke queue their next request

    def _drop_all(self, admitted: list[_Request]) -> list[_Request]:
        """Empty the queue and the batch; returns the requests that somebody still waits for."""
        dropped = {*admitted, *self._decoding.values(), *self._waiting}
        self._decoding.clear()
        self._waiting.clear()
        for held in self._sessions.values():
            held.ids.clear()  # a step broken off leaves the cache half written
        return [request for request in dropped if not request.future.done()]

    @torch.no_grad()
    def _step(self, admitted: list[_Request]) -> list[_Request]:
        """Prefill the newcomers, then one token for everyone; returns the requests that ended."""
        finished: list[_Request] = []
        newcomers = sorted(admitted, key=self._new_tokens)
        while newcomers:
            finished += self._prefill(newcomers)
        if self._decoding:
            finished += self._decode()
        return finished

    def _admit(self) -> list[_Request]:
        """Take requests off the queue, giving new sessions the next free slot."""
        admitted, still_waiting = [], deque[_Request]()
        busy = {request.session for request in self._decoding.values()}
        while self._waiting:
            request = self._waiting.popleft()
            if request.future.done():
                continue  # its rollout was cancelled
            is_new = request.session not in self._sessions
            if request.session in busy or (is_new and len(self._sessions) >= self._cache.slots):
                still_waiting.append(request)
                continue
            held = self._sessions.setdefault(request.session, _Session(slot=len(self._sessions)))
            held.keep(request.token_ids)
            busy.add(request.session)
            admitted.append(request)
        self._waiting = still_waiting
        return admitted

    def _new_tokens(self, request: _Request) -> int:
        return len(request.token_ids) - len(self._sessions[request.session].ids)

    def _prefill(self, admitted: list[_Request]) -> list[_Request]:
        """Run the tail of `admitted` (popped from it) through the model and sample their first tokens."""
        longest = self._new_tokens(admitted[-1])
        count = max(1, min(len(admitted), PREFILL_TOKENS // longest))
        batch = [admitted.pop() for _ in range(count)]
        sessions = [self._sessions[request.session] for request in batch]
        fresh = [request.token_ids[len(held.ids) :] for request, held in zip(batch, sessions, strict=True)]
        # Padding goes behind the fresh tokens: it writes positions that the next tokens overwrite before they are seen.
        # It must not run over the last position either, where learned position embeddings end.
        input_ids = torch.tensor([ids + [self._stop_id] * (longest - len(ids)) for ids in fresh])
        positions = torch.tensor([len(held.ids) for held in sessions])[:, None] + torch.arange(longest)
        positions.clamp_(max=self._max_context_tokens - 1)
        last = torch.tensor([len(ids) - 1 for ids in fresh])
        for ids, held in zip(fresh, sessions, strict=True):
            held.ids += ids
        self.prefilled_tokens += sum(map(len, fresh))
        keep = torch.unique(last)
        logits = self._forward(torch.tensor([held.slot for held in sessions]), input_ids, positions, keep)
        logits = logits[torch.arange(count), torch.searchsorted(keep, last)]
        for request, held in zip(batch, sessions, strict=True):
            self._decoding[held.slot] = request
        return self._sample(logits, batch, [held.slot for held in sessions])

    def _decode(self) -> list[_Request]:
        """One token for every session that is generating; idle slots below the highest are computed and ignored."""
        slots = sorted(self._decoding)
        n_rows = slots[-1] + 1
        input_ids = torch.full((n_rows, 1), self._stop_id)
        positions = torch.zeros(n_rows, 1, dtype=torch.long)
        for held in self._sessions.values():
            if held.slot < n_rows:
                positions[held.slot] = len(held.ids)  # an idle slot's next position: overwritten before it is seen
        requests = [self._decoding[slot] for slot in slots]
        for slot, request in zip(slots, requests, strict=True):
            input_ids[slot, 0] = request.sampled[-1]
        logits = self._forward(slice(0, n_rows), input_ids, positions, 1)[:, 0]
        for request in requests:
            self._sessions[request.session].ids.append(request.sampled[-1])
        return self._sample(logits[torch.tensor(slots)], requests, slots)

    def _forward(self, rows: slice | Tensor, input_ids: Tensor, positions: Tensor, keep: int | Tensor) -> Tensor:
        device = self._model.device
        positions = positions.to(device)
        mask = self._cache.aim(rows if isinstance(rows, slice) else rows.to(device), positions)
        if self._model.config._attn_implementation == "eager":  # adds the mask to the scores, and True is 1
            mask = torch.zeros_like(mask, dtype=self._model.dtype).masked_fill_(~mask, -math.inf)
        output = self._model(
            input_ids=input_ids.to(device),
            attention_mask=mask,
            position_ids=positions,
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=keep.to(device) if isinstance(keep, Tensor) else keep,
        )
        return output.logits.float()  # type: ignore[no-any-return]

    def _sample(self, logits: Tensor, requests: list[_Request], slots: list[int]) -> list[_Request]:
        """Draw one token a row by inverting the cumulative distribution at the request's own random number.

        One number a token and one generator a request: what a request draws does not depend on its neighbours.
        """
        logprobs = torch.log_softmax(logits / self._temperature, dim=-1)
        cumulative = logprobs.double().exp().cumsum(-1)
        draws = torch.tensor([[request.uniform.random()] for request in requests], dtype=torch.float64)
        draws = draws.to(cumulative.device) * cumulative[:, -1:]
        tokens = torch.searchsorted(cumulative, draws, right=True).clamp_(max=logits.shape[-1] - 1)
        chosen = logprobs.gather(-1, tokens)
        if not bool(chosen.isfinite().all()):
            raise FloatingPointError("the model's logits are not finite")
        finished = []
        self.sampled_tokens += len(requests)
        for request, slot, token, logprob in zip(
            requests, slots, tokens[:, 0].tolist(), chosen[:, 0].tolist(), strict=True
        ):
            request.sampled.append(token)
            request.logprobs.append(logprob)
            if token == self._stop_id or len(request.sampled) >= request.max_tokens or request.future.done():
                del self._decoding[slot]
                finished.append(request)
        return finished


def _check_architecture(model: Any, config: RunConfig) -> None:
    """Refuse what the slots cannot hold or the mask would get wrong: one mask serves all layers.

    Args:
        model: the text model's configuration.
    """
    kinds = set(getattr(model, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    if kinds:
        found = f"found {model.model_type}, whose layers are {', '.join(sorted(kinds))}"
        raise ConfigError(f"inference.kind: {found}; in_process runs layers that attend to the whole context")
    attention = config.policy.attn_implementation
    if attention not in ATTENTION:
        raise ConfigError(f"policy.attn_implementation: found {attention!r}; in_process runs {' or '.join(ATTENTION)}")
    wanted = config.rollout.max_context_tokens
    for name in ("max_position_embeddings", "sliding_window"):
        limit = getattr(model, name, None)
        if limit is not None and limit < wanted:
            raise ConfigError(
                f"rollout.max_context_tokens: found {wanted}; allowed: at most {limit}, the baseline's {name}"
            )
