from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.phases import ACTIVITIES, Phases, Watched


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_parts_add_up_to_the_wall_time_and_the_innermost_counts() -> None:
    clock = Clock()
    phases = Phases(clock)
    clock.now += 1
    with phases("evaluation"):
        clock.now += 2
        with phases("checkpoint"):
            clock.now += 4
        clock.now += 8
    clock.now += 16
    assert phases.take_seconds() == {"other": 17, "evaluation": 10, "checkpoint": 4}
    clock.now += 1
    assert phases.take_seconds() == {"other": 1}


def test_in_rollouts_generation_counts_before_tools_before_grading() -> None:
    clock = Clock()
    phases = Phases(clock)
    with phases("rollout"):
        clock.now += 1  # nothing goes on
        with phases.during("grading"):
            clock.now += 2
            with phases.during("tools"):
                clock.now += 4
                with phases.during("generation"), phases.during("generation"):
                    clock.now += 8
                clock.now += 16
    assert phases.take_seconds() == {"other": 1, "grading": 2, "tools": 20, "generation": 8}


def test_what_goes_on_beside_another_part_is_that_part_s() -> None:
    """Overlapped, the next batch is rolled out during the update, and nobody waits for it."""
    clock = Clock()
    phases = Phases(clock)
    with phases.during("generation"), phases("backward"):
        clock.now += 3
    assert phases.take_seconds() == {"other": 0, "backward": 3}


@given(st.lists(st.tuples(st.sampled_from([*ACTIVITIES, "rollout", "backward", "end"]), st.integers(0, 9))))
def test_every_instant_belongs_to_one_part(events: list[tuple[str, int]]) -> None:
    clock = Clock()
    phases = Phases(clock)
    open_ones: list[object] = []
    for name, seconds in events:
        if name != "end":
            context = phases.during(name) if name in ACTIVITIES else phases(name)
            context.__enter__()
            open_ones.append(context)
        elif open_ones:
            open_ones.pop().__exit__(None, None, None)  # type: ignore[attr-defined]
        clock.now += seconds
    assert sum(phases.take_seconds().values()) == clock.now


def test_a_part_ends_where_an_error_ends_it() -> None:
    clock = Clock()
    phases = Phases(clock)
    with pytest.raises(KeyError), phases("rollout"), phases.during("tools"):
        raise KeyError
    clock.now += 1
    assert phases.take_seconds()["other"] == 1


def test_the_device_is_waited_for_before_a_part_ends() -> None:
    clock = Clock()

    def finish() -> None:
        clock.now += 5

    phases = Phases(clock, finish=finish)
    with phases("backward"):
        clock.now += 1
    assert phases.take_seconds()["backward"] == 6


def test_peaks_are_of_each_part_alone() -> None:
    class Memory:
        held = most = 0

        def reset(self) -> None:
            self.most = self.held

        def peak_bytes(self) -> int:
            return self.most

    memory = Memory()

    @contextmanager
    def holding(n: int) -> Iterator[None]:
        memory.held += n
        memory.most = max(memory.most, memory.held)
        yield
        memory.held -= n

    phases = Phases(memory=memory)
    for size in (3, 7, 5):
        with phases("backward"), holding(size):
            pass
    with phases("reference"), holding(2):
        pass
    assert phases.take_peaks() == {"backward": 7, "reference": 2}
    assert phases.take_peaks() == {}


def test_a_watched_object_is_the_object_and_says_when_it_is_awaited() -> None:
    class Grader:
        name = "exact"

        async def grade(self, score: int, *, clock: Clock) -> int:
            clock.now += 3
            return score

    clock = Clock()
    phases = Phases(clock)
    watched = Watched(Grader(), "grade", "grading", phases)
    assert watched.name == "exact"
    with phases("rollout"):
        assert asyncio.run(watched.grade(7, clock=clock)) == 7
    assert phases.take_seconds()["grading"] == 3
