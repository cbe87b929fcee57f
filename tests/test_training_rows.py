"""Tasks that a grader could never grade are found before a run."""

from __future__ import annotations

import pytest

from agentrl.config import GradingConfig
from agentrl.data.tasks import Splits
from agentrl.errors import ConfigError
from agentrl.training.rows import check_rows
from agentrl.types import Task
from tests.factories import make_task

GRADING = GradingConfig.model_validate({"type": "numeric", "name": "n", "reference": "{{ item.right }}"})


def tasks(n: int, n_missing: int) -> tuple[Task, ...]:
    return tuple(make_task(f"t{i}", **({"wrong": 1} if i < n_missing else {"right": 1})) for i in range(n))


def test_tasks_that_could_not_be_graded_stop_a_run_before_it_starts() -> None:
    splits = Splits(train=tasks(10, 0), validation=tasks(10, 2), test=())
    with pytest.raises(
        ConfigError, match=r"grader n reads item\.right, which 2 of 10 validation tasks do not have"
    ) as e:
        check_rows(GRADING, splits, max_missing=0.1, tell=pytest.fail)
    assert "(first: 't0'; its keys: wrong)" in str(e.value)


def test_a_few_are_told_and_none_is_silent() -> None:
    told: list[str] = []
    check_rows(GRADING, Splits(train=tasks(10, 1), validation=tasks(5, 0), test=()), max_missing=0.1, tell=told.append)
    assert len(told) == 1
    assert told[0].startswith("warning: grader n reads item.right, which 1 of 10 train tasks")
    check_rows(GRADING, Splits(train=tasks(3, 0), validation=(), test=()), max_missing=0.0, tell=pytest.fail)


def test_hold_outs_are_looked_at_as_well() -> None:
    grading = GradingConfig.model_validate(
        {"type": "numeric", "reference": "1", "holdout": [{"type": "numeric", "name": "gold"}]}
    )
    with pytest.raises(ConfigError, match=r"grader gold reads item\.reference_answer"):
        check_rows(grading, Splits(train=tasks(3, 0), validation=(), test=()), max_missing=0.5, tell=pytest.fail)
