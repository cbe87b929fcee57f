"""What a run does when its disk, its directory, its clock or its operator fails it."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.config import RunConfig
from agentrl.errors import CheckpointError
from agentrl.policy import checkpoint
from agentrl.policy.folders import damage
from agentrl.ppo.trainer import PPOTrainer
from agentrl.progress import SilentReporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.runs import directory, read_metrics
from agentrl.training import train
from tests.same_runs import assert_same_run
from tests.toy_run import toy_run

STEPS = 3


class Listener(SilentReporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def told(self, part: str) -> bool:
        return any(part in message for message in self.messages)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config(tmp_path: Path, baseline: Path) -> RunConfig:
    return toy_run(
        tmp_path,
        baseline,
        inference={"deterministic": True, "temperature": 1.0},
        ppo={"steps": STEPS, "tasks_per_step": 2, "samples_per_task": 2, "critic_warmup_steps": 1},
        evaluation={"validation_items": 2, "samples_per_item": 1, "run_test": False},
    )


def disk_full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def when(condition: Callable[..., bool], then: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments, **options: (then if condition(*arguments) else plain)(*arguments, **options)


@pytest.mark.parametrize("how", ["truncated", "flipped", "missing"])
def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path: Path, config: RunConfig, how: str) -> None:
    run, whole, listener = tmp_path / "run", tmp_path / "whole", Listener()
    train(config, run_dir=run)
    shutil.copytree(run, whole, symlinks=True)
    newest = run / "checkpoints" / f"step-{STEPS:06d}"
    shard = newest / "policy" / "adapter_model.safetensors"
    content = shard.read_bytes()
    if how == "missing":
        shard.unlink()
    else:
        shard.write_bytes(content[:-100] if how == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    assert train(config, run_dir=run, resume=True, reporter=listener).stopped_by is None
    (complaint,) = (message for message in listener.messages if "damaged" in message)
    assert f"{newest} is damaged: policy/adapter_model.safetensors" in complaint
    assert complaint.endswith(f"going back to {newest.with_name(f'step-{STEPS - 1:06d}')}")
    assert damage(newest) == ""
    assert_same_run(run, whole)


def test_a_disk_that_fills_up_in_a_checkpoint_stops_the_run_and_costs_no_finished_one(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole, listener = tmp_path / "run", tmp_path / "whole", Listener()
    train(config, run_dir=whole)
    is_second = when(lambda _, path, *__: "step-000002" in str(path), disk_full, checkpoint.save_file)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", is_second)
        result = train(config, run_dir=run, reporter=listener)
    assert (result.stopped_by, result.summary["steps"]) == ("disk", 2)
    assert listener.told(f"stopped by disk: {run}/checkpoints/step-000002 cannot be written: ")
    assert listener.told("No space left on device")
    left = {path.name for path in (run / "checkpoints").iterdir() if not path.name.startswith("policy-")}
    assert left == {"step-000000", "step-000001", "start.json", "best"}
    assert damage(run / "checkpoints" / "step-000001") == ""
    assert train(config, run_dir=run, resume=True).stopped_by is None
    assert_same_run(run, whole)


def test_traces_that_cannot_be_written_stop_nothing(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = Listener()
    is_trace = when(lambda path, _: path.name.startswith("train-000002"), disk_full, directory.write_packed_lines)
    monkeypatch.setattr(directory, "write_packed_lines", is_trace)
    result = train(config, run_dir=tmp_path / "run", reporter=listener)
    assert (result.stopped_by, result.summary["steps"]) == (None, STEPS)
    assert result.summary["lost_rollouts"] == ["train-000002"]
    assert listener.told("train-000002.jsonl.gz cannot be written: No space left on device")
    assert (tmp_path / "run" / "rollouts" / "train-000003.jsonl.gz").exists()


def test_a_metrics_line_that_cannot_be_written_stops_the_run(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, plain = tmp_path / "run", directory.RunDirectory.append_metrics

    def full(each: directory.RunDirectory, row: dict[str, Any]) -> None:
        monkeypatch.setattr(os, "fsync", disk_full)
        plain(each, row)

    monkeypatch.setattr(directory.RunDirectory, "append_metrics", full)
    result = train(config, run_dir=run)
    assert (result.stopped_by, result.summary["steps"]) == ("disk", 1)
    monkeypatch.undo()
    assert train(config, run_dir=run, resume=True).summary["steps"] == STEPS
    assert [row["step"] for row in read_metrics(run)] == list(range(1, STEPS + 1))


def test_a_directory_that_vanishes_stops_the_run_before_the_next_step_is_paid_for(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, seeds, plain, listener = tmp_path / "run", list[str](), RolloutEngine.run, Listener()

    async def rolled_out(engine: RolloutEngine, *arguments: Any, **options: Any) -> Any:
        seeds.append(options["seed"])
        return await plain(engine, *arguments, **options)

    update = PPOTrainer.update

    def vanishing(trainer: PPOTrainer, trajectories: Any) -> Any:
        metrics = update(trainer, trajectories)
        shutil.rmtree(run)
        return metrics

    monkeypatch.setattr(RolloutEngine, "run", rolled_out)
    monkeypatch.setattr(PPOTrainer, "update", vanishing)
    result = train(config, run_dir=run, reporter=listener)
    assert (result.stopped_by, result.summary["steps"]) == ("disk", 1)
    assert [seed for seed in seeds if "/train/" in seed] == ["17/train/0", "17/train/1"]
    assert not any(run.glob("*.json*"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_directory_that_cannot_be_written_is_found_before_anything_is_loaded(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch, resume: bool
) -> None:
    run = tmp_path / "run"
    if resume:
        train(config, run_dir=run)
    monkeypatch.setattr("agentrl.training.setup.load_policy", disk_full)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who may run this test, may write everywhere
    with pytest.raises(CheckpointError, match=f"^{run} cannot be written: no permission to write in "):
        train(config, run_dir=run, resume=resume)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_an_update_waits_for_its_end_and_saves_it(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    run, whole, backward = tmp_path / "run", tmp_path / "whole", torch.autograd.backward
    train(config, run_dir=whole)
    seen: list[int] = []

    def signalled(*arguments: Any, **options: Any) -> None:
        seen.append(1)
        if len(seen) == 3:  # the critic's warm-up does not come here
            os.kill(os.getpid(), number)
        backward(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(torch.autograd, "backward", signalled)
        result = train(config, run_dir=run)
    steps = result.summary["steps"]
    assert (result.stopped_by, 1 <= steps < STEPS) == ("interrupted", True)
    assert damage(run / "checkpoints" / f"step-{steps:06d}") == ""
    assert len(read_metrics(run)) == steps
    assert train(config, run_dir=run, resume=True).stopped_by is None
    assert_same_run(run, whole)


def test_a_clock_that_jumps_changes_no_duration_and_no_result(
    tmp_path: Path, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run, now, calls = tmp_path / "whole", tmp_path / "run", time.time, list[int]()
    train(config, run_dir=whole)

    def jumping() -> float:
        calls.append(1)
        return now() + (3600 if len(calls) % 2 else -3600)

    started = time.monotonic()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", jumping)
        result = train(config, run_dir=run)
    elapsed = time.monotonic() - started
    assert_same_run(run, whole)
    assert 0 < result.summary["wall_seconds"] <= elapsed
    for row in read_metrics(run):
        durations = [value for key, value in row.items() if key.startswith("seconds") and value is not None]
        assert all(0 <= value <= elapsed for value in durations), row
