"""Where each guard of a run stands: its newest value against the limits at which it warns and stops."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from agentrl.config import PPOConfig
from agentrl.ppo.rules import Rule, rules
from agentrl.ppo.signals import WINDOW
from agentrl.ppo.signals import Limit as Threshold
from agentrl.runs.files import finite
from agentrl.ui.charts import Limit
from agentrl.ui.figures import Row

FIRST_ROWS, LAST_ROWS, LAST_EVALUATIONS = 20, 5 * WINDOW, 2 * WINDOW
"""Of a long run, what the newest values are judged by: its first rows, its last ones, its last evaluations."""


@dataclass(frozen=True)
class GuardState:
    """One rule."""

    rule: str
    signal: str
    value: float | None
    """The newest, as the rule looks at it; None where there is nothing to judge yet."""
    step: int | None
    """Of that value."""
    warns: str
    """Beyond which limit; empty: it never warns."""
    stops: str
    state: str
    """ok, warn, stopped, over (its stop limit is broken, but the run was not stopped), or silent."""
    repair: str


def rules_of(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The rules under a resolved config; none where it is of another version, or not there."""
    try:
        ppo = PPOConfig.model_validate(config["ppo"])
        grading = config.get("grading") or {}
        return rules(ppo, max_score=float(grading.get("max_score", 1.0)))
    except (ValidationError, KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return ()


def guard_states(found: Sequence[Rule], rows: Sequence[Row], stopped_by: str) -> list[GuardState]:
    """Every rule; those that stopped the run or are broken first, those that never had anything to judge last."""
    history = _history(rows)
    states = [_state(rule, history, stopped_by) for rule in found]
    order = ("stopped", "over", "warn", "ok", "silent")
    return sorted(states, key=lambda state: order.index(state.state))


def worst(states: Sequence[GuardState]) -> tuple[str, str]:
    """The state that matters most, and in words who is in it."""
    for kind, words in (("stopped", "stopped by"), ("over", "beyond the stop limit:"), ("warn", "warns:")):
        if names := [state.rule for state in states if state.state == kind]:
            return kind, f"{words} {', '.join(names)}"
    return "ok", "all well"


def limits_of(found: Sequence[Rule], name: str) -> list[Limit]:
    """The thresholds of a rule as lines to draw."""
    drawn = []
    for rule in found:
        if rule.name == name:
            for threshold, is_stop in ((rule.warn, False), (rule.stop, True)):
                bounds = (threshold.low, threshold.high) if threshold else ()
                drawn += [Limit(bound, is_stop) for bound in bounds if math.isfinite(bound)]
    return drawn


def _history(rows: Sequence[Row]) -> list[dict[str, float]]:
    evaluated = [n for n, row in enumerate(rows) if "reward_validation" in row][-LAST_EVALUATIONS:]
    kept = {*range(min(FIRST_ROWS, len(rows))), *evaluated, *range(max(0, len(rows) - LAST_ROWS), len(rows))}
    return [_numbers(rows[n]) for n in sorted(kept) if rows[n]["step"] > 0]


def _numbers(row: Row) -> dict[str, float]:
    return {
        key: math.nan if (number := finite(value)) is None else number
        for key, value in row.items()
        if value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }


def _state(rule: Rule, history: Sequence[Mapping[str, float]], stopped_by: str) -> GuardState:
    points = rule.view(history)
    if rule.name == stopped_by:
        state = "stopped"
    elif not points:
        state = "silent"
    elif rule.stop is not None and rule.stop.is_broken(points):
        state = "over"
    else:
        state = "warn" if rule.warn is not None and rule.warn.is_broken(points) else "ok"
    newest = points[-1] if points else None
    return GuardState(
        rule=rule.name,
        signal=rule.signal,
        value=newest.value if newest else None,
        step=newest.step if newest else None,
        warns=_words(rule.warn),
        stops=_words(rule.stop),
        state=state,
        repair=rule.repair,
    )


def _words(threshold: Threshold | None) -> str:
    if threshold is None:
        return ""
    once = str(threshold._replace(steps=1, within=None))
    if threshold.steps == 1:
        return once
    often = f"within {threshold.within}" if threshold.within else "in a row"
    return f"{once}, {threshold.steps} times {often}"
