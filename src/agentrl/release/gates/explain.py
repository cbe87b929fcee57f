"""Every row of a config in full: what it measures, what passes and fails it, how many sessions and days it needs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.config.durations import seconds_of
from agentrl.config.metrics import METRICS
from agentrl.config.release import FEEDBACK, GateConfig, ReleaseConfig
from agentrl.printable import printable
from agentrl.release.gates.outcomes import margin_of
from agentrl.release.gates.planned import Needed, needed
from agentrl.release.gates.readings import share_of_alpha
from agentrl.release.gates.words import shown_change, shown_value

NEVER_IN_SHADOW = ("human_override_rate", "reliability_score", "safety_violations", "tool_error_rate")
GRADED_IN_SHADOW = ("completion_quality", "cost_per_success", "task_success")
LABEL = 12
"""Characters of the column of keys."""


@dataclass(frozen=True)
class StagePlan:
    """A gate in one of its stages."""

    stage: str
    needed: Needed | None
    """None: drills and thresholds are counted, not planned."""
    days: float | None
    """Until the decision at the declared traffic, label lag included; None where that is not known."""
    alpha_rollback: float
    """This gate's share of the chance of a false alarm."""
    warning: str = ""


@dataclass(frozen=True)
class Explained:
    """A row and its stages."""

    gate: GateConfig
    stages: tuple[StagePlan, ...]

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {"gate": self.gate.model_dump(mode="json"), "stages": [asdict(each) for each in self.stages]}


def explain(release: ReleaseConfig, *, is_shadow_graded: bool | None = None) -> list[Explained]:
    """All rows of a config, in its order.

    Args:
        is_shadow_graded: `gateway.shadow.grade`; None where the config has no gateway.
    """
    counts = {
        stage: sum(stage in gate.stages for gate in release.gates) for gate in release.gates for stage in gate.stages
    }
    return [
        Explained(gate, tuple(_stage(release, gate, stage, counts[stage], is_shadow_graded) for stage in gate.stages))
        for gate in release.gates
    ]


def _stage(
    release: ReleaseConfig, gate: GateConfig, stage: str, count: int, is_shadow_graded: bool | None
) -> StagePlan:
    share = release.canary_traffic_percent / 100
    found = needed(gate, stage, share=share)
    alpha = gate.alpha_rollback / count
    if stage == "shadow" and (problem := _unseen_in_shadow(gate, is_shadow_graded)):
        return StagePlan(stage, found, None, alpha, problem)
    if found is None or stage == "offline_eval":
        return StagePlan(stage, found, None, alpha, found.reason if found and found.candidate is None else "")
    if found.candidate is None:
        return StagePlan(stage, found, None, alpha, found.reason)
    if release.sessions_per_week is None:
        return StagePlan(stage, found, None, alpha)
    per_day = release.sessions_per_week / 7 * (share if stage == "canary" else 1)
    days = found.candidate / per_day + seconds_of(gate.label_lag) / 86400
    longest = seconds_of(gate.max_wait) / 86400
    warning = ""
    if days > longest:
        traffic = f"{release.sessions_per_week:,} sessions a week"
        wanted = f"about {days:.3g} days at {traffic}, max_wait is {gate.max_wait}"
        warning = f"cannot decide in time: {wanted}; widen the margin, raise the share, or wait longer"
    return StagePlan(stage, found, round(days, 2), alpha, warning)


def _unseen_in_shadow(gate: GateConfig, is_graded: bool | None) -> str:
    """Why a gate would never be decided in shadow; empty where it may be."""
    if gate.metric in NEVER_IN_SHADOW:
        return f"a candidate in shadow has no {gate.metric}: this stays inconclusive; leave shadow out of `stages`"
    if gate.metric in GRADED_IN_SHADOW and is_graded is False:
        return f"a candidate in shadow has {gate.metric} where gateway.shadow.grade is on, and it is off"
    return ""


def explanation_text(release: ReleaseConfig, rows: list[Explained], *, width: int) -> str:
    """For a terminal of so many columns."""
    n = len(rows)
    traffic = "traffic not declared (release.sessions_per_week), so no days are told"
    if release.sessions_per_week is not None:
        traffic = f"{release.sessions_per_week:,} sessions a week"
    head = f"{n} gate{'s' * (n != 1)}; canary {release.canary_traffic_percent:g} %; {traffic}"
    lines = [head]
    for row in rows:
        lines += ["", *_row(row, width)]
    warned = sum(bool(stage.warning) for row in rows for stage in row.stages)
    if warned:
        lines += ["", f"{warned} warning{'s' * (warned != 1)}, marked with !"]
    return "\n".join(lines)


def _row(row: Explained, width: int) -> Iterator[str]:
    gate = row.gate
    yield f"{printable(gate.name)}  ({gate.severity})"
    for label, text in _facts(gate):
        yield from _wrapped(label, text, width)
    for plan in row.stages:
        yield from _wrapped(plan.stage, _stage_text(gate, plan), width)
        if plan.warning:
            yield from _wrapped("!", plan.warning, width)


def _wrapped(label: str, text: str, width: int) -> list[str]:
    start = f"  {label:<{LABEL}} "
    return textwrap.wrap(text, max(width, 60), initial_indent=start, subsequent_indent=" " * len(start))


def _facts(gate: GateConfig) -> Iterator[tuple[str, str]]:
    metric = METRICS.get(gate.metric)
    if metric is not None:
        says = metric.says
    else:
        says = (
            "a number that comes with feedback" if gate.function == FEEDBACK else f"by {printable(gate.function or '')}"
        )
    way = gate.direction.replace("_is_", " is ")
    yield "measures", f"{gate.metric}, {gate.statistic}: {says}; {way}"
    yield "passes", _passes(gate)
    yield "fails", _fails(gate)
    least = f"{gate.min_samples.candidate} {'drills' if gate.unit == 'drill' else 'sessions of the candidate'}"
    if gate.compare != "absolute":
        least += f", {gate.min_samples.baseline} of the baseline (pairs: {gate.min_samples.candidate})"
    if gate.unit == "drill":
        yield "needs", f"at least {least}"
        return
    lag = "" if seconds_of(gate.label_lag) == 0 else f" that are {gate.label_lag} old"
    sampled = metric is not None and metric.is_sampled
    missing = "" if sampled else f"; at most {gate.max_missing:.0%} without the metric"
    yield "needs", f"at least {least}{lag}{missing}; waits {gate.max_wait}, on no data: {gate.on_missing}"


def _passes(gate: GateConfig) -> str:
    bound = _bound(gate, margin_of(gate))
    if gate.test == "threshold":
        word = "at most" if gate.statistic == "count" else "below"
        return f"the {gate.statistic} is {word if gate.direction == 'lower_is_better' else 'above'} {bound}"
    side = "at most" if gate.direction == "lower_is_better" else "at least"
    against = "" if gate.compare == "absolute" else " against the baseline"
    cap = "" if gate.cap is None else f", and its own rate to be below {shown_value(gate.metric, 'rate', gate.cap)}"
    return f"shown to be {side} {bound}{against}{cap} (chance of error {gate.alpha_promote:g})"


def _fails(gate: GateConfig) -> str:
    if gate.test == "threshold":
        return "otherwise; what only grows, before the minimum too"
    is_from_zero = gate.severity == "hard" and gate.compare != "absolute"
    bound = "no change at all" if is_from_zero else _bound(gate, margin_of(gate))
    found = [f"shown to be worse than {bound} (chance of error {gate.alpha_rollback:g}, shared by the stage's gates)"]
    if gate.fail_at_events is not None:
        found.append(f"at {gate.fail_at_events} session{'s' * (gate.fail_at_events != 1)} with an event")
    if gate.metric == "safety_violations":
        found.append("at the first violation where none is tolerated")
    return "; or ".join(found)


def _bound(gate: GateConfig, value: float | None) -> str:
    scale = "value"
    if gate.margin is not None:
        scale = "difference" if gate.margin.relative is None else "ratio"
    return shown_change(gate.metric, gate.statistic, scale, value)


def _stage_text(gate: GateConfig, plan: StagePlan) -> str:
    found = plan.needed
    if found is None:
        return f"{gate.test} of {'drills' if gate.unit == 'drill' else 'what was seen'}"
    test = _test_in(gate, plan.stage, found)
    if found.candidate is None:
        return f"{test}; alpha {plan.alpha_rollback:.2g} to fail"
    size = f"{found.candidate:,} pairs" if found.is_paired else f"{found.candidate:,} sessions of the candidate"
    if found.baseline:
        size += f" beside {found.baseline:,}"
    days = "" if plan.days is None else f", {plan.days:.3g} days"
    return f"{test}; about {size}{days}; alpha {plan.alpha_rollback:.2g} to fail"


def _test_in(gate: GateConfig, stage: str, found: Needed) -> str:
    if stage == "offline_eval":
        kind = "exact" if gate.statistic == "rate" else "bootstrap" if gate.compare != "absolute" else gate.test
        return f"{kind} in pairs, one look" if found.is_paired else "one look"
    where = " in pairs" if found.is_paired else ""
    if gate.test == "confidence_sequence":
        return f"confidence sequence{where}, any look"
    if gate.test == "group_sequential":
        return f"group sequential{where}, {gate.looks} looks"
    sizes = ", ".join(f"{gate.min_samples.candidate << n:,}" for n in range(3))
    first = f"{share_of_alpha(1):.2g}, {share_of_alpha(2):.2g}, {share_of_alpha(3):.2g}"
    return f"{gate.test}{where}, read at {sizes}, ... for {first}, ... of alpha"
