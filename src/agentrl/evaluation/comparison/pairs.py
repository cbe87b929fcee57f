"""Two evaluations laid side by side: which items both can be held to, and which cannot, and why."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from agentrl.errors import ConfigError
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.intervals import Floats
from agentrl.evaluation.metrics import UNKNOWN_TOOL
from agentrl.types import Rollout

ByItem = Mapping[str, tuple[Rollout, ...]]
Value = Callable[[Rollout], float | None]
"""Of one episode; None where it has none."""


@dataclass(frozen=True)
class Pairs:
    """The rollouts of two policies by item."""

    names: tuple[str, str]
    task_ids: tuple[str, ...]
    """Items with a vote on both sides, sorted: what every paired figure rests on."""
    attempted: tuple[str, ...] = field(repr=False)
    """Items that both sides were asked, whether or not anything came of it; sorted."""
    voting: tuple[ByItem, ByItem] = field(repr=False)
    """[A, B] Valid rollouts of each item that has some."""
    everything: tuple[ByItem, ByItem] = field(repr=False)
    """[A, B] All rollouts, those without a vote included."""
    left_out: Mapping[str, str] = field(repr=False)
    """Task id to the reason why the item is not compared."""
    pass_threshold: float
    tools: frozenset[str] | None = field(repr=False)
    """Names that there are; None where neither side tells."""

    def item_means(self, value: Value) -> Floats:
        """[N, 2] mean of an episode's value over each item's valid episodes; NaN where none has one."""
        return _means(self.task_ids, self.voting, value)

    def attempted_means(self, value: Value) -> Floats:
        """[M, 2] the same over all episodes of the items that both sides attempted, with or without a vote."""
        return _means(self.attempted, self.everything, value)

    def values(self, value: Callable[[Rollout], float]) -> tuple[list[list[float]], list[list[float]]]:
        """[A, B] for each item the values of its valid episodes."""
        first, second = (
            [[value(rollout) for rollout in side[task_id]] for task_id in self.task_ids] for side in self.voting
        )
        return first, second

    def tool_sequence(self, rollout: Rollout) -> tuple[str, ...]:
        """Tools in the order of their calls; a name that a policy made up counts as `unknown`."""
        names = (call.name for call in rollout.tool_calls)
        return tuple(name if self.tools is None or name in self.tools else UNKNOWN_TOOL for name in names)


def _means(task_ids: Sequence[str], sides: tuple[ByItem, ByItem], value: Value) -> Floats:
    rows = [[_mean(map(value, side[task_id])) for side in sides] for task_id in task_ids]
    return np.array(rows, dtype=np.float64).reshape(len(rows), 2)


def _mean(values: Iterable[float | None]) -> float:
    found = [value for value in values if value is not None]
    return fmean(found) if found else math.nan


def pair(first: Evaluation, second: Evaluation) -> Pairs:
    """Lay two evaluations side by side; a success is what the first one's threshold says.

    Raises:
        ConfigError: nothing can be compared: no item in common, or nothing graded on one side.
    """
    names = (first.name, second.name)
    everything = tuple(_by_item(each.rollouts) for each in (first, second))
    voting = tuple(
        {task_id: valid for task_id, group in side.items() if (valid := tuple(each for each in group if each.is_valid))}
        for side in everything
    )
    for name, evaluation, votes in zip(names, (first, second), voting, strict=True):
        if not votes:
            raise ConfigError(f"{name}: {_nothing_graded(evaluation)}; nothing can be compared")
    left_out: dict[str, str] = {}
    for task_id in sorted({*everything[0], *everything[1]}):
        if reason := _why_not(task_id, names, (everything[0], everything[1]), (voting[0], voting[1])):
            left_out[task_id] = reason
    shared = voting[0].keys() & voting[1].keys() - left_out.keys()
    if not shared:
        reasons = ", ".join(sorted(set(left_out.values())))
        raise ConfigError(f"{names[0]} and {names[1]} have no item in common that both have a grade for ({reasons})")
    both = everything[0].keys() & everything[1].keys()
    known = {*first.tools, *second.tools}
    return Pairs(
        names=names,
        task_ids=tuple(sorted(shared)),
        attempted=tuple(sorted(task_id for task_id in both if left_out.get(task_id) != OTHER_TASK)),
        voting=(voting[0], voting[1]),
        everything=(everything[0], everything[1]),
        left_out=left_out,
        pass_threshold=first.pass_threshold,
        tools=frozenset(known) if known else None,
    )


OTHER_TASK = "another task under the same id"


def _why_not(task_id: str, names: tuple[str, str], all_: tuple[ByItem, ByItem], valid: tuple[ByItem, ByItem]) -> str:
    for here, there in ((0, 1), (1, 0)):
        if task_id not in all_[here]:
            return f"only in {names[there]}"
    tasks = {repr((each.task.messages, each.task.item)) for side in all_ for each in side[task_id]}
    if len(tasks) > 1:
        return OTHER_TASK
    missing = [name for name, side in zip(names, valid, strict=True) if task_id not in side]
    return f"no grade in {' and '.join(missing)}" if missing else ""


def _by_item(rollouts: Iterable[Rollout]) -> dict[str, tuple[Rollout, ...]]:
    groups: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        groups.setdefault(rollout.task.id, []).append(rollout)
    return {
        task_id: tuple(sorted(group, key=lambda each: (each.sample_index, each.id)))
        for task_id, group in groups.items()
    }


def _nothing_graded(evaluation: Evaluation) -> str:
    if not evaluation.rollouts:
        return "holds no rollouts"
    classes = ", ".join(f"{name} {count}" for name, count in evaluation.report.failure_classes.items())
    return f"none of its {len(evaluation.rollouts)} rollouts has a grade ({classes})"
