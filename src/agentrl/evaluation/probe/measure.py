"""From rollouts to a report: every figure of a probe, computed from what was recorded and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import numpy as np

from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.probe.best_of import Estimate, best_of, estimate, pass_curves
from agentrl.evaluation.probe.bounds import mean_interval, ratio_interval, share_interval
from agentrl.evaluation.probe.groups import expected_shares, groups, recommended, sizes_of
from agentrl.evaluation.probe.leaks import ToolLeaks, first_output_holds_answer
from agentrl.evaluation.probe.planned import Plan
from agentrl.evaluation.probe.power import smallest_effect
from agentrl.evaluation.probe.repeatability import repeatability
from agentrl.evaluation.probe.report import Conduct, ProbeReport, SplitFigures
from agentrl.evaluation.probe.samples import ItemScores, item_scores, voting
from agentrl.evaluation.probe.twins import Twins
from agentrl.evaluation.probe.verdict import Evidence, judge
from agentrl.types import Rollout


@dataclass(frozen=True)
class Probed:
    """What a probe saw, before anything is computed of it."""

    name: str
    policy: str
    splits: Mapping[str, Sequence[Rollout]] = field(repr=False)
    """train and validation."""
    samples: int
    min_score: float
    max_score: float
    pass_threshold: float
    max_lost: float
    planned_samples: int
    """`ppo.samples_per_task`."""
    validation_items: int
    """That the run will measure on."""
    validation_samples: int
    """Of each of them, before and after."""
    again: Mapping[str, Sequence[float]] = field(default_factory=dict, repr=False)
    """Rollout id -> further scores of its answer."""
    unrepeated: str = "it was not asked to"
    tools: ToolLeaks | None = None
    twins: Twins | None = None
    plan: Plan | None = None
    unplanned: str = ""
    """Why there is no plan."""
    seconds: float = 0.0


def measure(probed: Probed) -> ProbeReport:
    """The report; the same rollouts, in any order, give the same one."""
    by_split = {
        split: item_scores(
            rollouts,
            split=split,
            min_score=probed.min_score,
            max_score=probed.max_score,
            pass_threshold=probed.pass_threshold,
            again=probed.again,
        )
        for split, rollouts in probed.splits.items()
    }
    items = tuple(item for split in by_split.values() for item in split)
    rollouts = sorted((each for split in probed.splits.values() for each in split), key=_place)
    threshold = (probed.pass_threshold - probed.min_score) / (probed.max_score - probed.min_score)
    seen, best, noise = groups(items), best_of(items), repeatability(voting(items), threshold)
    mean = estimate([item.mean for item in voting(items)])
    shares = expected_shares(items, sizes_of(probed.planned_samples))
    effect = smallest_effect(
        by_split.get("validation") or items, n_items=probed.validation_items, samples=probed.validation_samples
    )
    lost = [each for each in rollouts if not each.is_valid]
    evidence = Evidence(
        rollouts=len(rollouts),
        lost=len(lost),
        max_lost=probed.max_lost,
        first_loss=(lost[0].error or lost[0].grade.reason) if lost else "",
        mean=mean,
        best_of=best,
        groups=seen,
        samples=probed.samples,
        repeatability=noise,
        unrepeated=probed.unrepeated,
        split_gap=_gap(by_split.get("train", ()), by_split.get("validation", ())),
        effect=effect,
        tools=probed.tools,
        twins=probed.twins,
        first_output=_first_output(rollouts),
    )
    verdict, reasons = judge(evidence)
    return ProbeReport(
        name=probed.name,
        policy=probed.policy,
        verdict=verdict,
        reasons=reasons,
        samples=probed.samples,
        planned_samples=probed.planned_samples,
        mean=mean,
        best_of=best,
        groups=seen,
        shares=shares,
        advice=recommended(probed.planned_samples, shares),
        repeatability=noise,
        effect=effect,
        conduct=_conduct(rollouts),
        splits=tuple(_figures(split, found, probed.samples) for split, found in by_split.items() if found),
        items=items,
        tools=probed.tools,
        twins=probed.twins,
        first_output=evidence.first_output,
        split_gap=evidence.split_gap,
        plan=probed.plan,
        unplanned=probed.unplanned,
        seconds=probed.seconds,
    )


def _place(rollout: Rollout) -> tuple[str, int]:
    return rollout.task.id, rollout.sample_index


def _figures(split: str, items: Sequence[ItemScores], samples: int) -> SplitFigures:
    found = voting(items)
    return SplitFigures(
        split=split,
        n_items=len(found),
        n_items_lost=len(items) - len(found),
        mean=estimate([item.mean for item in found]),
        best_of=best_of(items),
        groups=groups(items),
        passes=pass_curves(found, samples),
    )


def _gap(train: Sequence[ItemScores], validation: Sequence[ItemScores]) -> Interval | None:
    """Train's mean less validation's: the two intervals' half widths, added as squares (Newcombe's way)."""
    one, other = ([item.mean for item in voting(items)] for items in (train, validation))
    if len(one) < 2 or len(other) < 2:
        return None
    left, right, gap = mean_interval(one), mean_interval(other), fmean(one) - fmean(other)
    down = float(np.hypot(fmean(one) - left.low, right.high - fmean(other)))
    up = float(np.hypot(left.high - fmean(one), fmean(other) - right.low))
    return Interval(gap - down, gap + up)


def _first_output(rollouts: Sequence[Rollout]) -> Estimate | None:
    by_item: dict[str, list[bool]] = {}
    for rollout in rollouts:
        if (holds := first_output_holds_answer(rollout)) is not None:
            by_item.setdefault(rollout.task.id, []).append(holds)
    return estimate([fmean(each) for each in by_item.values()])


def _conduct(rollouts: Sequence[Rollout]) -> Conduct:
    """What episodes went through: calls, errors, losses."""
    by_item: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        by_item.setdefault(rollout.task.id, []).append(rollout)
    results = [
        [result for each in group for turn in each.turns for result in turn.tool_results] for group in by_item.values()
    ]
    errors = [float(sum(result.is_error for result in each)) for each in results]
    calls = [float(len(each)) for each in results]
    lost = [each for each in rollouts if not each.is_valid]
    classes: dict[str, int] = {}
    for each in lost:
        if each.failure_class is not None:
            classes[each.failure_class.value] = classes.get(each.failure_class.value, 0) + 1
    stops: dict[str, int] = {}
    for each in rollouts:
        stops[each.stop_reason.value] = stops.get(each.stop_reason.value, 0) + 1
    return Conduct(
        rollouts=len(rollouts),
        lost=len(lost),
        lost_interval=share_interval(len(lost), len(rollouts)),
        failure_classes=dict(sorted(classes.items())),
        stop_reasons=dict(sorted(stops.items())),
        tool_calls=int(sum(calls)),
        tool_errors=int(sum(errors)),
        tool_error_interval=_error_interval(errors, calls),
        calls_per_episode=sum(calls) / len(rollouts) if rollouts else 0.0,
        tokens_per_episode=fmean(each.output_tokens for each in rollouts) if rollouts else 0.0,
        seconds_per_episode=fmean(each.seconds for each in rollouts) if rollouts else 0.0,
        cost_usd=sum(each.cost_usd + each.grade.cost_usd for each in rollouts),
    )


def _error_interval(errors: Sequence[float], calls: Sequence[float]) -> Interval | None:
    """Of failed calls by all calls, over items; None without calls.

    Where none failed there is nothing to draw again: the bound is that of items with a failed call, which are none.
    """
    if any(errors) or not any(calls):
        return ratio_interval(errors, calls)
    return share_interval(0, sum(map(bool, calls)))
