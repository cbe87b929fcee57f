"""Batches are a function of seed, step and size, and an epoch shows each task once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.data import TaskOrder
from tests.factories import make_task


def order(count: int, seed: int = 17) -> TaskOrder:
    return TaskOrder([make_task(f"t{i}") for i in range(count)], seed)


def ids(count: int, step: int, size: int, seed: int = 17) -> list[str]:
    return [task.id for task in order(count, seed).batch(step, size)]


def test_a_batch_needs_no_history() -> None:
    going = order(50)
    for step in range(20):
        assert [task.id for task in going.batch(step, 8)] == ids(50, step, 8)


def test_the_order_is_the_same_on_every_machine() -> None:
    assert ids(10, 0, 5) == ["t1", "t2", "t7", "t4", "t0"]


def test_seeds_and_epochs_have_orders_of_their_own() -> None:
    epochs = [tuple(ids(20, step, 20, seed)) for step in range(3) for seed in (0, 1)]
    assert len(set(epochs)) == 6


@given(count=st.integers(1, 30), size=st.integers(1, 30), epoch=st.integers(0, 5), seed=st.integers(0, 3))
def test_an_epoch_shows_no_task_twice(count: int, size: int, epoch: int, seed: int) -> None:
    steps = count // size
    if steps == 0:
        return
    seen = [task for step in range(epoch * steps, (epoch + 1) * steps) for task in ids(count, step, size, seed)]
    assert len(seen) == len(set(seen)) == steps * size


@given(count=st.integers(1, 10), size=st.integers(1, 40), step=st.integers(0, 10))
def test_a_batch_larger_than_the_set_repeats_as_evenly_as_it_can(count: int, size: int, step: int) -> None:
    batch = ids(count, step, size)
    assert len(batch) == size
    times = [batch.count(f"t{i}") for i in range(count)]
    assert max(times) - min(times) <= 1


def test_tasks_left_over_differ_from_epoch_to_epoch() -> None:
    seen = {task for step in range(50) for task in ids(10, step, 7)}
    assert len(seen) == 10


@pytest.mark.parametrize(("step", "size"), [(-1, 4), (0, 0)])
def test_a_step_or_size_below_its_range_is_refused(step: int, size: int) -> None:
    with pytest.raises(ValueError, match="allowed: step >= 0 and size >= 1"):
        order(5).batch(step, size)


def test_an_order_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="needs tasks"):
        TaskOrder([], 0)
