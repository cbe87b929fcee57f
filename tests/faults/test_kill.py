"""Killed with SIGKILL anywhere: the run goes on without repair, loses little, repeats nothing, ends up the same."""

from __future__ import annotations

import random
import signal
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agentrl.policy.checkpoint import newest_checkpoint, step_of
from agentrl.runs import read_metrics
from tests.faults.children import Nursery, nursery
from tests.long_runs import IS_LONG_RUN
from tests.same_runs import assert_same_run

KILLS = 30 if IS_LONG_RUN else 10
INTERVAL = 2
KINDS = {
    "in rollouts", "before update", "after update", "before backward", "after backward", "before optimiser step",
    "after optimiser step", "before file of a checkpoint", "before rename", "after rename", "before pointer",
    "after pointer", "before fsync", "before deletion", "after deletion", "in a line of metrics", "before warm-up",
    "after warm-up",
}  # fmt: skip


@pytest.fixture(scope="module")
def children(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nursery]:
    with nursery(tmp_path_factory.mktemp("kills")) as started:
        yield started


def chosen_points(points: Sequence[str], count: int, seed: int = 0) -> list[int]:
    """`count` points at random, counted from 1, of every kind about as many."""
    draw, by_kind = random.Random(seed), defaultdict[str, list[int]](list)
    for number, kind in enumerate(points, start=1):
        by_kind[kind].append(number)
    rounds = [draw.sample(numbers, len(numbers)) for _, numbers in sorted(by_kind.items())]
    in_turn = [numbers[i] for i in range(len(points)) for numbers in rounds if i < len(numbers)]
    return sorted(in_turn[:count])


@pytest.mark.slow
def test_a_run_killed_anywhere_becomes_the_run_that_was_not(children: Nursery) -> None:
    config = children.config("killed", checkpoint={"every_steps": INTERVAL}, ppo={"critic_warmup_steps": 2})
    whole = children.folder / "whole"
    calm = children.run(config, whole)
    assert (calm.status, calm.stopped_by) == (0, None), calm.errors
    assert set(calm.points) >= KINDS
    for number in chosen_points(calm.points, KILLS):
        where = f"point {number}: {calm.points[number - 1]}"
        run = children.folder / f"killed-{number}"
        killed = children.run(config, run, kill_at=number)
        assert killed.status == -signal.SIGKILL, where
        is_begun = (run / "manifest.json").exists()
        taken = len(read_metrics(run)) if is_begun else 0
        kept, _ = newest_checkpoint(run / "checkpoints")
        assert taken - (step_of(kept) if kept else 0) <= INTERVAL, where
        resumed = children.run(config, run, resume=is_begun)
        assert (resumed.status, resumed.stopped_by) == (0, None), f"{where}\n{resumed.errors}"
        try:
            assert_same_run(run, whole)
        except AssertionError as error:
            raise AssertionError(f"{where}: {error}") from error
        assert_nothing_is_left_over(run)


@pytest.mark.slow
def test_a_run_killed_again_and_again_still_gets_there(children: Nursery) -> None:
    config = children.config("tried")
    whole, run = children.folder / "tried-whole", children.folder / "tried-again"
    children.run(config, whole)
    draw, lives = random.Random(1), 0
    outcome = children.run(config, run, kill_at=60)
    while outcome.status:
        assert outcome.status == -signal.SIGKILL, outcome.errors
        lives += 1
        assert lives < 12
        outcome = children.run(config, run, resume=(run / "manifest.json").exists(), kill_at=draw.randrange(40, 250))
    assert lives > 2
    assert_same_run(run, whole)
    assert_nothing_is_left_over(run)


def assert_nothing_is_left_over(run: Path) -> None:
    checkpoints = {path.name for path in (run / "checkpoints").iterdir()}
    steps = {name for name in checkpoints if name.startswith("step-")}
    assert len(steps) == 2
    policies = {name for name in checkpoints if name.startswith("policy-")}
    assert len(policies) <= 3
    assert checkpoints == steps | policies | {"best", "start.json"}
    assert not list(run.rglob("*.partial"))
