"""One whole training step, rollouts and update, against trl's GRPOTrainer with tools doing the same work.

    python -m benchmarks.step [--repeats 3] [--trl-micro-batch 4] [--tool-seconds 0.05] [--quick] [--json]

The model, tasks, tool and limits are those of benchmarks.rollouts: 8 prompts x 4 rollouts with up to four calls, one
optimiser step over all of them, a KL penalty to the baseline with the same weight. Steps of the two take turns in one
process; what counts is the ratio of the medians. Both sides' parts say where the time goes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from agentrl.config import PolicyConfig, PPOConfig
from agentrl.policy.policy import Policy
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.trainer import PPOTrainer
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.trajectory import to_trajectories
from agentrl.tools import Toolbox
from agentrl.types import Rollout, Task

from .rollouts import task
from .rollouts.__main__ import machine
from .rollouts.episodes import Watched, limits
from .rollouts.peers import grpo_trainer
from .rollouts.turns import make_engine

KL_COEF = 0.01
LEARNING_RATE = 1.0e-5  # small: every step does the same work


@dataclass(frozen=True)
class Step:
    """One step of one system; all in seconds, or a count."""

    seconds: float
    rollout: float
    """Generation and tools."""
    tools: float
    """Of `rollout`: waiting for tools and nothing else."""
    reference: float
    """The reference's passes, and what else comes before the loss."""
    loss_and_backward: float
    """With the optimiser's step."""
    sampled_tokens: int


class Spent:
    """Seconds inside of functions."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - started

    def of(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, its time noted."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.timed():
                return work(*args, **kwargs)

        return timed

    def taken(self) -> float:
        """Since the last call."""
        seconds, self.seconds = self.seconds, 0.0
        return seconds


class Ours:
    """agentrl, as `agentrl train` puts it together."""

    def __init__(self, folder: Path, scale: task.Scale, tool_seconds: float) -> None:
        self.scale, self.tool_seconds = scale, tool_seconds
        model, tokenizer = task.load(folder)
        self.policy = Policy(model, tokenizer, PolicyConfig())
        self.config = PPOConfig.model_validate(
            {
                "tasks_per_step": scale.prompts,
                "samples_per_task": scale.samples,
                "minibatches": 1,
                "learning_rate": LEARNING_RATE,
                "kl": {"coef": KL_COEF},
                "guards": {"max_update_kl": 1e6},
            }
        )
        self.reference = ReferencePolicy.freeze(self.policy)
        self._of_reference = Spent()
        self.reference.logprobs = self._of_reference.of(self.reference.logprobs)  # type: ignore[method-assign]
        self.ppo = PPOTrainer(self.policy, self.reference, self.config)
        room = limits(self.policy, scale, task.make_tasks(scale, 0)).max_context_tokens
        self.engine = make_engine(self.policy, max_batch=scale.rollouts, max_context_tokens=room + 16)

    def step(self, number: int) -> Step:
        """Roll out, grade, learn, and give the engine the new weights."""
        tasks = task.make_tasks(self.scale, number)
        engine = Watched(self.engine)
        started = time.perf_counter()
        rollouts = asyncio.run(self._roll_out(engine, tasks, number))
        rolled_out = time.perf_counter()
        self.ppo.update(to_trajectories(rollouts, self.config))
        updated = time.perf_counter()
        reference = self._of_reference.taken()
        return Step(
            seconds=updated - started,
            rollout=rolled_out - started,
            tools=engine.idle_seconds,
            reference=reference,
            loss_and_backward=updated - rolled_out - reference,
            sampled_tokens=sum(rollout.output_tokens for rollout in rollouts),
        )

    async def _roll_out(self, watched: Watched, tasks: Sequence[Task], seed: int) -> list[Rollout]:
        await watched.sync(self.policy)
        config = limits(self.policy, self.scale, tasks)
        tool = Toolbox([task.LookupTool(self.tool_seconds)])
        engine = RolloutEngine(watched, self.policy.chat, tool, task.AnyAnswer(), config)
        return await engine.run(tasks, samples_per_task=self.scale.samples, seed=seed)


class Theirs(TrainerCallback):  # type: ignore[misc]
    """trl; between two of its steps, `between` is called.

    Args:
        steps: to train.
        between: before every step, with its number.
    """

    def __init__(
        self, folder: Path, scale: task.Scale, options: argparse.Namespace, steps: int, between: Callable[[int], None]
    ) -> None:
        model, tokenizer = task.load(folder)
        self.between = between
        self.steps: list[Step] = []
        self._rollout, self._scoring, self._tools = Spent(), Spent(), Spent()
        self._tokens = 0
        self._started = 0.0

        def lookup(key: str) -> str:
            """Next key of the trail.

            Args:
                key: the key that you hold.
            """
            with self._tools.timed():
                time.sleep(options.tool_seconds)
            return str(task.found(task.next_key(key)))

        def reward(completions: Sequence[Any], **_: Any) -> list[float]:
            return [float("Answer" in str(messages[-1].get("content"))) for messages in completions]

        rows = [{"prompt": list(each.messages)} for number in range(steps) for each in task.make_tasks(scale, number)]
        micro_batch = min(options.trl_micro_batch, scale.rollouts)
        self.trainer = grpo_trainer(
            model,
            tokenizer,
            rows=rows,
            tools=[lookup],
            reward=reward,
            max_steps=steps,
            learning_rate=LEARNING_RATE,
            lr_scheduler_type="constant",
            beta=KL_COEF,
            shuffle_dataset=False,
            per_device_train_batch_size=micro_batch,
            gradient_accumulation_steps=scale.rollouts // micro_batch,
            num_generations=scale.samples,
            max_completion_length=scale.completion_tokens,
            max_tool_calling_iterations=task.MAX_HOPS,
        )
        generate, score = self.trainer._generate, self.trainer._generate_and_score_completions

        def counted(*args: Any, **kwargs: Any) -> Any:
            with self._rollout.timed():
                found = generate(*args, **kwargs)
            self._tokens = sum(map(sum, found[2]))
            return found

        self.trainer._generate = counted
        self.trainer._generate_and_score_completions = self._scoring.of(score)
        self.trainer.add_callback(self)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, control
        self.between(state.global_step)
        self._started = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, state, control
        seconds = time.perf_counter() - self._started
        rollout, scoring = self._rollout.taken(), self._scoring.taken()
        self.steps.append(
            Step(seconds, rollout, self._tools.taken(), scoring - rollout, seconds - scoring, self._tokens)
        )
        print(f"trl: {self.steps[-1]}", file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(options.threads)
    started = machine(options.threads)
    scale = task.QUICK if options.quick else task.Scale()
    folder = task.prepare(options.model_dir, scale)
    ours = Ours(folder, scale, options.tool_seconds)
    steps: list[Step] = []

    def between(number: int) -> None:
        steps.append(ours.step(number))
        print(f"agentrl: {steps[-1]}", file=sys.stderr, flush=True)

    theirs = Theirs(folder, scale, options, options.repeats + 1, between)
    theirs.trainer.train()
    parts = {"agentrl": _medians(steps[1:]), "trl": _medians(theirs.steps[1:])}  # the first ones warm up
    return {
        "step_vs_trl": parts["trl"]["seconds"] / parts["agentrl"]["seconds"],
        "rollout_vs_trl": parts["trl"]["rollout"] / parts["agentrl"]["rollout"],
        "update_vs_trl": _update(parts["trl"]) / _update(parts["agentrl"]),
        "steps_per_hour": {name: 3600 / part["seconds"] for name, part in parts.items()},
        "seconds": parts,
        "steps": {"agentrl": list(map(asdict, steps)), "trl": list(map(asdict, theirs.steps))},
        "settings": {"trl_micro_batch": options.trl_micro_batch, "tool_seconds": options.tool_seconds},
        "machine": started,
    }


def _medians(steps: Sequence[Step]) -> dict[str, float]:
    rows = [asdict(step) for step in steps]
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}


def _update(part: dict[str, float]) -> float:
    return part["reference"] + part["loss_and_backward"]


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--trl-micro-batch", type=int, default=4, help="rollouts of one pass of trl; 4 is its fastest")
    parser.add_argument("--tool-seconds", type=float, default=0.05)
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both")
    parser.add_argument(
        "--model-dir", type=Path, default=Path("build/benchmarks/rollouts"), help="keeps the checkpoint"
    )
    parser.add_argument("--quick", action="store_true", help="a toy size: does it run?")
    parser.add_argument("--json", action="store_true", help="all results as the last line")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse()
    results = measure(options)
    for name in ("step_vs_trl", "rollout_vs_trl", "update_vs_trl"):
        print(f"{name:28}{results[name]:.2f}")
    for system, parts in results["seconds"].items():
        print(f"{system:10}" + "  ".join(f"{name} {value:.2f}" for name, value in parts.items()))
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
