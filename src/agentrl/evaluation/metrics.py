"""EvalReport: the rollouts of one policy on one set of items, as means in which every item has one vote."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from statistics import fmean
from typing import Any

from agentrl.evaluation.intervals import Interval, percentile_interval, resampled_means
from agentrl.types import Rollout

UNKNOWN_TOOL = "unknown"

METRICS = ("reward", "success_rate", "tool_calls", "output_tokens", "latency_seconds", "same_tool_repeats")
"""Fields of ItemMeans that are averaged and compared."""


@dataclass(frozen=True)
class ItemMeans:
    """One item (task): means over its samples that were graded."""

    task_id: str
    samples: int
    """Graded samples, at least 1."""
    reward: float
    """The grader's score, without penalties and KL."""
    success_rate: float
    """Share of samples whose score reached the pass threshold."""
    tool_calls: float
    output_tokens: float
    latency_seconds: float
    """First token to last, grading excluded."""
    same_tool_repeats: float
    """Calls of the tool that was called just before."""
    tool_calls_by_tool: dict[str, float] = field(repr=False)


@dataclass(frozen=True)
class EvalReport:
    """Means over items of means over samples; a rollout without a grade, or broken by infrastructure, has no vote."""

    name: str
    items: tuple[ItemMeans, ...] = field(repr=False)
    """Sorted by task id; items without a graded sample are missing here."""
    samples_per_item: int
    """Asked for; `ungraded` of them came back without a vote."""
    ungraded: int
    """Rollouts without a vote."""
    n_items_ungraded: int
    """Items of which no rollout has a vote."""
    stop_reasons: dict[str, int] = field(repr=False)
    """Rollouts by stop reason, ungraded ones included."""
    failure_classes: dict[str, int] = field(default_factory=dict, repr=False)
    """Of the ungraded ones: what broke them."""
    reward_interval: Interval | None = None
    """95 % bootstrap interval of `reward` over items; None for fewer than two."""
    grader_versions: tuple[str, ...] = field(default=(), repr=False)
    """Of all grades in it; reports of different ones are of different measures."""

    @property
    def n_items(self) -> int:
        """Items with a vote."""
        return len(self.items)

    @property
    def reward(self) -> float:
        """NaN where no item has a vote."""
        return self.mean("reward")

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(sorted({tool for item in self.items for tool in item.tool_calls_by_tool}))

    def mean(self, metric: str) -> float:
        """Mean over items of a field of ItemMeans, or of `tool_calls_NAME`; NaN where no item has a vote."""
        return fmean(item_value(item, metric) for item in self.items) if self.items else math.nan

    @property
    def repeats_per_call(self) -> float:
        """Share of tool calls that repeat the tool before them; 0 where nothing is called."""
        calls = self.mean("tool_calls")
        return self.mean("same_tool_repeats") / calls if calls else 0.0

    def to_record(self) -> dict[str, Any]:
        """Everything, as JSON: `from_record` reads it back."""
        return asdict(self)

    @classmethod
    def from_record(cls, record: dict[str, Any]) -> EvalReport:
        """The inverse of `to_record`."""
        interval = record["reward_interval"]
        items = tuple(ItemMeans(**item) for item in record["items"])
        versions = tuple(record.get("grader_versions", ()))
        return cls(
            **{
                **record,
                "items": items,
                "reward_interval": Interval(*interval) if interval else None,
                "grader_versions": versions,
            }
        )

    def as_dict(self) -> dict[str, Any]:
        """For summary.json; None where nothing was graded."""
        means = {metric: self.mean(metric) for metric in METRICS}
        by_tool = {tool: self.mean(f"tool_calls_{tool}") for tool in self.tools}
        interval = self.reward_interval or Interval(math.nan, math.nan)
        figures: dict[str, Any] = {
            **means,
            "repeats_per_call": self.repeats_per_call,
            "reward_low": interval.low,
            "reward_high": interval.high,
        }
        return {
            **{name: value if math.isfinite(value) else None for name, value in figures.items()},
            "n_items": self.n_items,
            "samples_per_item": self.samples_per_item,
            "ungraded": self.ungraded,
            "n_items_ungraded": self.n_items_ungraded,
            "tool_calls_by_tool": by_tool,
            "stop_reasons": dict(self.stop_reasons),
            "failure_classes": dict(self.failure_classes),
        }


def item_value(item: ItemMeans, metric: str) -> float:
    """A field of the item, or its calls of one tool for `tool_calls_NAME`."""
    if metric in METRICS:
        return float(getattr(item, metric))
    return item.tool_calls_by_tool.get(metric.removeprefix("tool_calls_"), 0.0)


def evaluate_rollouts(
    rollouts: Iterable[Rollout], *, pass_threshold: float, name: str = "", tools: Collection[str] | None = None
) -> EvalReport:
    """Summarises rollouts of any number of tasks and samples, in any order.

    Args:
        pass_threshold: a score at or above it is a success.
        tools: names that there are; calls of any other name, which a policy makes up, are counted as `unknown`.
    """
    by_task: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_task.setdefault(rollout.task.id, []).append(rollout)
    everything = [rollout for group in by_task.values() for rollout in group]
    voting = {task_id: [rollout for rollout in group if rollout.is_valid] for task_id, group in by_task.items()}
    items = tuple(
        _item(task_id, voting[task_id], pass_threshold, tools) for task_id in sorted(voting) if voting[task_id]
    )
    return EvalReport(
        name=name,
        items=items,
        samples_per_item=max((len(group) for group in by_task.values()), default=0),
        ungraded=sum(not rollout.is_valid for rollout in everything),
        n_items_ungraded=len(by_task) - len(items),
        stop_reasons=dict(sorted(Counter(rollout.stop_reason.value for rollout in everything).items())),
        failure_classes=dict(
            sorted(Counter(each.failure_class.value for each in everything if each.failure_class).items())
        ),
        reward_interval=_reward_interval(items),
        grader_versions=tuple(sorted({each.grade.version for group in voting.values() for each in group} - {""})),
    )


def same_tool_repeats(rollout: Rollout) -> int:
    """Calls whose tool is that of the call before, over turns: search search cat search -> 1."""
    return sum(before.name == after.name for before, after in pairwise(rollout.tool_calls))


def _item(task_id: str, rollouts: Sequence[Rollout], pass_threshold: float, tools: Collection[str] | None) -> ItemMeans:
    scores = [rollout.grade.score for rollout in rollouts if rollout.grade.score is not None]
    names = (call.name for rollout in rollouts for call in rollout.tool_calls)
    calls = Counter(name if tools is None or name in tools else UNKNOWN_TOOL for name in names)
    return ItemMeans(
        task_id=task_id,
        samples=len(rollouts),
        reward=fmean(scores),
        success_rate=fmean(score >= pass_threshold for score in scores),
        tool_calls=fmean(len(rollout.tool_calls) for rollout in rollouts),
        output_tokens=fmean(rollout.output_tokens for rollout in rollouts),
        latency_seconds=fmean(rollout.seconds for rollout in rollouts),
        same_tool_repeats=fmean(same_tool_repeats(rollout) for rollout in rollouts),
        tool_calls_by_tool={tool: count / len(rollouts) for tool, count in sorted(calls.items())},
    )


def _reward_interval(items: Sequence[ItemMeans]) -> Interval | None:
    if len(items) < 2:
        return None
    return percentile_interval(resampled_means([[item.reward] for item in items])[:, 0])
