"""Dynamic sampling: which groups make room, for what, and at what cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import comb

import pytest

from agentrl.config import DynamicSamplingConfig
from agentrl.training.resampling import is_uniform, top_up
from agentrl.types import Rollout, Task
from tests.factories import make_rollout, make_task

TASKS = [make_task(f"t{n}") for n in range(20)]
Scores = Callable[[str], Sequence[float | None]]


def samples(task: Task, scores: Scores) -> list[Rollout]:
    return [make_rollout(task.id, i, score) for i, score in enumerate(scores(task.id))]


class Step:
    """A step of `n` tasks whose samples score as `scores` says; remembers what was rolled out besides."""

    def __init__(self, scores: Scores, *, n: int = 4, max_rounds: int = 2, tasks: Sequence[Task] = TASKS) -> None:
        self.scores, self.n, self.tasks = scores, n, tasks
        self.config = DynamicSamplingConfig(max_rounds=max_rounds)
        self.asked: list[list[str]] = []

    def top_up(self, seed: str = "17/1") -> tuple[list[str], dict[str, float]]:
        async def roll_out(tasks: list[Task], number: int) -> list[Rollout]:
            self.asked.append([task.id for task in tasks])
            assert number == len(self.asked)
            return [rollout for task in tasks for rollout in samples(task, self.scores)]

        drawn = [rollout for task in self.tasks[: self.n] for rollout in samples(task, self.scores)]
        work = top_up(drawn, roll_out, tasks=self.tasks, config=self.config, seed=seed)
        rollouts, metrics = asyncio.run(work)
        assert len(rollouts) == len(drawn)
        return list(dict.fromkeys(rollout.task.id for rollout in rollouts)), metrics


def only(*uniform: str) -> Scores:
    return lambda task: (1.0, 1.0, 1.0) if task in uniform else (1.0, 0.0, 1.0)


def test_groups_that_teach_something_stay_and_cost_nothing() -> None:
    step = Step(only())
    assert step.top_up() == (
        ["t0", "t1", "t2", "t3"],
        {"resampled_groups": 0.0, "resampling_rounds": 0.0, "resampling_rollouts": 0.0},
    )
    assert step.asked == []


def test_a_uniform_group_makes_room_for_another_task_in_its_place() -> None:
    step = Step(only("t1", "t3"))
    tasks, metrics = step.top_up()
    [asked] = step.asked
    assert tasks == ["t0", asked[0], "t2", asked[1]]
    assert not {"t0", "t1", "t2", "t3"} & set(asked)
    assert metrics == {"resampled_groups": 2.0, "resampling_rounds": 1.0, "resampling_rollouts": 6.0}


def test_after_the_last_round_what_was_drawn_first_stays() -> None:
    step = Step(lambda _: (0.0, 0.0), max_rounds=3)
    tasks, metrics = step.top_up()
    assert tasks == ["t0", "t1", "t2", "t3"]
    assert (metrics["resampled_groups"], metrics["resampling_rounds"]) == (0.0, 3.0)
    flat = [task for asked in step.asked for task in asked]
    assert len(flat) == len(set(flat)) == 12  # no task is tried twice


def test_a_small_data_set_runs_out_and_the_step_goes_on() -> None:
    step = Step(lambda _: (0.0, 0.0), max_rounds=9, tasks=TASKS[:6])
    assert step.top_up()[0] == ["t0", "t1", "t2", "t3"]
    assert sorted(step.asked[0]) == ["t4", "t5"]
    assert len(step.asked) == 1


def test_the_same_step_draws_the_same_tasks_and_another_step_others() -> None:
    first, again, other = (Step(only("t0", "t1")) for _ in range(3))
    assert first.top_up("17/1") == again.top_up("17/1")
    other.top_up("17/2")
    assert first.asked == again.asked != other.asked


def test_without_the_section_nothing_happens() -> None:
    drawn = samples(TASKS[0], lambda _: (1.0, 1.0))

    async def never(_tasks: list[Task], _number: int) -> list[Rollout]:
        raise AssertionError

    assert asyncio.run(top_up(drawn, never, tasks=TASKS, config=None, seed="")) == (drawn, {})


@pytest.mark.parametrize(
    ("scores", "expected"),
    [((1.0, 1.0), True), ((1.0, 0.5), False), ((0.0, None), True), ((None, None), True), ((1.0, None, 0.0), False)],
)
def test_a_group_is_uniform_where_no_two_graded_samples_differ(scores: Sequence[float | None], expected: bool) -> None:
    assert is_uniform(samples(TASKS[0], lambda _: scores)) is expected


@pytest.mark.parametrize(("p", "n", "expected"), [(0.5, 3, 0.25), (0.1, 8, 0.430), (0.05, 16, 0.440), (0.9, 4, 0.656)])
def test_as_many_groups_are_uniform_as_chance_says(p: float, n: int, expected: float) -> None:
    def probability(successes: int) -> float:
        return comb(n, successes) * p**successes * (1 - p) ** (n - successes)

    groups = {k: [make_rollout("t", i, float(i < k)) for i in range(n)] for k in range(n + 1)}
    assert sum(probability(k) for k, group in groups.items() if is_uniform(group)) == pytest.approx(expected, abs=5e-4)
