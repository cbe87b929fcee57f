"""How many sessions a row needs, from its margin and what it takes for granted. Needs no evidence."""

from __future__ import annotations

from dataclasses import replace

from agentrl.config.metrics import METRICS, MetricRow
from agentrl.config.release import GateConfig
from agentrl.release.statistics.planning import (
    Plan,
    cost_variance,
    geo_mean_variance,
    plan_difference,
    plan_log_ratio,
    quantile_variance,
)
from agentrl.release.statistics.sums import effective_n

POWER = 0.8
"""Chance that a candidate that is truly equal passes at the planned size."""
UNKNOWN = MetricRow("a metric of the team's own", (), baseline=None, spread=None)


def plan(gate: GateConfig, *, share: float) -> Plan | None:
    """Sessions that the row needs at a share of the candidate; None for drills and thresholds, which plan nothing.

    A row whose metric has no assumption of its own, and gives none, has a plan without sizes that says so.

    Args:
        share: of the candidate's sessions, in (0, 1). Pairs: 0.5, and the candidate's are the pairs.
    """
    if gate.unit == "drill" or gate.test == "threshold":
        return None
    found = _of_margin(gate, share)
    if gate.planned_sessions is None:
        return found
    n = gate.planned_sessions
    other = round(n * (1 - share) / share)
    return replace(found, candidate=n, baseline=other, effective=float(effective_n(n, other)), reason="")


def _of_margin(gate: GateConfig, share: float) -> Plan:
    row = METRICS.get(gate.metric, UNKNOWN)
    baseline = row.baseline if gate.assume.baseline is None else gate.assume.baseline
    spread = row.spread if gate.assume.spread is None else gate.assume.spread
    kind, _, level = gate.statistic.partition(":")
    if gate.compare == "absolute":
        return _against_limit(gate, kind, baseline, spread)
    assert gate.margin is not None  # a rule of the config
    relative = gate.margin.relative
    margin = gate.margin.absolute if relative is None else relative
    assert margin is not None
    alpha = gate.alpha_promote
    if kind == "rate":
        if baseline is None:
            return _unknown("assume.baseline", share)
        return plan_difference(baseline * (1 - baseline), margin, share=share, alpha=alpha, power=POWER)
    if spread is None:
        return _unknown("assume.spread", share)
    if gate.metric == "cost_per_success":
        return plan_log_ratio(cost_variance(spread, 0.8), margin, share=share, alpha=alpha, power=POWER)
    if kind == "geo_mean":
        return plan_log_ratio(geo_mean_variance(spread), margin, share=share, alpha=alpha, power=POWER)
    if kind == "quantile" and relative is not None:
        return plan_log_ratio(quantile_variance(spread, float(level)), margin, share=share, alpha=alpha, power=POWER)
    if kind == "ratio_of_sums":  # the spread is a fraction of the mean
        if relative is not None:
            return plan_log_ratio(spread**2, margin, share=share, alpha=alpha, power=POWER)
        if baseline is None:
            return _unknown("assume.baseline", share)
        return plan_difference((spread * baseline) ** 2, margin, share=share, alpha=alpha, power=POWER)
    if relative is not None:
        if not baseline:
            return _unknown("assume.baseline", share)
        return plan_log_ratio((spread / baseline) ** 2, margin, share=share, alpha=alpha, power=POWER)
    return plan_difference(spread**2, margin, share=share, alpha=alpha, power=POWER)


def _against_limit(gate: GateConfig, kind: str, baseline: float | None, spread: float | None) -> Plan:
    """One arm: the baseline is as good as endless, and the margin is how far the assumed value is from the limit."""
    assert gate.limit is not None  # a rule of the config
    nearly_all = 1e-9
    if baseline is None:
        return _unknown("assume.baseline", 1.0)
    distance = gate.limit - baseline if gate.direction == "lower_is_better" else baseline - gate.limit
    variance = baseline * (1 - baseline) if kind == "rate" else None if spread is None else spread**2
    if kind == "ratio_of_sums" and spread is not None:
        variance = (spread * baseline) ** 2
    if variance is None:
        return _unknown("assume.spread", 1.0)
    if distance <= 0:
        return Plan(None, None, 0.0, 1.0, f"the assumed {baseline:g} is beyond the limit of {gate.limit:g} itself")
    found = plan_difference(variance, distance, share=nearly_all, alpha=gate.alpha_promote, power=POWER)
    return replace(found, baseline=0, share=1.0)


def _unknown(key: str, share: float) -> Plan:
    return Plan(None, None, 0.0, share, f"not planned: the row says no {key}")
