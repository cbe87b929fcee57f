"""What a part of a turn was worth: what its removal changed, over all turns of a kind, with intervals over items."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from agentrl.evaluation.ablation.cuts import Part
from agentrl.evaluation.ablation.trials import Trial
from agentrl.evaluation.intervals import Interval, percentile_interval, resampled_means
from agentrl.types import Rollout

MARGIN = 0.05
"""Of reward: a part whose removal costs less than this, by its whole interval, is useless."""
MIN_ITEMS = 10
"""Fewer decide nothing: where a handful of items agree by chance, their interval has no width."""
LATE = 7
"""From this turn on places in the episode are one group."""
METRICS = ("reward", "success_rate", "tool_calls", "output_tokens")
"""Calls and tokens are those after the turn."""


@dataclass(frozen=True)
class Change:
    """One metric with the part and without, means over items."""

    control: float
    without: float
    change: float
    """without - control."""
    interval: Interval | None
    """95 %, paired percentile bootstrap over items; None for fewer than two."""


@dataclass(frozen=True)
class Group:
    """Turns of which the same part was removed."""

    part: Part
    by: str
    """all, tool or turn."""
    name: str
    n_items: int
    n_turns: int
    n_pairs: int
    changes: dict[str, Change]
    """By metric."""

    @property
    def verdict(self) -> str:
        """needed (without it the reward is lower), harmful (higher), useless (the same to MARGIN), or unclear."""
        interval = self.changes["reward"].interval
        if interval is None or self.n_items < MIN_ITEMS:
            return "unclear"
        if interval.high < 0:
            return "needed"
        if interval.low > 0:
            return "harmful"
        return "useless" if interval.low >= -MARGIN else "unclear"

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "part": self.part.value, "verdict": self.verdict}


def groups(trials: Sequence[Trial], pass_threshold: float) -> list[Group]:
    """All turns of a part, then those of each tool and of each place in the episode; what has no pair is left out."""
    found = []
    for part in Part:
        of_part = [trial for trial in trials if trial.part is part and trial.pairs]
        kinds: list[tuple[str, Callable[[Trial], str]]] = [
            ("all", lambda _: "all turns"),
            ("tool", lambda trial: trial.cut.tools),
            ("turn", _place),
        ]
        for by, key in kinds:
            names = sorted({key(trial) for trial in of_part})
            chosen = {name: [trial for trial in of_part if key(trial) == name] for name in names}
            found += [_group(part, by, name, chosen[name], pass_threshold) for name in names]
    return found


def _place(trial: Trial) -> str:
    number = trial.cut.index + 1
    return f"turn {number}" if number < LATE else f"turn {LATE} and later"


def _group(part: Part, by: str, name: str, trials: Sequence[Trial], pass_threshold: float) -> Group:
    items: dict[str, list[Trial]] = {}
    for trial in trials:
        items.setdefault(trial.cut.rollout.task.id, []).append(trial)
    rows = np.array([_mean([trial_means(each, pass_threshold) for each in item]) for item in items.values()])
    controls, without = rows[:, 0], rows[:, 1]
    changes = without - controls
    draws = resampled_means(changes) if len(rows) > 1 else None
    return Group(
        part=part,
        by=by,
        name=name,
        n_items=len(rows),
        n_turns=len(trials),
        n_pairs=sum(len(trial.pairs) for trial in trials),
        changes={
            metric: Change(
                control=float(controls[:, k].mean()),
                without=float(without[:, k].mean()),
                change=float(changes[:, k].mean()),
                interval=None if draws is None else percentile_interval(draws[:, k]),
            )
            for k, metric in enumerate(METRICS)
        },
    )


def trial_means(trial: Trial, pass_threshold: float) -> tuple[list[float], list[float]]:
    """Each metric with the part, and without it, over the trial's pairs."""
    kept = trial.cut.index + 1
    arms = zip(*trial.pairs, strict=True)
    controls, without = ([_measures(each, kept, pass_threshold) for each in arm] for arm in arms)
    return _columns(controls), _columns(without)


def _measures(rollout: Rollout, kept: int, pass_threshold: float) -> list[float]:
    score, after = rollout.grade.score, rollout.turns[kept:]
    assert score is not None  # pairs are graded
    calls = sum(len(turn.tool_calls) for turn in after)
    return [score, float(score >= pass_threshold), float(calls), float(sum(turn.output_tokens for turn in after))]


def _columns(rows: Iterable[Sequence[float]]) -> list[float]:
    return [fmean(column) for column in zip(*rows, strict=True)]


def _mean(trials: Sequence[tuple[list[float], list[float]]]) -> list[list[float]]:
    """[2, K] the arms of an item: the mean over its turns."""
    return [_columns(arm) for arm in zip(*trials, strict=True)]
