from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

SERVER = Path(__file__).parents[1] / "toy_server.py"


@pytest.fixture
def toy(tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the config and the data of a run that takes seconds: toy.yaml."""
    for split in ("train", "validation"):
        rows = [{"id": f"{split}-{n}", "messages": [{"role": "user", "content": f"{split} {n}?"}]} for n in range(3)]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    headers = {"Authorization": "Bearer ${TOY_TOKEN}"}
    sections: dict[str, Any] = {
        "workflow": {"target": "toy", "baseline": str(baseline)},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "policy": {"device": "cpu", "threads": 1, "value_hidden_size": 16},
        "inference": {"max_batch": 8, "deterministic": True},
        "tools": {
            "serve": [{"command": ["{python}", str(SERVER), "normal"], "env": {"TOY_TOKEN": "${random}"}}],
            "endpoints": [{"name": "look", "server_url": "{serve}/look", "headers": headers, "retries": 0}],
        },
        "grading": {"name": "toy", "url": "{serve}/grade", "headers": headers, "retries": 0},
        "ppo": {
            "steps": 2, "tasks_per_step": 3, "samples_per_task": 8, "minibatches": 1, "critic_warmup_steps": 1,
            "value_learning_rate": 1e-2, "guards": {"max_kl_per_token": 100.0},
        },
        "evaluation": {"every_steps": 1, "samples_per_item": 2},
        "rollout": {"max_tool_calls": 2, "max_turn_tokens": 12, "max_context_tokens": 350},
    }  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("toy.yaml").write_text(yaml.safe_dump(sections))
    return tmp_path
