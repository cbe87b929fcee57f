"""From the sessions that count to an estimate with bounds: which method a row's test means for the evidence there is.

    evidence    confidence_sequence, group_sequential     newcombe, exact_paired          bootstrap
    unpaired    of the difference or the log ratio        Newcombe                        of the arms
    in pairs    of the differences within pairs           Newcombe's for pairs            of the pairs
    one arm     of its value                              Clopper-Pearson                 of the arm

Where sessions share a cluster, counts are no longer binomial: the interval is the cluster-robust one. An offline
evaluation is read once, so sequences give way to one look there. In live stages the tests of the last two columns,
which hold for one look, are read at growing sizes and pay for each of them, see `readings`; but for the counts of
safety violations, independent and unpaired: one event that comes early is none that Newcombe's interval is made for,
and `exact_sequence` holds at every look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

import numpy as np

from agentrl.config.release import GateConfig
from agentrl.release.gates.arms import Arms, Unit
from agentrl.release.gates.planned import plan
from agentrl.release.gates.readings import readings, share_of_alpha
from agentrl.release.statistics import bootstrap as resampling
from agentrl.release.statistics.bounds import Bounds, undefined
from agentrl.release.statistics.exact_sequences import exact_own_sequence, exact_sequence
from agentrl.release.statistics.group_sequential import group_sequential
from agentrl.release.statistics.proportions import clopper_pearson, newcombe, paired_difference
from agentrl.release.statistics.sequences import confidence_sequence, fixed_look
from agentrl.release.statistics.sums import (
    ArmSums,
    Estimate,
    arm_sums,
    difference,
    geo_ratio,
    log_ratio,
    own_value,
)

FEW_PLANNED = 400.0
"""Effective sample size at which a sequence is sharpest where no plan can be made."""


class Alphas(TypedDict):
    """`Sides` under the names that statistics take."""

    alpha_lower: float
    alpha_upper: float


@dataclass(frozen=True)
class Sides:
    """Chance of error on each side of an interval."""

    lower: float
    upper: float

    def over(self, readings: float) -> Sides:
        """Each divided."""
        return Sides(self.lower / readings, self.upper / readings)

    def named(self) -> Alphas:
        """As keywords."""
        return {"alpha_lower": self.lower, "alpha_upper": self.upper}


def bounds_of(
    gate: GateConfig, arms: Arms, *, alphas: Sides, is_live: bool, share: float | None
) -> tuple[Bounds, Arms]:
    """The bounds of a row, and the sessions that they are made of.

    Args:
        alphas: of a reading that is the only one.
        is_live: whether it is looked at again and again.
        share: of the candidate's sessions, in (0, 1); None in pairs and of one arm.
    """
    planned = plan(gate, share=None if arms.is_paired else share if share is not None else 0.5)
    if not is_live:
        return _once(gate, arms, alphas), arms
    if gate.test == "confidence_sequence":
        effective = planned.effective if planned is not None and planned.effective > 0 else FEW_PLANNED
        return confidence_sequence(_estimate(gate, arms), **alphas.named(), planned_n=effective), arms
    if gate.test == "group_sequential":
        return _at_look(gate, arms, alphas, planned.candidate if planned is not None else None)
    is_rare = gate.metric == "safety_violations" and gate.statistic == "rate"  # told beforehand, not by the data
    if gate.test == "newcombe" and is_rare and not arms.is_paired and not _is_clustered(arms):
        return _exact_counts(gate, arms, alphas.named(), share), arms
    reading, n = readings(len(arms.candidate), gate.min_samples.candidate)
    if reading == 0:
        return _once(gate, arms, alphas), arms
    arms = arms.first(n)
    return _once(gate, arms, alphas.over(1 / share_of_alpha(reading))), arms


def _at_look(gate: GateConfig, arms: Arms, alphas: Sides, planned: int | None) -> tuple[Bounds, Arms]:
    """At the last of the registered looks that is due, on the sessions up to it."""
    if not planned:
        reason = "a group_sequential test needs planned_sessions, or what it can be computed from"
        return undefined(reason, method="group_sequential", **alphas.named()), arms
    look = min(gate.looks, len(arms.candidate) * gate.looks // planned)
    size = math.ceil(look * planned / gate.looks)
    arms = arms.first(size) if look else arms
    found = group_sequential(_estimate(gate, arms), **alphas.named(), look=look, looks=gate.looks)
    return found, arms


def _once(gate: GateConfig, arms: Arms, alphas: Sides) -> Bounds:
    """By the test of one look that fits the row and its evidence."""
    sides = alphas.named()
    if gate.test == "bootstrap":
        return _resampled(gate, arms, sides)
    if gate.statistic == "rate" and not _is_clustered(arms):
        return _counts(gate, arms, sides)
    if arms.is_paired and gate.statistic != "rate":
        return _resampled(gate, arms, sides)
    return fixed_look(_estimate(gate, arms), **sides)


def _is_clustered(arms: Arms) -> bool:
    """Whether any two sessions of an arm share a cluster."""
    return any(len({unit.cluster for unit in side}) < len(side) for side in (arms.candidate, arms.baseline))


def _counts(gate: GateConfig, arms: Arms, sides: Alphas) -> Bounds:
    """Of a rate, whose sessions are independent."""
    candidate, baseline = ([unit.parts[0][0] for unit in side] for side in (arms.candidate, arms.baseline))
    if any(value not in (0.0, 1.0) for value in (*candidate, *baseline)):
        return undefined(f"{gate.metric} is no rate: found values besides 0 and 1", method="newcombe", **sides)
    events, n = int(sum(candidate)), len(candidate)
    if gate.compare == "absolute":
        return clopper_pearson(events, n, **sides)
    if arms.is_paired:
        both = sum(one == other == 1 for one, other in zip(candidate, baseline, strict=True))
        only_candidate, only_baseline = events - both, int(sum(baseline)) - both
        neither = n - both - only_candidate - only_baseline
        return paired_difference(both, only_candidate, only_baseline, neither, **sides).named("exact_paired")
    return newcombe(events, n, int(sum(baseline)), len(baseline), **sides)


def _exact_counts(gate: GateConfig, arms: Arms, sides: Alphas, share: float | None) -> Bounds:
    """Of a rate of rare events, at every look: Newcombe's interval finds harm where one event came early."""
    candidate, baseline = ([unit.parts[0][0] for unit in side] for side in (arms.candidate, arms.baseline))
    if any(value not in (0.0, 1.0) for value in (*candidate, *baseline)):
        return undefined(f"{gate.metric} is no rate: found values besides 0 and 1", method="exact_sequence", **sides)
    events, n = int(sum(candidate)), len(candidate)
    if gate.compare == "absolute":
        return exact_own_sequence(events, n, **sides)
    return exact_sequence(events, n, int(sum(baseline)), len(baseline), **sides, share=share)


def _estimate(gate: GateConfig, arms: Arms) -> Estimate:
    """With a cluster-robust error."""
    event = 1.0 if gate.statistic == "rate" or gate.metric == "tool_error_rate" else 0.0
    if gate.compare == "absolute":
        return own_value(_sums(gate, arms.candidate), event=event)
    if arms.is_paired:
        return _within_pairs(gate, arms, event)
    candidate, baseline = _sums(gate, arms.candidate), _sums(gate, arms.baseline)
    if not _is_relative(gate):
        return difference(candidate, baseline, event=event)
    if gate.statistic == "geo_mean":
        return geo_ratio(candidate, baseline)
    return log_ratio(candidate, baseline)


def _is_relative(gate: GateConfig) -> bool:
    """Whether arms are divided rather than subtracted."""
    return gate.margin is not None and gate.margin.relative is not None


def _sums(gate: GateConfig, units: Sequence[Unit]) -> ArmSums:
    x, y = _columns(gate, units)
    return arm_sums(x, y, cluster=[unit.cluster for unit in units])


def _columns(gate: GateConfig, units: Sequence[Unit]) -> tuple[Any, Any]:
    """[N] x and [N] y of an arm's ratio of sums; of a product of ratios, what each session adds to it."""
    parts = np.array([unit.parts for unit in units], dtype=np.float64)  # [N, K, 2]
    if len(units) == 0:
        return np.zeros(0), np.zeros(0)
    if parts.shape[1] > 1:
        return _linear_product(parts), np.ones(len(units))
    x, y = parts[:, 0, 0], parts[:, 0, 1]
    if gate.statistic == "geo_mean":
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.log(x)
    return x, y


def product_of(parts: Any) -> float:
    """[N, K, 2] of one arm -> the product of its K ratios of sums; NaN where one has nothing to divide by."""
    sums = parts.sum(0)
    return float(np.prod(sums[:, 0] / sums[:, 1])) if sums[:, 1].all() else math.nan


def _linear_product(parts: Any) -> Any:
    """[N] values whose mean is `product_of` and whose variance is that of its first-order expansion."""
    sums, n = parts.sum(0), len(parts)
    if not sums[:, 1].all():
        return np.full(n, np.nan)
    rates = sums[:, 0] / sums[:, 1]
    slopes = np.array([np.prod(np.delete(rates, k)) for k in range(len(rates))])
    residuals = (parts[:, :, 0] - rates * parts[:, :, 1]) / (sums[:, 1] / n)
    return np.prod(rates) + residuals @ slopes


def _within_pairs(gate: GateConfig, arms: Arms, event: float) -> Estimate:
    """Of the differences within pairs, as one arm: what both sides of a pair share falls out of the error."""
    is_relative, ratios, adds = _is_relative(gate), [], []
    for units in (arms.candidate, arms.baseline):
        x, y = _columns(gate, units)
        total = y.sum() if len(units) else 0.0
        if total == 0:
            ratios.append(math.nan)
            adds.append(np.full(len(units), np.nan))
            continue
        ratio = float(x.sum() / total)
        each = ratio + (x - ratio * y) / (total / len(units))
        if is_relative and gate.statistic != "geo_mean":
            with np.errstate(divide="ignore", invalid="ignore"):
                each = np.log(ratio) + (each - ratio) / ratio if ratio > 0 else np.full(len(units), np.nan)
        ratios.append(ratio)
        adds.append(each)
    clusters = [unit.cluster for unit in arms.baseline]
    found = own_value(arm_sums(adds[0] - adds[1], cluster=clusters), event=0.0 if is_relative else event)
    shown = [math.exp(each) if gate.statistic == "geo_mean" else each for each in ratios]
    candidate, baseline = (each if math.isfinite(each) else None for each in shown)
    return replace(
        found,
        scale="ratio" if is_relative else "difference",
        candidate=candidate,
        baseline=baseline,
        n_baseline=found.n_candidate,
        clusters_baseline=found.clusters_candidate,
    )


def _resampled(gate: GateConfig, arms: Arms, sides: Alphas) -> Bounds:
    statistic = _statistic(gate)
    candidate, baseline = (
        np.array([unit.parts for unit in side], dtype=np.float64).reshape(len(side), -1)
        for side in (arms.candidate, arms.baseline)
    )
    clusters, others = ([unit.cluster for unit in side] for side in (arms.candidate, arms.baseline))
    if gate.compare == "absolute":
        return resampling.own_bootstrap(candidate, statistic, **sides, cluster=clusters)
    scale = "ratio" if _is_relative(gate) else "difference"
    if arms.is_paired:
        return resampling.paired_bootstrap(candidate, baseline, statistic, **sides, scale=scale, cluster=others)
    return resampling.bootstrap(
        candidate,
        baseline,
        statistic,
        **sides,
        scale=scale,
        cluster_candidate=clusters,
        cluster_baseline=others,
    )


def _statistic(gate: GateConfig) -> resampling.Statistic:
    """Of rows [N, 2 K]: x and y of each ratio."""
    kind, _, level = gate.statistic.partition(":")
    if gate.metric == "reliability_score":
        return resampling.product_of_ratios
    if kind == "quantile":
        return resampling.quantile(float(level))
    if kind == "geo_mean":
        return resampling.geo_mean
    return resampling.ratio_of_sums if kind == "ratio_of_sums" else resampling.mean
