"""Whether two runs are the same run: what must be equal bit for bit, and the few things that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from agentrl.runs import read_metrics, read_rollouts

CLOCKED_METRICS = ("seconds", "latency", "peak_", "memory_")
"""Beginnings of the metrics that a clock or the machine decides; all others are equal."""
CLOCKED_TRACE_KEYS = frozenset({"id", "call_id", "seconds"})
"""Keys of a rollout's trace that differ from run to run: its id, which is made unique, ids made from it, and times."""


def metrics_of(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if not k.startswith(CLOCKED_METRICS)} for row in read_metrics(run)]


def traces_of(run: Path, name: str) -> list[Any]:
    return [_without_clock(trace) for trace in read_rollouts(run, name)]


def _without_clock(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_clock(item) for key, item in value.items() if key not in CLOCKED_TRACE_KEYS}
    return [_without_clock(item) for item in value] if isinstance(value, list) else value


def state_of(run: Path, step: int) -> dict[str, Any]:
    state: dict[str, Any] = json.loads((run / "checkpoints" / f"step-{step:06d}" / "state.json").read_text())
    state.pop("wall_seconds")
    parts = state["parts"]
    parts["history"] = metrics_of(run)[:step]
    parts["measurement"]["baseline"] = None  # its latencies differ; its rollouts are compared
    return state


def tensors_of(run: Path, step: int) -> dict[str, torch.Tensor]:
    """Policy, critic and optimiser of a checkpoint."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    return {
        f"{path.relative_to(folder)}/{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


def assert_same_checkpoint(one: Path, other: Path, step: int) -> None:
    found, expected = tensors_of(one, step), tensors_of(other, step)
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []
    assert state_of(one, step) == state_of(other, step)


def assert_same_run(one: Path, other: Path) -> None:
    """Metrics, sampled rollouts and the last checkpoint: policy, critic, optimiser, random generators, parts."""
    assert metrics_of(one) == metrics_of(other)
    names, others = (sorted(path.name for path in (run / "rollouts").iterdir()) for run in (one, other))
    assert names == others
    for name in names:
        name = name.removesuffix(".jsonl.gz")
        assert traces_of(one, name) == traces_of(other, name), name
    assert_same_checkpoint(one, other, len(read_metrics(other)))
    links = [(run / "checkpoints" / "best").readlink() for run in (one, other)]
    assert links[0] == links[1]
