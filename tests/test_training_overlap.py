"""Overlapped mode: which half begins when, with which weights, and how both end."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from agentrl.config import PPOConfig, RunConfig
from agentrl.inference.in_process import InProcessEngine
from agentrl.policy.policy import load_policy
from agentrl.ppo.trainer import PPOTrainer
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import Outage, OutageGuard
from agentrl.runs import read_metrics, read_rollouts
from agentrl.training import train
from agentrl.training.ahead import Ahead
from agentrl.types import Rollout, Trajectory
from tests.same_runs import assert_same_run, metrics_of, tensors_of
from tests.toy_run import toy_run

PATIENCE = 30.0  # seconds until an event that should come counts as missing
OVERLAPPED = {"overlap": True, "max_staleness": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def config(folder: Path, baseline: Path, **ppo: Any) -> RunConfig:
    folder.mkdir(exist_ok=True)
    small = {"steps": 3, "tasks_per_step": 4, "samples_per_task": 2, "critic_warmup_steps": 2}
    return toy_run(
        folder,
        baseline,
        ppo={**OVERLAPPED, **small, **ppo},
        inference={"temperature": 0.9, "deterministic": True},
        evaluation={"every_steps": 3, "samples_per_item": 1, "validation_items": 2, "run_test": False},
    )


class Halves:
    """What the two halves of a run do, in the order in which they do it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.order: list[str] = []
        self.staleness: list[set[int]] = []
        self.begun: dict[str, threading.Event] = {}
        run, update = RolloutEngine.run, PPOTrainer.update
        halves = self

        async def noted_run(engine: RolloutEngine, tasks: Any, *, seed: object = 0, **options: Any) -> list[Rollout]:
            step = str(seed).partition("/train/")[2]
            if step:
                halves.note(f"batch {step}")
            try:
                return await run(engine, tasks, seed=seed, **options)
            finally:
                if step:
                    halves.note(f"batch {step} ended")

        def noted_update(ppo: PPOTrainer, trajectories: Sequence[Trajectory]) -> dict[str, float]:
            step = ppo.policy.version + 1
            versions = {v for each in trajectories for v in each.policy_versions if v >= 0}
            halves.staleness.append({ppo.policy.version - version for version in versions})
            halves.note(f"update {step}")
            halves.during(ppo, step)
            metrics = update(ppo, trajectories)
            halves.note(f"update {step} ended")
            return metrics

        patch.setattr(RolloutEngine, "run", noted_run)
        patch.setattr(PPOTrainer, "update", noted_update)

    def note(self, what: str) -> None:
        self.order.append(what)
        self.event(what).set()

    def event(self, what: str) -> threading.Event:
        return self.begun.setdefault(what, threading.Event())

    def during(self, ppo: PPOTrainer, step: int) -> None:
        """What else happens in an update."""


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> Halves:
    return Halves(monkeypatch)


def test_the_next_batch_is_rolled_out_while_the_update_runs(
    tmp_path: Path, baseline: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update that waits for the whole next batch ends all the same."""

    def wait(_: PPOTrainer, step: int) -> None:
        assert step == 3 or halves.event(f"batch {step + 1} ended").wait(PATIENCE)

    monkeypatch.setattr(halves, "during", wait)
    result = train(config(tmp_path, baseline), run_dir=tmp_path / "run")
    assert result.stopped_by is None
    assert halves.staleness == [{0}, {1}, {1}]
    rows = read_metrics(tmp_path / "run")
    assert [row["seconds_overlapped"] > 0 for row in rows] == [True, True, False]
    assert [row["stale_trajectories"] for row in rows] == [0, 0, 0]


def test_the_engine_has_weights_of_its_own(tmp_path: Path, baseline: Path) -> None:
    """Else a rollout would be sampled from weights in the middle of an optimiser step."""
    for overlap in (True, False):
        settings = config(tmp_path, baseline, overlap=overlap)
        policy = load_policy(settings)
        engine = InProcessEngine.from_config(settings, policy)
        assert (engine._model.model is policy.model) is not overlap


def test_without_it_a_batch_waits_for_the_update_before(tmp_path: Path, baseline: Path, halves: Halves) -> None:
    train(config(tmp_path, baseline, overlap=False, max_staleness=0), run_dir=tmp_path / "run")
    steps = [halves.order.index(what) for n in (1, 2, 3) for what in (f"batch {n}", f"update {n}", f"update {n} ended")]
    assert steps == sorted(steps)
    assert halves.staleness == [{0}, {0}, {0}]


def test_at_staleness_0_it_is_the_synchronous_run(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights of the engine's own and an update in a thread change no bit, where no batch is begun early."""
    train(config(tmp_path / "one", baseline, overlap=False, max_staleness=0), run_dir=tmp_path / "synchronous")
    monkeypatch.setattr(Ahead, "start", lambda *_: None)
    train(config(tmp_path / "other", baseline), run_dir=tmp_path / "overlapped")
    rows = [metrics_of(tmp_path / name) for name in ("synchronous", "overlapped")]
    assert rows[0] == rows[1]
    tensors = [tensors_of(tmp_path / name, 3) for name in ("synchronous", "overlapped")]
    assert all(torch.equal(tensors[0][name], tensors[1][name]) for name in tensors[0] | tensors[1])


def test_where_nothing_is_learned_both_modes_sample_the_same(tmp_path: Path, baseline: Path) -> None:
    """Then old weights are new weights, and batches that overlap updates are those that would come after them."""
    still = {"learning_rate": 0.0, "value_learning_rate": 0.0}
    train(config(tmp_path / "one", baseline, overlap=False, max_staleness=0, **still), run_dir=tmp_path / "synchronous")
    train(config(tmp_path / "other", baseline, **still), run_dir=tmp_path / "overlapped")
    assert metrics_of(tmp_path / "synchronous") == metrics_of(tmp_path / "overlapped")


def test_a_resumed_run_learns_from_the_batch_that_was_rolled_out_ahead(
    tmp_path: Path, baseline: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(tmp_path, baseline)
    train(settings, run_dir=tmp_path / "whole")

    def crash(_: PPOTrainer, step: int) -> None:
        if step == 3:
            raise MemoryError("no more")

    with monkeypatch.context() as patch:
        patch.setattr(halves, "during", crash)
        with pytest.raises(MemoryError):
            train(settings, run_dir=tmp_path / "parts")
    halves.order.clear()
    train(settings, run_dir=tmp_path / "parts", resume=True)
    assert halves.order == ["update 3", "update 3 ended"]
    assert_same_run(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_an_update_ends_after_it(
    tmp_path: Path, baseline: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The step counts, the rollouts beside it do not: the next process begins with them."""
    settings = config(tmp_path, baseline)
    on_the_way = threading.Event()

    def interrupt(_: PPOTrainer, step: int) -> None:
        if step == 2:
            halves.event("batch 3").wait(PATIENCE)
            os.kill(os.getpid(), number)
            on_the_way.wait(0.05)  # the loop hears of it while the update runs

    with monkeypatch.context() as patch:
        patch.setattr(halves, "during", interrupt)
        result = train(settings, run_dir=tmp_path / "run")
    assert (result.stopped_by, result.summary["steps"]) == ("interrupted", 2)
    assert halves.order.count("batch 3") == halves.order.count("batch 3 ended") == 1
    assert train(settings, run_dir=tmp_path / "run", resume=True).summary["steps"] == 3
    assert [row["step"] for row in read_metrics(tmp_path / "run")] == [1, 2, 3]


def test_an_update_that_goes_wrong_ends_the_rollouts_beside_it(
    tmp_path: Path, baseline: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(_: PPOTrainer, step: int) -> None:
        if step == 2:
            halves.event("batch 3").wait(PATIENCE)
            raise FloatingPointError("not finite")

    monkeypatch.setattr(halves, "during", diverge)
    result = train(config(tmp_path, baseline), run_dir=tmp_path / "run")
    assert (result.stopped_by, result.summary["steps"]) == ("non_finite", 1)
    assert halves.order.count("batch 3") == halves.order.count("batch 3 ended") == 1


def test_endpoints_that_fail_beside_an_update_cost_only_the_steps_after_it(
    tmp_path: Path, baseline: Path, halves: Halves, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OutageGuard.run

    async def broken(guard: OutageGuard, tasks: Any, *, seed: object = 0, **options: Any) -> list[Rollout]:
        if str(seed).endswith("/train/3"):
            raise Outage("the grader is gone", [])
        return await run(guard, tasks, seed=seed, **options)

    with monkeypatch.context() as patch:
        patch.setattr(OutageGuard, "run", broken)
        result = train(config(tmp_path, baseline), run_dir=tmp_path / "run")
    assert (result.stopped_by, result.summary["steps"]) == ("ungraded", 2)
    assert train(config(tmp_path, baseline), run_dir=tmp_path / "run", resume=True).summary["steps"] == 3
    assert read_rollouts(tmp_path / "run", "train-000003")


def test_a_batch_that_nobody_takes_leaves_nothing_behind() -> None:
    ended: list[int] = []

    async def endless(step: int) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(step)

    async def story() -> None:
        ahead = Ahead(endless)
        ahead.start(2)
        await asyncio.sleep(0)
        assert ahead.state() is None
        await ahead.aclose()
        assert ended == [2]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(story())


def test_a_batch_of_older_weights_has_to_be_allowed() -> None:
    with pytest.raises(ValidationError, match="found 0 with overlap: true; allowed: at least 1"):
        PPOConfig(overlap=True)
    assert PPOConfig(overlap=True, max_staleness=1).overlap
