"""Runs that look trained, made in milliseconds, and one that trains while it is looked at."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from agentrl.config import PPOConfig
from agentrl.runs.lock import RunLock

STARTED = "2026-11-21T16:00:00+00:00"
NASTY = "<script>window.owned=1</script><img src=x onerror=window.owned=1>'\"&\x1b[31m\x07\u202e=1+1"


def write_run(
    path: Path,
    steps: int = 6,
    *,
    planned: int = 6,
    learning_rate: float = 1e-4,
    extra: Mapping[str, float] | None = None,
    config: Mapping[str, Any] | None = None,
    is_finished: bool = True,
    started_at: str = STARTED,
) -> Path:
    """A run after so many steps, validated every second one; `extra` is added to each row."""
    path.mkdir(parents=True)
    for folder in ("rollouts", "evaluations"):
        (path / folder).mkdir()
    ppo = PPOConfig(steps=planned, learning_rate=learning_rate).model_dump(mode="json")
    sections = {"name": path.name, "seed": 7, "ppo": ppo, "grading": {"max_score": 1.0, "pass_threshold": 0.75}}
    (path / "config.yaml").write_text(yaml.safe_dump({**sections, **(config or {})}))
    (path / "manifest.json").write_text(json.dumps({"started_at": started_at, "git_commit": "0123456789abcdef"}))
    write_evaluation(path, "validation-baseline", 0.25)
    for step in range(1, steps + 1):
        append(path, row(step, **(extra or {})))
    if is_finished:
        finish(path, steps)
    return path


def row(step: int, **more: float) -> dict[str, float]:
    """Of metrics.jsonl."""
    found = {
        "step": step,
        "reward_train": 0.3 + 0.05 * step,
        "score_train": 0.35 + 0.05 * step,
        "score_train_std": 0.4,
        "kl_per_token": 0.01 * step,
        "entropy": 1.0 / step,
        "grad_norm": 1.0 + 0.1 * math.sin(step),
        "learning_rate": 1e-4,
        "tool_calls": 3.0 - 0.1 * step,
        "tool_calls_search": 2.0 - 0.1 * step,
        "tool_calls_cat": 1.0,
        "output_tokens": 80.0 - step,
        "latency_seconds": 4.0,
        "infra_failed_fraction": 0.01,
        "infra_failed_tool": 0.01,
        "mismatch_abs_prob_mean": 1e-8,
        "seconds_rollout": 9.0,
        "seconds_update": 6.0,
    }
    if step % 2 == 0:
        score = 0.3 + 0.05 * step
        found |= {
            "reward_validation": score,
            "reward_validation_low": score - 0.1,
            "reward_validation_high": score + 0.1,
            "seconds_evaluation": 5.0,
        }
    return {**found, **more}


def append(path: Path, record: Mapping[str, Any]) -> None:
    """A line of metrics.jsonl."""
    with (path / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def write_evaluation(path: Path, name: str, reward: float) -> None:
    """evaluations/NAME.json, of two items."""
    means = {"success_rate": reward, "tool_calls": 2.0, "output_tokens": 50.0, "latency_seconds": 3.0}
    items = [{"task_id": f"q{n}", "samples": 1, "reward": reward, **means} for n in range(2)]
    record = {
        "name": name, "items": items, "samples_per_item": 1, "ungraded": 0,
        "reward_interval": [reward - 0.1, reward + 0.1],
    }  # fmt: skip
    (path / "evaluations" / f"{name}.json").write_text(json.dumps(record))


def finish(path: Path, steps: int, **more: Any) -> None:
    """summary.json."""
    figures = {"reward": 0.6, "tool_calls": 2.4, "n_items": 2, "samples_per_item": 1}
    summary = {
        "name": path.name, "steps": steps, "best_step": steps, "stopped_by": None, "wall_seconds": 90.0,
        "baseline": {**figures, "reward": 0.25}, "final": figures, "best": figures,
    }  # fmt: skip
    (path / "summary.json").write_text(json.dumps({**summary, **more}))


class Training:
    """A run that is worked in: its lock is held until `end`."""

    def __init__(self, path: Path, planned: int = 6) -> None:
        self.path = write_run(path, 0, planned=planned, is_finished=False)
        self._lock = RunLock.acquire(path)
        self.steps = 0

    def step(self, **more: float) -> None:
        self.steps += 1
        append(self.path, row(self.steps, **more))

    def end(self) -> None:
        finish(self.path, self.steps)
        self._lock.release()
