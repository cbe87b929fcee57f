"""Runs in processes that may die, forked from one nursery; tools and grader are on one server that outlives them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.engine_fixtures import chance_policy, make_tokenizer
from tests.toy_run import SERVER, toy_run

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """How a child ended."""

    status: int
    """Its exit status; minus the signal's number where one killed it."""
    stopped_by: str | None
    points: list[str] = field(repr=False)
    """Names of the points that it passed, where it was not to be killed at one of them."""
    errors: str = field(repr=False)


class Nursery:
    """Sends jobs to `tests.faults.nursery`."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], url: str) -> None:
        self.folder, self._process, self._url = folder, process, url
        self.baseline = folder / "baseline"
        tokenizer = make_tokenizer()
        chance_policy(tokenizer).save_pretrained(self.baseline)
        tokenizer.save_pretrained(self.baseline)

    def config(self, name: str, **changes: dict[str, Any]) -> Path:
        """A toy config of bit-equal rollouts, which takes about a second."""
        folder = self.folder / name
        folder.mkdir()
        headers = {"Authorization": "Bearer ${TOY_TOKEN}"}
        sections: dict[str, dict[str, Any]] = {
            "inference": {"deterministic": True, "temperature": 1.0},
            "tools": {
                "serve": [],
                "endpoints": [{"name": "look", "server_url": f"{self._url}/look", "headers": headers}],
            },
            "grading": {"url": f"{self._url}/grade"},
            "policy": {"lora": None},
            "ppo": {"steps": 4, "tasks_per_step": 3, "samples_per_task": 2},
            "evaluation": {"samples_per_item": 1, "run_test": False, "validation_items": 3},
            "checkpoint": {"every_steps": 2},
        }
        merged = {key: {**sections.get(key, {}), **changes.get(key, {})} for key in sections.keys() | changes.keys()}
        toy_run(folder, self.baseline, **merged)
        return folder / "toy.yaml"

    def run(self, config: Path, run_dir: Path, **options: Any) -> Outcome:
        """A run to its end, or to where `kill_at` or `kill_before_step` kill it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        job = {"config": str(config), "run_dir": str(run_dir), **options}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Outcome(**json.loads(self._process.stdout.readline()))


@contextmanager
def nursery(folder: Path) -> Iterator[Nursery]:
    """A nursery and its server, in `folder`."""
    paths = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
    environment = {**os.environ, "TOY_TOKEN": "t", "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "env": environment, "cwd": ROOT}
    server = subprocess.Popen([sys.executable, str(SERVER), "normal"], **pipes)
    command = [sys.executable, "-m", "tests.faults.nursery", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, **pipes)
    try:
        assert server.stdout is not None
        yield Nursery(folder, process, server.stdout.readline().split()[-1])
    finally:
        for each in (process, server):
            each.kill()
            each.wait()
