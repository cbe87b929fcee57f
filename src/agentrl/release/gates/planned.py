"""How many sessions a row needs, from its margin and what it takes for granted. Needs no evidence.

Planned for a candidate that is truly equal, to be shown so with a chance of POWER. Only the chance of an error rests on
evidence: a plan from wrong assumptions makes a gate slower or faster, not less right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from agentrl.config.metrics import METRICS, MetricRow
from agentrl.config.release import GateConfig
from agentrl.release.gates.readings import share_of_alpha
from agentrl.release.statistics.planning import (
    Plan,
    cost_variance,
    geo_mean_variance,
    plan_difference,
    plan_log_ratio,
    plan_zero_events,
    quantile_variance,
    sequence_factor,
)
from agentrl.release.statistics.sums import effective_n

POWER = 0.8
ONE_ARM = 1e-9
"""Share of the candidate against an arm that adds nothing to the variance: a limit, or the partner in a pair."""
ASSUMED_SUCCESS = 0.8
UNKNOWN = MetricRow("a metric of the team's own", ())


@dataclass(frozen=True)
class Needed:
    """Sessions for a decision in one stage."""

    candidate: int | None
    """None: no number is enough, or none was planned, and `reason` says why."""
    baseline: int | None
    """0 in pairs, which are counted under `candidate`, and of one arm."""
    is_paired: bool
    reason: str = ""


def plan(gate: GateConfig, *, share: float | None) -> Plan | None:
    """Sessions of one look at a size fixed beforehand; None for drills and thresholds, which plan nothing.

    Args:
        share: of the candidate's sessions, in (0, 1); None in pairs, whose halves of the variance fall out as far as
            the arms agree (half of it is assumed).
    """
    if gate.unit == "drill" or gate.test == "threshold":
        return None
    return _at(gate, share, gate.alpha_promote)


def needed(gate: GateConfig, stage: str, *, share: float) -> Needed | None:
    """What a stage needs: more than one fixed look, where it is looked at again and again. None: nothing is planned."""
    is_paired = stage != "canary" and gate.compare != "absolute"
    share_here = None if is_paired else share
    found = plan(gate, share=share_here)
    if found is None:
        return None
    if found.candidate is None:
        return Needed(None, None, is_paired, found.reason)
    size = max(found.candidate, gate.min_samples.candidate)
    is_given = gate.planned_sessions is not None
    if stage != "offline_eval" and gate.test == "confidence_sequence" and not is_given:
        size = max(math.ceil(found.candidate * sequence_factor(gate.alpha_promote, POWER)), gate.min_samples.candidate)
    elif stage != "offline_eval" and gate.test not in ("confidence_sequence", "group_sequential"):
        size = _doubled(gate, share_here)
    if is_paired or gate.compare == "absolute":
        return Needed(size, 0, is_paired)
    return Needed(size, max(math.ceil(size * (1 - share) / share), gate.min_samples.baseline), is_paired)


def _doubled(gate: GateConfig, share: float | None) -> int:
    """The reading of a fixed test that is large enough for the alpha that is left for it."""
    size, reading = max(gate.min_samples.candidate, 1), 1
    while reading < 40:
        wanted = _at(gate, share, gate.alpha_promote * share_of_alpha(reading)).candidate
        if wanted is None or wanted <= size:
            break
        size, reading = 2 * size, reading + 1
    return size


def _at(gate: GateConfig, share: float | None, alpha: float) -> Plan:
    split = ONE_ARM if share is None or gate.compare == "absolute" else share
    if gate.planned_sessions is not None:
        n = gate.planned_sessions
        if split == ONE_ARM:
            return Plan(n, 0, float(n), 1.0)
        other = math.ceil(n * (1 - split) / split)
        return Plan(n, other, float(effective_n(n, other)), split)
    found = _of_margin(gate, split, alpha)
    if gate.statistic == "rate" and gate.compare != "absolute" and found.candidate is not None:
        assert gate.margin is not None  # a rule of the config
        rare = plan_zero_events(gate.margin.absolute or 0.0, alpha=alpha) or 0
        found = replace(found, candidate=max(found.candidate, rare))  # rates near 0 are not normal
    if split == ONE_ARM and found.candidate is not None:
        return replace(found, baseline=0, effective=float(found.candidate), share=1.0)
    return found


def _of_margin(gate: GateConfig, share: float, alpha: float) -> Plan:
    row = METRICS.get(gate.metric, UNKNOWN)
    baseline = row.baseline if gate.assume.baseline is None else gate.assume.baseline
    spread = row.spread if gate.assume.spread is None else gate.assume.spread
    if gate.compare == "absolute":
        return _against_limit(gate, baseline, spread, alpha)
    assert gate.margin is not None  # a rule of the config
    if gate.margin.relative is not None:
        variance, missing = _log_variance(gate, baseline, spread)
        if variance is None:
            return _unknown(missing, share)
        return plan_log_ratio(variance, gate.margin.relative, share=share, alpha=alpha, power=POWER)
    assert gate.margin.absolute is not None  # exactly one of the two
    variance, missing = _variance(gate, baseline, spread)
    if variance is None:
        return _unknown(missing, share)
    return plan_difference(variance, gate.margin.absolute, share=share, alpha=alpha, power=POWER)


def _variance(gate: GateConfig, baseline: float | None, spread: float | None) -> tuple[float | None, str]:
    """Of one session, in the statistic's own unit; or which key is not said."""
    if gate.statistic == "rate":
        return (None, "baseline") if baseline is None else (baseline * (1 - baseline), "")
    if spread is None:
        return None, "spread"
    if gate.statistic == "ratio_of_sums":  # whose spread is a fraction of it
        return (None, "baseline") if baseline is None else ((spread * baseline) ** 2, "")
    return spread**2, ""


def _log_variance(gate: GateConfig, baseline: float | None, spread: float | None) -> tuple[float | None, str]:
    """Of one session, on the scale of the logarithm; or which key is not said."""
    kind, _, level = gate.statistic.partition(":")
    if spread is None:
        return None, "spread"
    if gate.metric == "cost_per_success":
        return cost_variance(spread, ASSUMED_SUCCESS), ""
    if kind == "geo_mean":
        return geo_mean_variance(spread), ""
    if kind == "quantile":
        return quantile_variance(spread, float(level)), ""
    if kind == "ratio_of_sums":
        return spread**2, ""
    return (None, "baseline") if not baseline else ((spread / baseline) ** 2, "")


def _against_limit(gate: GateConfig, baseline: float | None, spread: float | None, alpha: float) -> Plan:
    """One arm: the margin is how far the assumed value is from the limit."""
    assert gate.limit is not None  # a rule of the config
    if baseline is None:
        return _unknown("baseline", 1.0)
    variance, missing = _variance(gate, baseline, spread)
    if variance is None:
        return _unknown(missing, 1.0)
    distance = gate.limit - baseline if gate.direction == "lower_is_better" else baseline - gate.limit
    if distance <= 0:
        return Plan(None, None, 0.0, 1.0, f"the assumed {baseline:g} is beyond the limit of {gate.limit:g} itself")
    return plan_difference(variance, distance, share=ONE_ARM, alpha=alpha, power=POWER)


def _unknown(key: str, share: float) -> Plan:
    return Plan(None, None, 0.0, share, f"not planned: the row says no assume.{key}")
