"""Learning per wall-clock minute on FinQA: `agentrl train` against trl's GRPOTrainer with the same tools over HTTP.

    python -m benchmarks.learning [--steps 20] [--trl 128:2e-4 32:2e-4] [--trl-seconds 600] [--out DIR]

Both start from the same baseline, are paid the same reward (the grader's score less the config's token penalty) and
leave their weights behind on the way. Afterwards our evaluation measures every one of these on the same validation
items, so no clock counts it. The clock of agentrl begins with the critic's warm-up and counts checkpoints; trl's begins
with its first step. Of several settings of trl (`rollouts a batch:learning rate`) the one that is first counts.

Writes learning.json and learning.svg; the last line is the ratio of the times to `--gain` more validation reward.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from agentrl.config import RunConfig, load_config, training_sections
from agentrl.data.tasks import Splits, load_tasks
from agentrl.evaluation.evaluate import evaluate
from agentrl.policy.checkpoint import load_weights
from agentrl.policy.policy import load_policy
from agentrl.progress import SilentReporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools.serve import serving
from agentrl.training import train
from agentrl.types import Task

from .curves import Point, plot, seconds_to
from .rollouts.__main__ import machine
from .rollouts.peers import grpo_trainer


@dataclass(frozen=True)
class Saved:
    """Weights on the way."""

    folder: Path
    rollouts: int
    seconds: float


class Clock(SilentReporter):
    """The wall time of a run's training, evaluations left out."""

    def __init__(self) -> None:
        self._started = 0.0
        self.seconds: list[float] = []

    def phase(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)
        if not self._started and text in ("warming up the critic", "training"):
            self._started = time.perf_counter()

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None:
        self.seconds.append(time.perf_counter() - self._started)
        print(f"agentrl {step}/{total} {self.seconds[-1]:.0f} s reward {metrics['reward_train']:.3f}", file=sys.stderr)


def train_agentrl(config: RunConfig, folder: Path, every: int) -> list[Saved]:
    """`agentrl train`, weights saved every so many steps."""
    clock = Clock()
    result = train(config, run_dir=folder, reporter=clock)
    print(f"agentrl took {result.summary['steps']} steps; stopped by {result.stopped_by}", file=sys.stderr)
    of_a_step = config.ppo.tasks_per_step * config.ppo.samples_per_task
    steps = range(every, len(clock.seconds) + 1, every)
    return [
        Saved(folder / "checkpoints" / f"step-{step:06d}" / "policy", step * of_a_step, clock.seconds[step - 1])
        for step in steps
    ]


class Peer:
    """trl's GRPOTrainer on the task.

    Args:
        setting: "rollouts a batch:learning rate".
        server: base URL of tools and grader.
    """

    def __init__(
        self, config: RunConfig, splits: Splits, server: str, setting: str, options: argparse.Namespace
    ) -> None:
        rollouts, rate = setting.split(":")
        self.setting, self.rollouts = setting, int(rollouts)
        self._http = httpx.Client(base_url=server, headers={"Authorization": f"Bearer {os.environ['FINQA_TOKEN']}"})
        self._price = config.ppo.token_penalty.per_1000_tokens / 1000
        baseline = config.workflow.baseline
        model = AutoModelForCausalLM.from_pretrained(baseline, dtype=torch.float32, attn_implementation="sdpa")
        self._tokenizer = AutoTokenizer.from_pretrained(baseline)
        minibatch = min(self.rollouts, self.rollouts_a_step(config))
        self.trainer = grpo_trainer(
            model,
            self._tokenizer,
            rows=_rows(splits.train, config.seed),
            tools=self._tools(),
            reward=self._reward,
            learning_rate=float(rate),
            lr_scheduler_type="constant",
            beta=config.ppo.kl.coef,
            per_device_train_batch_size=options.trl_micro_batch,
            gradient_accumulation_steps=minibatch // options.trl_micro_batch,
            steps_per_generation=self.rollouts // options.trl_micro_batch,
            num_generations=config.ppo.samples_per_task,
            max_completion_length=config.rollout.max_context_tokens - 128,
            generation_kwargs={"max_new_tokens": config.rollout.max_turn_tokens},  # of a turn: else it is the episode's
            max_tool_calling_iterations=config.rollout.max_tool_calls,
            num_train_epochs=100,
            seed=config.seed,
        )

    @staticmethod
    def rollouts_a_step(config: RunConfig) -> int:
        """Rollouts of one optimiser step of ours."""
        return config.ppo.tasks_per_step * config.ppo.samples_per_task // config.ppo.minibatches

    def train(self, folder: Path, seconds: float) -> list[Saved]:
        """Until `seconds` have passed; weights are saved after every batch of rollouts."""
        stopwatch = _Stopwatch(self.trainer, folder, self.rollouts, seconds)
        self.trainer.add_callback(stopwatch)
        self.trainer.train()
        return stopwatch.saved

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._http.post(path, json=body).raise_for_status().json()

    def _call(self, name: str, arguments: dict[str, str]) -> str:
        call = {"type": "function_call", "call_id": "0", "id": "0", "name": name, "arguments": json.dumps(arguments)}
        return str(self._post(f"/tools/{name}", call)["output"])

    def _tools(self) -> list[Callable[..., str]]:
        def search(query: str) -> str:
            """Find pages.

            Args:
                query: words.
            """
            return self._call("search", {"query": query})

        def list(path: str) -> str:  # the policy knows it by this name
            """List a folder.

            Args:
                path: of the folder.
            """
            return self._call("list", {"path": path})

        def cat(path: str) -> str:
            """Read a page.

            Args:
                path: of the page.
            """
            return self._call("cat", {"path": path})

        def calculate(expression: str) -> str:
            """Calculate.

            Args:
                expression: numbers and operators.
            """
            return self._call("calculate", {"expression": expression})

        return [search, list, cat, calculate]

    def _reward(self, completions: Sequence[Any], item: Sequence[str], **_: Any) -> list[float]:
        """The grader's score less the price of what the policy said."""
        rewards = []
        for messages, grades in zip(completions, map(json.loads, item), strict=True):
            said = [message for message in messages if message["role"] == "assistant"]
            answer = messages[-1].get("content") if messages and messages[-1]["role"] == "assistant" else ""
            sample = {"output_text": answer or ""}
            score = self._post("/grade", {"sample": sample, "item": grades, "trace_id": "trl"})["score"]
            texts = [self._tokenizer.apply_chat_template([message], tokenize=False) for message in said]
            rewards.append(score - self._price * sum(len(self._tokenizer(text).input_ids) for text in texts))
        return rewards


def _rows(tasks: Sequence[Task], seed: int) -> list[dict[str, Any]]:
    rows = [{"prompt": [*task.messages], "item": json.dumps(task.item)} for task in tasks]
    random.Random(seed).shuffle(rows)
    return rows


class _Stopwatch(TrainerCallback):  # type: ignore[misc]
    """Saves the weights after every batch of rollouts, and ends the training in time."""

    def __init__(self, trainer: Any, folder: Path, rollouts: int, limit: float) -> None:
        self._trainer, self._folder, self._rollouts, self._limit = trainer, folder, rollouts, limit
        arguments = trainer.args
        self._steps_of_a_batch = arguments.steps_per_generation // arguments.gradient_accumulation_steps
        self._started = 0.0
        self.saved: list[Saved] = []

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args, state, control
        self._started = self._started or time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        del args
        batches, rest = divmod(state.global_step, self._steps_of_a_batch)
        seconds = time.perf_counter() - self._started
        if not rest:
            folder = self._folder / f"batch-{batches:06d}"
            self._trainer.model.save_pretrained(folder)
            self.saved.append(Saved(folder, batches * self._rollouts, seconds))
            print(f"trl batch {batches} {seconds:.0f} s", file=sys.stderr, flush=True)
            control.should_training_stop = seconds > self._limit


def measured(config: RunConfig, splits: Splits, url: str, saved: Sequence[Saved], samples: int) -> list[Point]:
    """Each of the saved policies on validation, with the same seeds."""
    policy = load_policy(config)

    async def measure_all() -> list[Point]:
        engine = RolloutEngine.from_config(config, policy, url)
        points = []
        for each in saved:
            load_weights(each.folder, policy)
            policy.version += 1
            await engine.sync(policy)
            report, _ = await evaluate(
                engine, splits.validation, samples_per_item=samples, pass_threshold=0.5, seed=config.seed
            )
            points.append(Point(each.rollouts, each.seconds, report.reward))
            print(f"{each.folder}: {points[-1]}", file=sys.stderr, flush=True)
        await engine.aclose()
        return points

    return asyncio.run(measure_all())


def measure(options: argparse.Namespace) -> dict[str, Any]:
    every = options.every
    overrides = [
        f"policy.threads={options.threads}", f"ppo.steps={options.steps}", f"checkpoint.every_steps={every}",
        f"checkpoint.keep_last={options.steps}", f"evaluation.every_steps={options.steps}", "evaluation.run_test=false",
        "evaluation.samples_per_item=1", "evaluation.validation_items=2", *options.set,
    ]  # fmt: skip
    config = load_config(options.config, overrides)
    sections = training_sections(config)
    splits = load_tasks(sections.data)
    shutil.rmtree(options.out, ignore_errors=True)
    options.out.mkdir(parents=True)
    baseline = Saved(Path(config.workflow.baseline), 0, 0.0)
    started = machine(options.threads)
    ours = train_agentrl(config, options.out / "agentrl", every)
    curves: dict[str, list[Point]] = {}
    times: dict[str, float | None] = {}
    limits: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(sections.tools.serve, {"data.path": sections.data.path or ""}) as urls,
    ):
        curves["agentrl"] = measured(config, splits, urls[0], [baseline, *ours], options.samples)
        target = curves["agentrl"][0].reward + options.gain
        times["agentrl"] = seconds_to(curves["agentrl"], target)
        for setting in options.trl:
            torch.set_num_threads(options.threads)
            peer = Peer(config, splits, urls[0], setting, options)
            theirs = peer.train(Path(folder) / setting, options.trl_seconds)
            name = f"trl {setting}"
            curves[name] = measured(config, splits, urls[0], [baseline, *theirs], options.samples)
            times[name], limits[name] = seconds_to(curves[name], target), theirs[-1].seconds
    mine = times["agentrl"]
    best = min(limits, key=lambda name: (times[name] is None, times[name] or -limits[name]))
    results = {
        "target_reward": target,
        "seconds_to_target": times,
        "ratio": (times[best] or limits[best]) / mine if mine else None,
        "ratio_is_lower_bound": times[best] is None,
        "curves": {name: [asdict(point) for point in curve] for name, curve in curves.items()},
        "settings": {"trl": options.trl, "trl_micro_batch": options.trl_micro_batch, "agentrl": overrides},
        "machine": started,
    }
    (options.out / "learning.json").write_text(json.dumps(results, indent=2) + "\n")
    (options.out / "learning.svg").write_text(plot(curves, target))
    return results


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=Path("configs/finqa.yaml"))
    parser.add_argument("--set", nargs="*", default=[], help="overrides of the config, key=value")
    parser.add_argument("--steps", type=int, default=20, help="of agentrl")
    parser.add_argument("--every", type=int, default=1, help="steps between two policies that are measured")
    parser.add_argument("--samples", type=int, default=1, help="rollouts of a validation item")
    parser.add_argument("--gain", type=float, default=0.1, help="validation reward above the baseline's")
    parser.add_argument("--trl", nargs="+", default=["128:2e-4"], help="settings, rollouts a batch:learning rate")
    parser.add_argument("--trl-micro-batch", type=int, default=4)
    parser.add_argument("--trl-seconds", type=float, default=600, help="of training, for each setting")
    parser.add_argument("--threads", type=int, default=1, help="of torch, for both")
    parser.add_argument("--out", type=Path, default=Path("build/benchmarks/learning"), help="is emptied")
    return parser.parse_args(arguments)


def main() -> None:
    results = measure(parse())
    sign = ">=" if results["ratio_is_lower_bound"] else ""
    print(f"seconds to {results['target_reward']:.3f}: {results['seconds_to_target']}")
    print("ratio", sign, results["ratio"])


if __name__ == "__main__":
    main()
