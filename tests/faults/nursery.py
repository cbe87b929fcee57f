"""A process that has loaded torch and forks a child for every run: starting one takes milliseconds, not seconds.

`python -m tests.faults.nursery` reads one JSON job a line: {config, run_dir, resume, kill_at, kill_before_step}. The
child trains as `agentrl train` does, counts the *points* that it passes, and kills itself with SIGKILL at the
`kill_at`-th. One JSON line comes back for each: {signal, stopped_by, points: [name, ...]}.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentrl.config import load_config
from agentrl.grading.run_grader import RunGrader
from agentrl.policy import checkpoint
from agentrl.ppo.trainer import PPOTrainer
from agentrl.runs.directory import RunDirectory
from agentrl.runs.files import METRICS
from agentrl.training import train
from agentrl.training.loop import Training


class Points:
    """The places at which a run can be killed, in the order in which it passes them."""

    def __init__(self, log: Path, kill_at: int | None) -> None:
        self.log = log.open("w")
        self.kill_at = kill_at
        self.passed = 0

    def __call__(self, name: str) -> None:
        self.passed += 1
        if self.kill_at is None:
            print(name, file=self.log, flush=True)
        elif self.passed == self.kill_at:
            kill()

    def around(self, owner: Any, attribute: str, name: str) -> None:
        """A point before each call and one after it."""
        plain = getattr(owner, attribute)

        def watched(*arguments: Any, **options: Any) -> Any:
            self(f"before {name}")
            result = plain(*arguments, **options)
            self(f"after {name}")
            return result

        setattr(owner, attribute, watched)

    def install(self) -> None:
        plain_grade = RunGrader.grade

        async def grade(grader: RunGrader, rollout: Any) -> Any:
            self("in rollouts")
            return await plain_grade(grader, rollout)

        RunGrader.grade = grade  # type: ignore[method-assign]
        self.around(PPOTrainer, "update", "update")
        self.around(PPOTrainer, "warm_up_critic", "warm-up")
        self.around(torch.autograd, "backward", "backward")
        self.around(torch.optim.AdamW, "step", "optimiser step")
        self.around(checkpoint, "save_file", "file of a checkpoint")
        self.around(os, "replace", "rename")
        self.around(os, "symlink", "pointer")
        self.around(os, "fsync", "fsync")
        self.around(shutil, "rmtree", "deletion")
        append = RunDirectory.append_metrics

        def append_in_two_pieces(run: RunDirectory, row: Any) -> None:
            if self.passed + 1 == self.kill_at:
                with (run.path / METRICS).open("a") as file:
                    file.write(json.dumps(row)[:40])
            self("in a line of metrics")
            append(run, row)

        RunDirectory.append_metrics = append_in_two_pieces  # type: ignore[method-assign]


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_before(step: int) -> None:
    plain = Training.take_step

    async def take_step(training: Training) -> None:
        if training.step + 1 == step:
            kill()
        await plain(training)

    Training.take_step = take_step  # type: ignore[method-assign]


def draw_in_every_update() -> None:
    """As a Python tool or a layer may do: a run that goes on has to draw the numbers that were next."""
    plain = PPOTrainer.update

    def update(*arguments: Any, **options: Any) -> Any:
        random.random()
        np.random.rand()
        torch.rand(1)
        return plain(*arguments, **options)

    PPOTrainer.update = update  # type: ignore[method-assign]


def run(job: dict[str, Any], points_log: Path, result: Path) -> None:
    """The child's life."""
    points = Points(points_log, job.get("kill_at"))
    draw_in_every_update()
    points.install()
    if job.get("kill_before_step"):
        kill_before(job["kill_before_step"])
    outcome = train(load_config(Path(job["config"])), run_dir=Path(job["run_dir"]), resume=job.get("resume", False))
    result.write_text(json.dumps({"stopped_by": outcome.stopped_by}))


def main() -> None:
    scratch = Path(sys.argv[1])
    torch.set_num_threads(1)
    for line in sys.stdin:
        job: dict[str, Any] = json.loads(line)
        points_log, result, errors = (scratch / name for name in ("points", "result", "errors"))
        for path in (points_log, result, errors):
            path.unlink(missing_ok=True)
        child = os.fork()
        if not child:
            os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
            try:
                run(job, points_log, result)
                os._exit(0)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        answer = json.loads(result.read_text()) if result.exists() else {"stopped_by": ""}
        answer |= {"status": status, "points": points_log.read_text().splitlines(), "errors": errors.read_text()}
        print(json.dumps(answer), flush=True)


Job = Callable[..., dict[str, Any]]

if __name__ == "__main__":
    main()
