"""The figures of one policy, each with its interval over items; and of subsets, allowing for how many there are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean
from typing import Any

import numpy as np

from agentrl.evaluation.comparison.figures import Figure as Change
from agentrl.evaluation.comparison.figures import resamples_of
from agentrl.evaluation.comparison.measures import differences, pass_at_k
from agentrl.evaluation.comparison.pairs import pair
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.intervals import LEVEL, Interval, percentile_interval
from agentrl.evaluation.tags import tags_of


@dataclass(frozen=True)
class Level:
    """A mean, share, ratio or quantile."""

    value: float | None
    """None where nothing has a value, such as the cost of a success where there is none."""
    interval: Interval | None
    """Percentile bootstrap over items, at 95 % or what the table of subsets says; None for fewer than two items."""
    n_items: int
    """That it rests on."""


@dataclass(frozen=True)
class TagFigures:
    """The items with one tag; intervals are wide enough for all tags at once."""

    tag: str
    reward: Level
    success_rate: Level


@dataclass(frozen=True)
class PolicyFigures:
    """All of it, as `agentrl eval --json` prints it."""

    figures: dict[str, Level]
    """By name, as `agentrl compare` has them."""
    pass_at_k: dict[int, Level]
    """One of k samples succeeds, by k."""
    pass_hat_k: dict[int, Level]
    """All of k samples do."""
    tags: tuple[TagFigures, ...] = field(repr=False)
    """By name."""
    tags_looked_at: int
    """Subsets that there were to choose from: what the intervals of `tags` allow for (Bonferroni)."""
    tags_level: float
    """Of each interval in `tags`, so that 95 % is the level of all at once."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def policy_figures(evaluation: Evaluation) -> PolicyFigures | None:
    """The figures, the same as a comparison would show of this side; None where no rollout has a grade."""
    if not any(rollout.is_valid for rollout in evaluation.rollouts):
        return None
    pairs = pair(evaluation, evaluation)  # held against itself: one side of a comparison
    by_k = pass_at_k(pairs)
    looked_at = max(int(evaluation.selection.get("tags_looked_at") or 0), len(_tags(evaluation)))
    level = 1 - (1 - LEVEL) / max(1, looked_at)
    return PolicyFigures(
        figures={name: _level(change) for name, change in differences(pairs).items()},
        pass_at_k={k: _level(change) for k, change in by_k["pass_at_k"].items()},
        pass_hat_k={k: _level(change) for k, change in by_k["pass_hat_k"].items()},
        tags=tuple(_of_tag(evaluation, tag, level) for tag in _tags(evaluation)),
        tags_looked_at=looked_at,
        tags_level=level,
    )


def _level(change: Change) -> Level:
    value = None if math.isnan(change.candidate) else change.candidate
    return Level(value, change.candidate_interval, change.n_items)


def _tags(evaluation: Evaluation) -> list[str]:
    return sorted({tag for rollout in evaluation.rollouts for tag in tags_of(rollout.task)})


def _of_tag(evaluation: Evaluation, tag: str, level: float) -> TagFigures:
    members = {rollout.task.id for rollout in evaluation.rollouts if tag in tags_of(rollout.task)}
    items = [item for item in evaluation.report.items if item.task_id in members]
    return TagFigures(
        tag, _mean([item.reward for item in items], level), _mean([item.success_rate for item in items], level)
    )


def _mean(values: Sequence[float], level: float) -> Level:
    draws = resamples_of(len(values)).means(np.array(values)[:, None])[:, 0] if len(values) > 1 else None
    interval = None if draws is None else percentile_interval(draws, level)
    return Level(fmean(values) if values else None, interval, len(values))
