from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

import pytest

from agentrl.config import CurriculumConfig
from agentrl.data.curriculum import Curriculum
from tests.factories import make_task

RATES = {"never": 0.0, "seldom": 0.1, "half": 0.5, "often": 0.9, "always": 1.0}


def curriculum(n: int = 0, seed: int = 17, **config: Any) -> Curriculum:
    tasks = [make_task(name) for name in RATES] if not n else [make_task(f"t{i}") for i in range(n)]
    return Curriculum(tasks, seed, CurriculumConfig(**config))


def observed(order: Curriculum, samples: int = 10) -> Curriculum:
    order.observe(1, [(name, i < rate * samples) for name, rate in RATES.items() for i in range(samples)])
    order.batch(2, 1)
    return order


def test_tasks_are_preferred_that_both_succeed_and_fail() -> None:
    never, seldom, half, often, always = observed(curriculum(uniform_fraction=0.2)).probabilities()
    assert half == max(never, seldom, half, often, always)
    assert seldom == pytest.approx(often)
    assert never == pytest.approx(always)
    assert never < seldom
    assert sum((never, seldom, half, often, always)) == pytest.approx(1.0)


def test_no_task_is_drawn_less_than_the_even_part_says() -> None:
    order = observed(curriculum(uniform_fraction=0.2), samples=10_000)
    assert min(order.probabilities()) >= 0.2 / 5
    assert min(order.probabilities()) == pytest.approx(0.2 / 5, rel=0.01)  # what is solved keeps nothing else
    assert observed(curriculum(uniform_fraction=1.0)).probabilities() == pytest.approx([0.2] * 5)


def test_draws_follow_the_probabilities_and_no_task_comes_twice() -> None:
    order = observed(curriculum())
    first = Counter(order.batch(step, 1)[0].id for step in range(3, 4003))
    for name, probability in zip(RATES, order.probabilities(), strict=True):
        assert first[name] / 4000 == pytest.approx(probability, abs=0.03)
    assert len({task.id for task in order.batch(5000, 4)}) == 4
    assert Counter(task.id for task in order.batch(5001, 12)).most_common()[-1][1] >= 2  # five tasks, twelve places


def test_a_task_that_was_never_tried_comes_before_one_that_is_solved() -> None:
    order = curriculum(n=2)
    order.observe(1, [("t0", True)] * 8)
    order.batch(2, 1)
    solved, untried = order.probabilities()
    assert untried > 2 * solved


def test_old_results_fade() -> None:
    order = curriculum(n=2, decay=0.5)
    for step in range(1, 12):
        order.observe(step, [("t0", step <= 6)] * 4)  # solved for six steps, then no more
        order.batch(step + 1, 1)
    assert order._counts["t0"][0] < 1 < order._counts["t0"][1]


def test_a_resumed_order_draws_what_an_unbroken_one_draws() -> None:
    draw = random.Random(0)
    results = {step: [(f"t{draw.randrange(20)}", draw.random() < 0.5) for _ in range(8)] for step in range(12)}
    whole, broken_off = curriculum(n=20), curriculum(n=20)
    expected = []
    for step in range(12):
        expected.append([task.id for task in whole.batch(step, 4)])
        whole.observe(step, results[step])
    for step in range(6):
        broken_off.batch(step, 4)
        broken_off.observe(step, results[step])
    broken_off.batch(6, 4)
    broken_off.observe(6, results[6])  # rolled out, but interrupted before the update
    resumed = curriculum(n=20)
    resumed.restore(json.loads(json.dumps(broken_off.state())))
    found = []
    for step in range(6, 12):
        found.append([task.id for task in resumed.batch(step, 4)])
        resumed.observe(step, results[step])
    assert found == expected[6:]
