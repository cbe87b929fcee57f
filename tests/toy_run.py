"""A run of a policy that says yes, says no, looks, or stops, by chance: small enough to train in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from agentrl.config import RunConfig, load_config

SERVER = Path(__file__).with_name("toy_server.py")


def toy_run(folder: Path, baseline: Path, **changes: dict[str, Any]) -> RunConfig:
    """The config, with data in `folder`; `changes` are merged into its sections."""
    for split in ("train", "validation", "test"):
        names = [f"{split}-{n}" for n in range(8)]
        rows = [{"id": name, "messages": [{"role": "user", "content": f"{name}?"}]} for name in names]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    headers = {"Authorization": "Bearer ${TOY_TOKEN}"}
    sections: dict[str, Any] = {
        "name": "toy",
        "workflow": {"target": "toy", "baseline": str(baseline)},
        "data": {split: str(folder / f"{split}.jsonl") for split in ("train", "validation", "test")},
        "policy": {"device": "cpu", "threads": 1, "value_hidden_size": 16, "lora": {"rank": 8, "alpha": 16}},
        "inference": {"temperature": 0.9},
        "tools": {
            "serve": [{"command": ["{python}", str(SERVER), "normal"], "env": {"TOY_TOKEN": "${random}"}}],
            "endpoints": [{"name": "look", "server_url": "{serve}/look", "headers": headers}],
        },
        "grading": {"name": "toy", "url": "{serve}/grade", "headers": headers},
        "rollout": {"max_tool_calls": 2, "max_turn_tokens": 12, "max_context_tokens": 350},
        "ppo": {
            "steps": 4, "tasks_per_step": 8, "samples_per_task": 4, "learning_rate": 1.0e-2, "minibatches": 2,
            "kl": {"coef": 0.01}, "guards": {"max_kl_per_token": 100.0},
        },
        "evaluation": {"every_steps": 2, "samples_per_item": 2},
        "checkpoint": {"every_steps": 1, "keep_last": 2},
    }  # fmt: skip
    for name, change in changes.items():
        sections[name] = {**sections[name], **change}
    (folder / "toy.yaml").write_text(yaml.safe_dump(sections))
    return load_config(folder / "toy.yaml")


def metrics(run_dir: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
