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
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from agentrl.config import RunConfig, load_config, training_sections
from agentrl.data.tasks import Splits, load_tasks
from agentrl.evaluation.evaluate import evaluate
from agentrl.policy.checkpoint import load_weights
from agentrl.policy.policy import load_policy
from agentrl.progress import SilentReporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools.serve import serving
from agentrl.training import train

from .curves import Point, plot, seconds_to
from .finqa_trl import Peer, Saved
from .rollouts.__main__ import machine


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
