"""How many calls are under way at once, and how many leave in a second."""

from __future__ import annotations

import asyncio
import random
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.endpoint.flow import FIRST_LIMIT, WINDOW, Outcome, Pace, Slots
from agentrl.endpoint.stats import quantile

OUTCOMES = st.lists(st.sampled_from(["fine", "busy", "lost"]), max_size=300)


def crowded(most: int) -> Slots:
    """Slots with somebody waiting, so that the limit may rise."""
    slots = Slots(most)
    slots._waiting.append(SimpleNamespace(done=lambda: False))  # type: ignore[arg-type]
    slots.in_use = 10_000
    return slots


@given(OUTCOMES, st.integers(1, 200))
def test_the_limit_stays_between_one_and_the_ceiling(outcomes: list[Outcome], most: int) -> None:
    slots = crowded(most)
    assert slots.limit == min(most, FIRST_LIMIT)
    for outcome in outcomes:
        before = slots._limit
        slots.outcome(outcome)
        assert 1 <= slots.limit <= most
        assert outcome == "fine" or slots._limit <= before


def test_it_rises_only_while_somebody_waits() -> None:
    idle, busy = Slots(64), crowded(64)
    for _ in range(100):
        idle.outcome("fine")
        busy.outcome("fine")
    assert (idle.limit, busy.limit) == (FIRST_LIMIT, 64)


def test_trouble_ends_the_fast_rise() -> None:
    slots = crowded(64)
    slots.outcome("busy")
    for _ in range(FIRST_LIMIT):
        slots.outcome("fine")
    assert FIRST_LIMIT - 1 <= slots.limit <= FIRST_LIMIT


def test_losses_shrink_it_when_they_are_half_of_the_calls_and_not_when_they_are_rare() -> None:
    dead, shaky, draw = crowded(64), crowded(64), random.Random(1)
    for _ in range(5 * WINDOW):
        dead.outcome("lost")
    for _ in range(2000):
        shaky.outcome("lost" if draw.random() < 0.1 else "fine")
    assert dead.limit <= 3
    assert shaky.limit == 64


def test_it_finds_what_a_server_takes_at_once() -> None:
    """The server refuses whom it cannot serve; whoever is refused leaves at once and comes back."""

    async def run(capacity: int) -> tuple[list[int], int, int]:
        slots, serving, limits, refused, served = Slots(200), 0, list[int](), 0, 0

        async def call() -> None:
            nonlocal serving, refused, served
            while True:
                await slots.acquire()
                if serving >= capacity:
                    refused += 1
                    slots.outcome("busy")
                    slots.release()
                    await asyncio.sleep(0)
                    continue
                serving += 1
                for _ in range(5):
                    await asyncio.sleep(0)
                serving -= 1
                served += 1
                slots.outcome("fine")
                limits.append(slots.limit)
                slots.release()
                return

        await asyncio.gather(*(call() for _ in range(2000)))
        assert slots.in_use == 0
        return limits[500:1500], refused, served

    for capacity in (4, 20, 90):
        limits, refused, served = asyncio.run(run(capacity))
        assert served == 2000
        assert capacity - 2 <= min(limits)
        assert max(limits) <= capacity + 5
        assert refused < 600


@settings(max_examples=50)
@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=30), st.integers(0, 10**6))
def test_no_slot_is_lost_or_given_twice(most: int, calls: list[tuple[int, bool]], seed: int) -> None:
    async def run() -> None:
        slots, under_way, order = Slots(most), 0, list[int]()
        draw = random.Random(seed)

        async def call(index: int, steps: int) -> None:
            nonlocal under_way
            await slots.acquire()
            order.append(index)
            under_way += 1
            assert under_way <= slots.in_use <= most
            try:
                for _ in range(steps):
                    await asyncio.sleep(0)
            finally:
                under_way -= 1
                slots.release()

        tasks = [asyncio.ensure_future(call(index, steps)) for index, (steps, _) in enumerate(calls)]
        while not all(task.done() for task in tasks):
            for task, (_, is_cancelled) in zip(tasks, calls, strict=True):
                if is_cancelled and draw.random() < 0.3:
                    task.cancel()
            await asyncio.sleep(0)
        assert not [task for task in tasks if not task.cancelled() and task.exception()]
        assert order == sorted(order)  # first come, first served
        assert (slots.in_use, slots.waiting) == (0, 0)
        for _ in range(slots.limit):
            await asyncio.wait_for(slots.acquire(), 1)

    asyncio.run(run())


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


@pytest.mark.parametrize("per_second", [0.5, 10.0, 333.0])
def test_requests_leave_evenly_and_none_too_soon(per_second: float) -> None:
    async def run() -> list[float]:
        time, left = Time(), list[float]()
        pace = Pace(per_second, clock=time.clock, sleep=time.sleep)

        async def one() -> None:
            await pace.wait()
            left.append(time.now)

        await asyncio.gather(*(one() for _ in range(50)))
        return left

    left = asyncio.run(run())
    gaps = [later - earlier for earlier, later in pairwise(left)]
    assert min(gaps) >= 1 / per_second - 1e-9
    assert max(gaps) <= 1 / per_second + 1e-9


def test_who_gives_up_waiting_leaves_no_gap() -> None:
    async def run() -> float:
        time = Time()
        pace = Pace(1.0, clock=time.clock, sleep=time.sleep)
        await pace.wait()
        stopped = [asyncio.ensure_future(pace.wait()) for _ in range(10)]
        await asyncio.sleep(0)
        for task in stopped:
            task.cancel()
        await asyncio.wait(stopped)
        await pace.wait()
        return time.now

    assert asyncio.run(run()) <= 2.0


def test_nothing_leaves_while_the_server_asked_to_wait() -> None:
    async def run() -> tuple[float, float]:
        time = Time()
        pace = Pace(None, clock=time.clock, sleep=time.sleep)
        pace.hold(3.0)
        pace.hold(1.0)
        await pace.wait()
        first = time.now
        await pace.wait()
        return first, time.now

    assert asyncio.run(run()) == (3.0, 3.0)


def test_no_rate_is_no_limit() -> None:
    async def run() -> None:
        for _ in range(10_000):
            await Pace(None).wait()

    asyncio.run(asyncio.wait_for(run(), 30))


@given(st.lists(st.floats(0, 100), min_size=1, max_size=50), st.floats(0, 1))
def test_a_quantile_is_reached_by_that_share_and_by_no_smaller_value(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values) - 1e-9
    assert sum(value < found for value in values) <= share * len(values)
    assert quantile([], share) == 0.0
