"""The engine without tools: one long turn beside `generate`, a decode step beside its bound, a context of 8k tokens."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from agentrl.config import InferenceConfig, RolloutConfig, RunConfig, WorkflowConfig
from agentrl.inference.engine import InferenceEngine
from agentrl.inference.in_process import InProcessEngine
from agentrl.policy.policy import Policy
from agentrl.types import Sample

from .task import VOCABULARY, Scale, make_tasks

Prompts = list[list[int]]
_sessions = itertools.count()


def make_engine(policy: Policy, *, max_batch: int, max_context_tokens: int) -> InProcessEngine:
    """The engine as a run would make it, but for these two settings."""
    config = RunConfig(
        workflow=WorkflowConfig(target="benchmark", baseline="in memory"),
        inference=InferenceConfig(max_batch=max_batch),
        rollout=RolloutConfig(max_context_tokens=max_context_tokens, max_turn_tokens=max_context_tokens),
    )
    return InProcessEngine.from_config(config, policy)


def task_prompts(policy: Policy, scale: Scale, seed: int) -> Prompts:
    """A batch of the task: every prompt `samples` times; cut at the front to one length, so that nobody pads."""
    prompts = [policy.chat.prompt_ids(list(task.messages)) for task in make_tasks(scale, seed)]
    shortest = min(map(len, prompts))
    return [ids[-shortest:] for ids in prompts for _ in range(scale.samples)]


def random_prompts(count: int, length: int, seed: int) -> Prompts:
    """Prompts that have nothing in common."""
    draw = random.Random(seed)
    return [[draw.randrange(10, VOCABULARY) for _ in range(length)] for _ in range(count)]


async def _turns(engine: InferenceEngine, contexts: Prompts, names: Sequence[str], max_tokens: int) -> list[Sample]:
    calls = (
        engine.generate(ids, session=name, seed=index, max_tokens=max_tokens)
        for index, (ids, name) in enumerate(zip(contexts, names, strict=True))
    )
    return await asyncio.gather(*calls)


async def one_turn_seconds(engine: InferenceEngine, prompts: Prompts, tokens: int) -> float:
    """From the prompts to the last token of everyone."""
    names = [f"turn-{next(_sessions)}" for _ in prompts]
    started = time.perf_counter()
    samples = await _turns(engine, prompts, names, tokens)
    seconds = time.perf_counter() - started
    assert all(len(sample.token_ids) == tokens for sample in samples), "the model ended a turn"
    await asyncio.gather(*map(engine.end_session, names))
    return seconds


async def decode_seconds(engine: InferenceEngine, prompts: Prompts, steps: int) -> float:
    """One decode step of all sessions: sampling, recording and the event loop included, the prompts' prefill not."""
    names = [f"decode-{next(_sessions)}" for _ in prompts]
    firsts = await _turns(engine, prompts, names, 1)
    contexts = [[*ids, *first.token_ids] for ids, first in zip(prompts, firsts, strict=True)]
    started = time.perf_counter()
    await _turns(engine, contexts, names, steps)
    seconds = time.perf_counter() - started
    await asyncio.gather(*map(engine.end_session, names))
    return seconds / steps


@torch.no_grad()
def generate_seconds(model: Any, prompts: Prompts, tokens: int, cache: str) -> float:
    """transformers' `generate` on the same: sampled at temperature 1, no other processing."""
    input_ids = torch.tensor(prompts)
    started = time.perf_counter()
    output = model.generate(
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        do_sample=True,
        top_k=0,
        max_new_tokens=tokens,
        cache_implementation=cache,
    )
    seconds = time.perf_counter() - started
    assert output.shape[1] == len(prompts[0]) + tokens, "the model ended a turn"
    return seconds


class Bound:
    """What a decode step cannot do without, in plain torch and nothing else.

    One `torch.mm` for every linear layer and the output layer, on the model's own weights and as many rows as the
    batch has; and one pass over keys and values of the context's length, each read once (`torch.sum`).
    """

    def __init__(self, model: Any, rows: int, context: int) -> None:
        linear = [module.weight for module in model.modules() if isinstance(module, torch.nn.Linear)]
        self._weights = [(torch.randn(rows, weight.shape[1]), weight.detach().t()) for weight in linear]
        shape = (rows, model.config.num_key_value_heads, context, model.config.head_dim)
        self._cache = [torch.randn(shape) for _ in range(2 * model.config.num_hidden_layers)]

    def _products(self) -> None:
        for rows, weight in self._weights:
            torch.mm(rows, weight)

    def _pass_over_cache(self) -> None:
        for tensor in self._cache:
            tensor.sum()

    @torch.inference_mode()
    def seconds(self, steps: int) -> tuple[float, float, float]:
        """Of one step: the products, the pass, and both where each part is repeated alone.

        A step has both to do, one after the other, and weights and cache together do not stay in the processor's
        caches; a part that is repeated alone stays there, and takes about half as long.
        """
        products = cache = 0.0
        for _ in range(steps):
            started = time.perf_counter()
            self._products()
            halfway = time.perf_counter()
            self._pass_over_cache()
            products, cache = products + halfway - started, cache + time.perf_counter() - halfway
        started = time.perf_counter()
        for part in (self._products, self._pass_over_cache):
            for _ in range(steps):
                part()
        return products / steps, cache / steps, (time.perf_counter() - started) / steps


async def long_context(engine: InProcessEngine, scale: Scale, *, sampled: int = 64, read: int = 192) -> dict[str, Any]:
    """One episode of equal turns until the context is full: seconds of a turn against the context at its start."""
    draw = random.Random(0)
    context, seconds, lengths = random_prompts(1, read, 0)[0], [], []
    prefilled = engine.prefilled_tokens
    fed = len(context)
    while len(context) + sampled <= scale.long_context:
        started = time.perf_counter()
        sample = await engine.generate(context, session="long", seed=0, max_tokens=sampled)
        seconds.append(time.perf_counter() - started)
        lengths.append(len(context))
        news = [draw.randrange(10, VOCABULARY) for _ in range(read)]
        context = [*context, *sample.token_ids, *news]
        fed += 1 + read  # the last sampled token is yet to be fed
    fed -= 1 + read
    held = sum(tensor.nbytes for pair in engine._cache.layers for tensor in pair)
    await engine.end_session("long")
    slope, start = np.polyfit(lengths[1:], seconds[1:], 1)
    residual = np.var(np.array(seconds[1:]) - (start + slope * np.array(lengths[1:])))
    return {
        "turns": len(seconds),
        "tokens": lengths[-1] + sampled,
        "seconds_at_0": float(start),
        "seconds_per_1000_tokens_of_context": float(slope) * 1000,
        "r_squared": float(1 - residual / np.var(seconds[1:])),
        "first_turns_seconds": seconds[1:4],
        "last_turns_seconds": seconds[-3:],
        "prefill_tokens_over_new": (engine.prefilled_tokens - prefilled) / fed,
        "cache_bytes_per_token": held / (lengths[-1] + sampled),
    }
