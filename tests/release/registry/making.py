"""A workflow small enough for a bundle in a test: weights of 64 bytes, six tasks, one Python tool, one grader."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig
from agentrl.evaluation.suites import freeze_suite
from agentrl.types import Task


def weights(seed: int = 0) -> bytes:
    """A safetensors file with one tensor of 16 floats."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [16], "data_offsets": [0, 64]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes([seed % 256]) * 64


def write_policy(folder: Path, seed: int = 0, *, licence: str = "") -> Path:
    """A folder of weights that looks like Hugging Face's."""
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(weights(seed))
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3", "seed": seed}))
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    if licence:
        (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\nA card of its own.\n")
    return folder


def rows(split: str, count: int, text: str) -> str:
    messages = [{"role": "system", "content": "Be brief."}]
    return "".join(
        json.dumps({"id": f"{split}-{n}", "messages": [*messages, {"role": "user", "content": f"{split} {n}: {text}"}]})
        + "\n"
        for n in range(count)
    )


def make_config(folder: Path, *, text: str = "What is 1 + 1?", **sections: Any) -> RunConfig:
    """Of a workflow whose data, baseline and grader are in `folder`."""
    data = folder / "data"
    if not data.is_dir():
        data.mkdir(parents=True)
        for split, count in (("train", 4), ("validation", 2)):
            (data / f"{split}.jsonl").write_text(rows(split, count, text))
    if not (folder / "baseline").is_dir():
        write_policy(folder / "baseline", licence="apache-2.0")
    written = {
        "workflow": {"target": "support", "baseline": str(folder / "baseline")},
        "data": {"train": str(data / "train.jsonl"), "validation": str(data / "validation.jsonl")},
        "tools": {"endpoints": [{"name": "refund", "server_url": "http://127.0.0.1:9/refund"}]},
        "grading": {
            "name": "exact",
            "type": "string_check",
            "operation": "eq",
            "input": "{{ sample.output_text }}",
            "reference": "2",
        },
        "release": {"gates": [], "folder": str(folder / "releases")},
    }
    return RunConfig.model_validate({**written, **sections})


def make_suite(folder: Path, name: str = "injection", count: int = 3) -> Path:
    """A frozen suite."""
    tasks = [Task(f"{name}-{n}", ({"role": "user", "content": f"{name} {n}"},)) for n in range(count)]
    freeze_suite(folder / f"{name}.json", tasks, name=name, split="test", source="tests", version="1")
    return folder / f"{name}.json"
