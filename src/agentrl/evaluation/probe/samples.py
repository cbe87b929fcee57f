"""The scores of a probe, item by item: what every figure of it is made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentrl.types import Rollout

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class ItemScores:
    """One item: the scores of its rollouts that have a vote, from 0 (the worst that the grader gives) to 1."""

    task_id: str
    split: str
    asked: int
    """Rollouts that were made; those without a vote are missing below."""
    grades: tuple[tuple[float, ...], ...]
    """[samples][grades] of each voting rollout: what the reward would be, then the same answer graded afresh."""
    passed: tuple[bool, ...]
    """[samples] Whether the first score reached the pass threshold."""

    @property
    def scores(self) -> tuple[float, ...]:
        """[samples] The first grades."""
        return tuple(grades[0] for grades in self.grades)

    @property
    def mean(self) -> float:
        return fmean(self.scores)

    @property
    def best(self) -> float:
        return max(self.scores)

    @property
    def spread(self) -> float:
        """Standard deviation of the scores; 0 of a single one."""
        return stdev(self.scores) if len(self.grades) > 1 else 0.0

    @property
    def varies(self) -> bool:
        """A group of these samples would teach something: training calls it zero-variance where all are equal."""
        return len(set(self.scores)) > 1

    @property
    def is_complete(self) -> bool:
        """Every rollout has a vote."""
        return len(self.grades) == self.asked


def item_scores(
    rollouts: Iterable[Rollout],
    *,
    split: str,
    min_score: float,
    max_score: float,
    pass_threshold: float,
    again: Mapping[str, Sequence[float]] | None = None,
) -> tuple[ItemScores, ...]:
    """Rollouts of one split by item, in the order of task ids; an item without a vote stays, without scores.

    Args:
        min_score, max_score: the range that becomes 0 to 1.
        again: further scores of a rollout's answer, by the rollout's id.
    """
    by_task: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_task.setdefault(rollout.task.id, []).append(rollout)

    def scaled(score: float) -> float:
        return (score - min_score) / (max_score - min_score)

    found = []
    for task_id in sorted(by_task):
        voting = sorted((each for each in by_task[task_id] if each.is_valid), key=lambda each: each.sample_index)
        scored = [(each, each.grade.score) for each in voting if each.grade.score is not None]
        grades = tuple(
            tuple(scaled(score) for score in (first, *(again or {}).get(each.id, ()))) for each, first in scored
        )
        passed = tuple(first >= pass_threshold for _, first in scored)
        found.append(ItemScores(task_id, split, len(by_task[task_id]), grades, passed))
    return tuple(found)


def voting(items: Iterable[ItemScores]) -> list[ItemScores]:
    """Items with at least one score."""
    return [item for item in items if item.grades]


def complete(items: Iterable[ItemScores]) -> list[ItemScores]:
    """Items all of whose rollouts have a vote: figures of n samples are made of these alone."""
    return [item for item in items if item.grades and item.is_complete]
