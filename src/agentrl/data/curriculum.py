"""A task order that prefers tasks which are neither solved nor hopeless: `data.curriculum`.

The more often a policy both succeeds and fails at a task, the more there is to learn from it: p (1 - p) of the success
rate p (arXiv:2408.15099). A part of every step is drawn evenly, so that what counts as solved is tested again.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from agentrl.config import CurriculumConfig
from agentrl.types import Task

Counts = dict[str, tuple[float, float]]
"""Task id -> successes and failures, old ones fading."""


class Curriculum:
    """Like `TaskOrder`, with a memory: which tasks a step gets depends on how the steps before it went.

    Args:
        config: how much is drawn evenly, and how fast old results fade.
    """

    def __init__(self, tasks: Sequence[Task], seed: int, config: CurriculumConfig) -> None:
        if not tasks:
            raise ValueError("a task order needs tasks")
        self._tasks = tuple(tasks)
        self._seed, self._config = seed, config
        self._counts: Counts = {}
        self._last: tuple[int, Counts] = (-1, {})

    def batch(self, step: int, size: int) -> list[Task]:
        """The tasks of a step, each once (where there are enough): equal for equal results of the steps before."""
        self._settle(step)
        draw = random.Random(f"{self._seed}/curriculum/{step}")
        chosen: list[Task] = []
        while len(chosen) < size:  # a second pass only where there are fewer tasks than places
            # Without replacement, by weight: the largest of u^(1/w) (Efraimidis and Spirakis 2006).
            keys = [draw.random() ** (1 / weight) for weight in self.probabilities()]
            order = sorted(range(len(keys)), key=keys.__getitem__, reverse=True)
            chosen += [self._tasks[index] for index in order[: size - len(chosen)]]
        return chosen

    def observe(self, step: int, results: Iterable[tuple[str, bool]]) -> None:
        """How the samples of a step went: (task id, success) of each that has a grade; counts from the next step on."""
        found: Counts = {}
        for task_id, is_success in results:
            good, bad = found.get(task_id, (0.0, 0.0))
            found[task_id] = (good + is_success, bad + (not is_success))
        self._last = (step, found)

    def probabilities(self) -> list[float]:
        """[tasks] For each the chance to be drawn first; they sum to 1, none is below the even part's."""
        learnable = [_learnability(*self._counts.get(task.id, (0.0, 0.0))) for task in self._tasks]
        even, total = self._config.uniform_fraction / len(learnable), sum(learnable)
        return [even + (1 - self._config.uniform_fraction) * each / total for each in learnable]

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        step, last = self._last
        return {"counts": _as_lists(self._counts), "step": step, "last": _as_lists(last)}

    def restore(self, state: Mapping[str, Any]) -> None:
        self._counts = {task: (good, bad) for task, (good, bad) in state["counts"].items()}
        self._last = (state["step"], {task: (good, bad) for task, (good, bad) in state["last"].items()})

    def _settle(self, step: int) -> None:
        """Count what the step before found; what this very step found, in an attempt that was broken off, is void."""
        last_step, last = self._last
        self._last = (-1, {})
        if last_step >= step:
            return
        for task_id, (good, bad) in last.items():
            old_good, old_bad = self._counts.get(task_id, (0.0, 0.0))
            keep = self._config.decay
            self._counts[task_id] = (keep * old_good + good, keep * old_bad + bad)


def _learnability(successes: float, failures: float) -> float:
    """p (1 - p) at the mean of Beta(1 + successes, 1 + failures): highest for a task that was never tried."""
    p = (1 + successes) / (2 + successes + failures)
    return p * (1 - p)


def _as_lists(counts: Counts) -> dict[str, list[float]]:
    return {task: list(pair) for task, pair in counts.items()}
