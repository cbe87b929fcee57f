"""Two policies on the same items: paired differences with intervals, and which items changed in which way.

Sampling noise between items is larger than most gains (at reward 0.6 and 100 items the standard error is 0.05), so
only differences within items count, and items that one side lacks are left out and named.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from agentrl.errors import ConfigError
from agentrl.evaluation.intervals import Floats, Interval, percentile_interval, resampled_means, t_interval
from agentrl.evaluation.metrics import METRICS, EvalReport, item_value
from agentrl.grading.versions import UNKNOWN, one_version

REWARD_CHANGES = ("worse", "equal", "better")
CALL_CHANGES = ("fewer", "equal", "more")
QUADRANTS = tuple(f"{reward}_{calls}" for reward in reversed(REWARD_CHANGES) for calls in CALL_CHANGES)
"""Reward of an item, then its calls: `better_fewer` is what training is for, `worse_more` what must not happen."""

TOLERANCE = 1e-9
"""Means of the same samples may differ in the last bit; that is no change."""


@dataclass(frozen=True)
class Difference:
    """One metric, candidate against baseline, over the items that both have."""

    baseline: float
    candidate: float
    change: float
    """candidate - baseline."""
    change_interval: Interval | None
    """95 %, paired percentile bootstrap over items; None for fewer than two items."""
    change_interval_t: Interval | None
    """95 %, paired Student's t over item means."""
    relative: float | None
    """change / baseline; None where the baseline is 0."""
    relative_interval: Interval | None
    """95 %, bootstrap of the ratio of means."""


@dataclass(frozen=True)
class Comparison:
    """A candidate against a baseline, paired by item."""

    baseline_name: str
    candidate_name: str
    n_items: int
    """Items that both have."""
    left_out: tuple[str, ...] = field(repr=False)
    """Task ids that only one side has."""
    samples_per_item: int
    ungraded: int
    """Rollouts without a vote, both sides together."""
    differences: dict[str, Difference] = field(repr=False)
    """By metric: those of ItemMeans, `tool_calls_NAME` of each tool, `repeats_per_call`."""
    quadrants: dict[str, int]
    """Items by what became of reward and calls, see QUADRANTS."""

    @property
    def worse_more_fraction(self) -> float:
        """Share of items with a lower reward and more calls."""
        return self.quadrants["worse_more"] / self.n_items if self.n_items else 0.0

    def as_dict(self) -> dict[str, Any]:
        """For summary.json, where NaN and None are both null."""
        return {**asdict(self), "worse_more_fraction": self.worse_more_fraction}


def compare(baseline: EvalReport, candidate: EvalReport) -> Comparison:
    """Pairs the two reports by task id. Reports without a common item give NaN means and no intervals.

    Raises:
        ConfigError: they hold grades of different grader versions.
    """
    refuse_other_graders(baseline, candidate)
    before = {item.task_id: item for item in baseline.items}
    after = {item.task_id: item for item in candidate.items}
    shared = sorted(before.keys() & after.keys())
    tools = sorted({*baseline.tools, *candidate.tools})
    metrics = (*METRICS, *(f"tool_calls_{tool}" for tool in tools))
    values_N2K = np.array(
        [[[item_value(side[task_id], metric) for metric in metrics] for side in (before, after)] for task_id in shared],
        dtype=np.float64,
    ).reshape(len(shared), 2, len(metrics))
    # one resampling of items serves all metrics, baseline and candidate alike
    draws_R2K: Floats | None = None
    if len(shared) > 1:
        draws_R2K = resampled_means(values_N2K.reshape(len(shared), -1)).reshape(-1, 2, len(metrics))
    differences = {
        metric: _difference(values_N2K[:, :, k], None if draws_R2K is None else draws_R2K[:, :, k])
        for k, metric in enumerate(metrics)
    }
    calls, repeats = metrics.index("tool_calls"), metrics.index("same_tool_repeats")
    differences["repeats_per_call"] = _difference_of_ratios(values_N2K, draws_R2K, repeats, calls)
    return Comparison(
        baseline_name=baseline.name,
        candidate_name=candidate.name,
        n_items=len(shared),
        left_out=tuple(sorted(before.keys() ^ after.keys())),
        samples_per_item=max(baseline.samples_per_item, candidate.samples_per_item),
        ungraded=baseline.ungraded + candidate.ungraded,
        differences=differences,
        quadrants=_quadrants(values_N2K[:, :, metrics.index("reward")], values_N2K[:, :, calls]),
    )


def refuse_other_graders(*reports: EvalReport) -> None:
    """Only scores of one version of one grader are put side by side.

    Raises:
        ConfigError: a report, or two of them, hold grades of several; the message names two versions.
    """
    found = (
        (version, report.name or "a report")
        for report in reports
        if report.items
        for version in report.grader_versions or (UNKNOWN,)
    )
    one_version(" against ".join(dict.fromkeys(report.name or "a report" for report in reports)), found)


def evaluation_summary(
    *,
    baseline: EvalReport,
    final: EvalReport | None = None,
    best: EvalReport | None = None,
    test_baseline: EvalReport | None = None,
    test_best: EvalReport | None = None,
) -> dict[str, Any]:
    """The keys of summary.json that evaluation answers for; the table in report.html is drawn from them."""
    refused: dict[str, str] = {}
    validation = _compared("validation", baseline, best, refused)
    test = _compared("test", test_baseline, test_best, refused)
    reports = {"baseline": baseline, "final": final, "best": best}
    tests = {"baseline": test_baseline, "best": test_best}
    return {
        **{name: report.as_dict() if report else None for name, report in reports.items()},
        "test": {name: report.as_dict() if report else None for name, report in tests.items()},
        "quadrants": validation.quadrants if validation else None,
        "same_tool_repeats": {name: report.mean("same_tool_repeats") for name, report in reports.items() if report},
        "comparison": {
            "validation": validation.as_dict() if validation else None,
            "test": test.as_dict() if test else None,
        },
        **({"not_compared": refused} if refused else {}),
    }


def _compared(
    split: str, baseline: EvalReport | None, candidate: EvalReport | None, refused: dict[str, str]
) -> Comparison | None:
    """None where there is nothing to compare, or what there is must not be compared: `refused` then says why."""
    if baseline is None or candidate is None:
        return None
    try:
        return compare(baseline, candidate)
    except ConfigError as error:
        refused[split] = str(error)
        return None


def _difference(values_N2: Floats, draws_R2: Floats | None) -> Difference:
    if not len(values_N2):
        return Difference(math.nan, math.nan, math.nan, None, None, None, None)
    baseline, candidate = (float(mean) for mean in values_N2.mean(axis=0))
    return Difference(
        baseline=baseline,
        candidate=candidate,
        change=candidate - baseline,
        change_interval=None if draws_R2 is None else percentile_interval(draws_R2[:, 1] - draws_R2[:, 0]),
        change_interval_t=t_interval(values_N2[:, 1] - values_N2[:, 0]),
        relative=(candidate - baseline) / baseline if baseline else None,
        relative_interval=_relative_interval(draws_R2),
    )


def _difference_of_ratios(values_N2K: Floats, draws_R2K: Floats | None, over: int, under: int) -> Difference:
    """As `_difference`, for the ratio of two metrics' means; it has no t interval, being no mean."""
    if not len(values_N2K):
        return _difference(values_N2K[:, :, 0], None)
    means_2K = values_N2K.mean(axis=0)
    baseline, candidate = (float(ratio) for ratio in _ratio(means_2K[:, over], means_2K[:, under]))
    draws_R2 = None if draws_R2K is None else _ratio(draws_R2K[:, :, over], draws_R2K[:, :, under])
    return Difference(
        baseline=baseline,
        candidate=candidate,
        change=candidate - baseline,
        change_interval=None if draws_R2 is None else percentile_interval(draws_R2[:, 1] - draws_R2[:, 0]),
        change_interval_t=None,
        relative=(candidate - baseline) / baseline if baseline else None,
        relative_interval=_relative_interval(draws_R2),
    )


def _ratio(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.zeros_like(over), where=under > 0)


def _relative_interval(draws_R2: Floats | None) -> Interval | None:
    """None where a resample has no baseline to divide by."""
    if draws_R2 is None or not np.all(draws_R2[:, 0]):
        return None
    return percentile_interval(draws_R2[:, 1] / draws_R2[:, 0] - 1)


def _quadrants(rewards_N2: Floats, calls_N2: Floats) -> dict[str, int]:
    rewards = _signs(rewards_N2[:, 1] - rewards_N2[:, 0], REWARD_CHANGES)
    calls = _signs(calls_N2[:, 1] - calls_N2[:, 0], CALL_CHANGES)
    counts = Counter(f"{reward}_{call}" for reward, call in zip(rewards, calls, strict=True))
    return {quadrant: counts[quadrant] for quadrant in QUADRANTS}


def _signs(changes: Floats, words: Sequence[str]) -> list[str]:
    return [words[0] if change < -TOLERANCE else words[2] if change > TOLERANCE else words[1] for change in changes]
