"""What hold-out graders say of an evaluation: their scores beside the run's own, and which policy they like best.

The reward is only a proxy of what is wanted, and a policy that optimises it hard enough finds where the two part (Gao
et al. 2022, arXiv:2210.10760). A hold-out grader has no part in the reward, so it still measures there. Only rollouts
that every hold-out graded count, and an evaluation in which they are too few has no say: missing is not agreeing.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, stdev
from typing import Any

from agentrl.config import GradingConfig
from agentrl.evaluation.intervals import Interval, percentile_interval, resampled_means
from agentrl.types import Rollout


@dataclass(frozen=True)
class WatchedItem:
    """One item: means over its rollouts that all hold-outs graded."""

    task_id: str
    score: float
    """The run's own grader's."""
    holdout: float
    """Mean over the hold-outs, on the scale of the run's own grader."""


@dataclass(frozen=True)
class HoldoutReport:
    """An evaluation as the hold-outs saw it; every item has one vote."""

    step: int
    items: tuple[WatchedItem, ...] = field(repr=False)
    """Sorted by task id."""
    coverage: float
    """Rollouts that all hold-outs graded, as a fraction of those that have a vote."""
    by_name: dict[str, float] = field(repr=False)
    """Mean of each hold-out over what it graded."""

    @property
    def score(self) -> float:
        """The hold-outs' mean; NaN where no item was graded by all of them."""
        return fmean(item.holdout for item in self.items) if self.items else math.nan

    @property
    def gap(self) -> float:
        """The run's own mean score of the same rollouts less the hold-outs'."""
        return fmean(item.score for item in self.items) - self.score if self.items else math.nan

    @property
    def interval(self) -> Interval | None:
        """95 % bootstrap interval of `score` over items; None for fewer than two."""
        if len(self.items) < 2:
            return None
        return percentile_interval(resampled_means([[item.holdout] for item in self.items])[:, 0])

    def to_record(self) -> dict[str, Any]:
        """As JSON: `from_record` reads it back."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> HoldoutReport:
        return cls(**{**record, "items": tuple(WatchedItem(**item) for item in record["items"])})

    def as_dict(self) -> dict[str, Any]:
        """For summary.json; None where nothing was graded."""
        low, high = self.interval or (math.nan, math.nan)
        figures = {"score": self.score, "low": low, "high": high, "gap": self.gap, "coverage": self.coverage}
        return {
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
            "by_name": self.by_name,
        }


def watched(rollouts: Iterable[Rollout], grading: GradingConfig, *, step: int) -> HoldoutReport:
    """What the hold-outs say of an evaluation's rollouts."""
    voting = sorted((each for each in rollouts if each.is_valid), key=lambda each: (each.task.id, each.sample_index))
    whole = [(each, score) for each in voting if (score := holdout_score(each, grading)) is not None]
    items = tuple(
        WatchedItem(task_id, fmean(each.grade.score or 0.0 for each, _ in group), fmean(score for _, score in group))
        for task_id, group in _by_task(whole, lambda pair: pair[0])
    )
    return HoldoutReport(
        step=step,
        items=items,
        coverage=len(whole) / len(voting) if voting else 0.0,
        by_name={name: mean for name in grading.holdout_names if (mean := _mean_of(name, voting)) is not None},
    )


def holdout_score(rollout: Rollout, grading: GradingConfig) -> float | None:
    """Mean over the hold-outs on the scale of the run's own grader; None where one of them did not grade it."""
    scores = rollout.grade.holdout
    if not grading.holdout or not all(name in scores for name in grading.holdout_names):
        return None
    width = grading.max_score - grading.min_score
    shares = [
        (scores[name] - each.least_score) / (each.best_score - each.least_score)
        for name, each in zip(grading.holdout_names, grading.holdout, strict=True)
    ]
    return grading.min_score + width * fmean(shares)


def gap_of(rollout: Rollout, grading: GradingConfig) -> float | None:
    """How far the reward's score lies above the hold-outs'; None where one of the scores is missing."""
    holdout = holdout_score(rollout, grading)
    return None if holdout is None or rollout.grade.score is None else rollout.grade.score - holdout


def describe_missing(report: HoldoutReport, rollouts: Sequence[Rollout]) -> str:
    """How little of an evaluation the hold-outs graded, and why, the commonest reason of each first."""
    reasons: dict[str, Counter[str]] = {}
    for rollout in rollouts:
        for name, reason in rollout.grade.holdout_missing.items():
            reasons.setdefault(name, Counter())[reason] += 1
    shown = "; ".join(
        f"{name}: {count} x {why}" for name, all_ in reasons.items() for why, count in all_.most_common(1)
    )
    return f"hold-outs graded {report.coverage:.0%} of the baseline's rollouts: {shown or 'no rollout has a grade'}"


def _mean_of(name: str, rollouts: Sequence[Rollout]) -> float | None:
    graded = [each for each in rollouts if name in each.grade.holdout]
    groups = _by_task(graded, lambda each: each)
    return fmean(fmean(each.grade.holdout[name] for each in group) for _, group in groups) if graded else None


def _by_task(values: Sequence[Any], rollout_of: Any) -> list[tuple[str, list[Any]]]:
    groups: dict[str, list[Any]] = {}
    for value in values:
        groups.setdefault(rollout_of(value).task.id, []).append(value)
    return sorted(groups.items())


@dataclass(frozen=True)
class Change:
    """From one evaluation to a later one, over the items that both have."""

    holdout: float
    holdout_stderr: float
    """Paired standard error: of the mean of the items' differences; 0 for fewer than two items."""
    reward: float
    reward_stderr: float


def change(before: HoldoutReport, after: HoldoutReport) -> Change | None:
    """Paired by item; None where they have none in common."""
    earlier = {item.task_id: item for item in before.items}
    pairs = [(earlier[item.task_id], item) for item in after.items if item.task_id in earlier]
    if not pairs:
        return None
    holdouts = [now.holdout - then.holdout for then, now in pairs]
    rewards = [now.score - then.score for then, now in pairs]
    return Change(fmean(holdouts), _standard_error(holdouts), fmean(rewards), _standard_error(rewards))


def _standard_error(values: Sequence[float]) -> float:
    return stdev(values) / math.sqrt(len(values)) if len(values) > 1 else 0.0


class HoldoutHistory:
    """The first evaluation and the best one so far by the hold-outs, to which each later one is compared.

    Args:
        min_coverage: evaluations with a lower coverage have no figures but that one.
    """

    def __init__(self, min_coverage: float) -> None:
        self.min_coverage = min_coverage
        self.first: HoldoutReport | None = None
        self.best: HoldoutReport | None = None

    def is_usable(self, report: HoldoutReport) -> bool:
        """Whether enough of an evaluation was graded for its figures to mean something."""
        return bool(report.items) and report.coverage >= self.min_coverage

    def forget(self) -> None:
        """Other graders: begin anew."""
        self.first = self.best = None

    def observe(self, report: HoldoutReport) -> dict[str, float]:
        """Take note of an evaluation; its figures for the step's line of metrics."""
        found = {"holdout_coverage_validation": report.coverage}
        if not self.is_usable(report):
            return found
        low, high = report.interval or (report.score, report.score)
        return {
            **found,
            "holdout_score_validation": report.score,
            "holdout_score_validation_low": low,
            "holdout_score_validation_high": high,
            "holdout_gap_validation": report.gap,
            **{f"holdout_score_of_{name}": mean for name, mean in report.by_name.items()},
            **self.take(report),
        }

    def take(self, report: HoldoutReport) -> dict[str, float]:
        """Compare a usable evaluation with the best and the first one, and keep it where it is one of them."""
        found: dict[str, float] = {}
        if self.best is not None and (since := change(self.best, report)) is not None:
            found |= {
                "holdout_fall_validation": -since.holdout,
                "holdout_fall_validation_stderr": since.holdout_stderr,
                "holdout_fall_reward_rise": since.reward,
                "holdout_fall_reward_rise_stderr": since.reward_stderr,
            }
        if self.first is not None and (whole := change(self.first, report)) is not None:
            found |= {
                "holdout_rise_validation": whole.holdout,
                "holdout_rise_validation_stderr": whole.holdout_stderr,
            }
        self.first = self.first or report
        if self.best is None or report.score > self.best.score:
            self.best = report
        return found

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {name: each.to_record() if each else None for name, each in (("first", self.first), ("best", self.best))}

    def restore(self, state: Mapping[str, Any]) -> None:
        first, best = state["first"], state["best"]
        self.first = HoldoutReport.from_record(first) if first else None
        self.best = HoldoutReport.from_record(best) if best else None
