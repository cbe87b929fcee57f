"""The decision frame: unit economics, quality, velocity, credibility, each filled from the records, each by a rule.

An axis speaks for going on, against it, or is not known; what is not recorded never speaks for it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from agentrl.release.budget.loaded import OPTIMISTIC, WeekBudget
from agentrl.release.budget.standing import RECENT_DAYS, Standing
from agentrl.release.records import MAX_ROLLBACK_SECONDS
from agentrl.release.review.trend import ScalingRule
from agentrl.release.review.weeks import WeekFigures

MIN_DRILLS = 3
FOR, AGAINST, UNKNOWN = "for", "against", "unknown"


@dataclass(frozen=True)
class Axis:
    """One of the four."""

    name: str
    says: str
    """for, against or unknown."""
    because: str
    figures: tuple[tuple[str, float | None, str], ...]
    """(what, value, unit); None was not recorded."""

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "figures": [{"what": w, "value": v, "unit": u} for w, v, u in self.figures]}


def decision_frame(
    budget: WeekBudget, figures: WeekFigures, rule: ScalingRule, standing: Standing
) -> tuple[Axis, Axis, Axis, Axis]:
    """The four axes, in their order."""
    return (
        _economics(budget),
        _quality(figures, rule, standing),
        _velocity(standing),
        _credibility(budget, standing),
    )


def _economics(budget: WeekBudget) -> Axis:
    says = {True: FOR, False: AGAINST, None: UNKNOWN}[budget.pays]
    per = f"{budget.currency} per success"
    rows = (
        ("cost as run", budget.run_cost_per_success, per),
        ("loaded cost", budget.loaded_cost_per_success, per),
        ("worth", budget.value_per_success, per),
        ("successes", float(budget.successes), "a week"),
    )
    return Axis("unit economics", says, budget.why, rows)


def _quality(figures: WeekFigures, rule: ScalingRule, standing: Standing) -> Axis:
    failed = sum(counts.get("fail", 0) for counts in standing.gates.values())
    rows = (
        ("success", figures.success_rate, "of sessions"),
        ("human override", figures.override_rate, "of sessions"),
        ("tool errors", figures.tool_error_rate, "of calls"),
        ("reliability score", figures.score, ""),
        ("score, a week", rule.score.per_week, "slope"),
        ("gates failed", float(failed) if standing.gates else None, "last looks"),
    )
    if failed:
        return Axis("quality", AGAINST, f"{failed} gate{'s' * (failed != 1)} of {standing.release_id} failed", rows)
    if rule.score.direction == "falling":
        return Axis("quality", AGAINST, "the reliability score is falling", rows)
    if figures.score is None or not standing.gates:
        missing = "no reliability score" if figures.score is None else "no verdict"
        return Axis("quality", UNKNOWN, f"{missing} is recorded", rows)
    if rule.score.direction == "unknown":
        weeks = rule.score.weeks
        because = f"whether the reliability score falls takes 3 weeks; it is known of {weeks}"
        return Axis("quality", UNKNOWN, because, rows)
    return Axis("quality", FOR, "no gate failed, and the reliability score is not falling", rows)


def _velocity(standing: Standing) -> Axis:
    rows = (
        ("from draft to all users", standing.days_to_general, "days"),
        ("promoted", float(standing.promoted), f"in {RECENT_DAYS:g} days"),
        ("rolled back", float(standing.rolled_back), f"in {RECENT_DAYS:g} days"),
        ("rejected", float(standing.rejected), f"in {RECENT_DAYS:g} days"),
        ("last recovery", standing.last_recovery_seconds, "seconds"),
    )
    stopped = standing.rolled_back + standing.rejected
    if standing.promoted:
        return Axis("velocity", FOR, f"{standing.promoted} promoted in {RECENT_DAYS:g} days", rows)
    if stopped:
        return Axis("velocity", AGAINST, f"none promoted in {RECENT_DAYS:g} days, {stopped} stopped", rows)
    return Axis("velocity", UNKNOWN, f"no release has ended in {RECENT_DAYS:g} days", rows)


def _credibility(budget: WeekBudget, standing: Standing) -> Axis:
    rows = (
        ("drills that count", float(standing.drills), ""),
        ("slowest drill", standing.worst_drill_seconds, "seconds"),
        ("incidents open", float(standing.incidents_open), ""),
        ("incidents closed", float(standing.incidents_closed), "with class, owner and cause"),
        ("audit entries", float(standing.audit_entries), ""),
        ("cost lines missing", float(len(budget.missing)), OPTIMISTIC if budget.missing else ""),
    )
    worst = standing.worst_drill_seconds
    if standing.audit_problem:
        return Axis("credibility", AGAINST, f"the audit log is not whole: {standing.audit_problem}", rows)
    if worst is not None and worst >= MAX_ROLLBACK_SECONDS:
        return Axis("credibility", AGAINST, f"a rollback drill took {worst:.0f} s, the limit is 300 s", rows)
    if standing.incidents_open:
        return Axis("credibility", AGAINST, f"{standing.incidents_open} incidents are open", rows)
    gaps = [
        *([f"{standing.drills} of {MIN_DRILLS} drills"] if standing.drills < MIN_DRILLS else []),
        *(["no entry of the audit log"] if not standing.audit_entries else []),
        *([f"cost lines missing: {', '.join(budget.missing)}"] if budget.missing else []),
    ]
    if gaps:
        return Axis("credibility", UNKNOWN, "; ".join(gaps), rows)
    return Axis(
        "credibility", FOR, "drilled, the audit log is whole, incidents are closed, no cost line is missing", rows
    )
