"""A week's money: cost per success of the sessions alone, and loaded with what people do beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentrl.config.costs import LINES, CostLineConfig, CostsConfig
from agentrl.release.review.weeks import WeekFigures

OPTIMISTIC = "optimistic by default"
"""Printed wherever a line of cost is missing: what is not counted is not free."""


@dataclass(frozen=True)
class CostLine:
    """A line of a week; an amount of None was not given, which is not 0."""

    name: str
    amount: float | None
    """In the currency of the costs."""
    how: str
    """amount, hours, labels, incident_hours, or missing."""
    count: float | None = None
    """Hours or labels."""
    price: float | None = None
    """Of one of them."""


@dataclass(frozen=True)
class WeekBudget:
    """Amounts are in `currency`. None is not known, never 0."""

    workflow: str
    week: str
    currency: str
    per_usd: float
    per_usd_source: str
    sessions: int
    successes: int
    unpriced: int
    run_cost: float | None
    """Of all sessions with a price."""
    run_cost_per_success: float | None
    lines: tuple[CostLine, ...]
    lines_cost: float
    """Sum of the lines that were given."""
    loaded_cost_per_success: float | None
    """Run cost and lines; a lower bound where a line is missing."""
    missing: tuple[str, ...]
    """Names of the lines that were not given."""
    value_per_success: float | None
    pays: bool | None
    """Whether a success is worth more than its loaded cost; None where something is missing that could change it."""
    why: str

    @property
    def is_optimistic(self) -> bool:
        """Whether the loaded cost leaves something out."""
        return bool(self.missing or self.unpriced)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return {**asdict(self), "is_optimistic": self.is_optimistic}


def week_budget(workflow: str, figures: WeekFigures, costs: CostsConfig, incident_hours: float | None) -> WeekBudget:
    """The money of one week.

    Args:
        incident_hours: from the incident records of that week; None where one of them does not tell.
    """
    per_usd = costs.per_usd or 1.0
    lines = week_lines(costs, figures.week, incident_hours)
    missing = tuple(line.name for line in lines if line.amount is None)
    lines_cost = sum(line.amount or 0.0 for line in lines)
    run = None if figures.cost_per_success_usd is None else figures.cost_per_success_usd * per_usd
    loaded = None if run is None or not figures.successes else run + lines_cost / figures.successes
    pays, why = _pays(loaded, costs.value_per_success, missing, figures.unpriced)
    return WeekBudget(
        workflow=workflow,
        week=figures.week,
        currency=costs.currency,
        per_usd=per_usd,
        per_usd_source=costs.per_usd_source,
        sessions=figures.sessions,
        successes=figures.successes,
        unpriced=figures.unpriced,
        run_cost=None if figures.cost_usd is None else figures.cost_usd * per_usd,
        run_cost_per_success=run,
        lines=tuple(lines),
        lines_cost=lines_cost,
        loaded_cost_per_success=loaded,
        missing=missing,
        value_per_success=costs.value_per_success,
        pays=pays,
        why=why,
    )


def week_lines(costs: CostsConfig, week: str, incident_hours: float | None) -> list[CostLine]:
    """The three that every deployed policy has, given or not, and the team's own; a week's own lines go first."""
    own = costs.weeks.get(week)
    found: list[CostLine] = []
    for name in LINES:
        line = (getattr(own, name) if own else None) or getattr(costs, name)
        found.append(_line(name, line, incident_hours if name == "incidents" else None))
    others: Mapping[str, CostLineConfig] = {**costs.other, **(own.other if own else {})}
    return [*found, *(_line(name, line, None) for name, line in others.items())]


def _line(name: str, line: CostLineConfig | None, incident_hours: float | None) -> CostLine:
    if line is None:
        return CostLine(name, None, "missing")
    if line.amount is not None:
        return CostLine(name, line.amount, "amount")
    if line.labels is not None and line.price_per_label is not None:
        return CostLine(name, line.labels * line.price_per_label, "labels", line.labels, line.price_per_label)
    if line.hours is not None and line.hourly_rate is not None:
        return CostLine(name, line.hours * line.hourly_rate, "hours", line.hours, line.hourly_rate)
    if line.hourly_rate is None or incident_hours is None:
        return CostLine(name, None, "missing", None, line.hourly_rate)
    return CostLine(name, incident_hours * line.hourly_rate, "incident_hours", incident_hours, line.hourly_rate)


def _pays(loaded: float | None, value: float | None, missing: Sequence[str], unpriced: int) -> tuple[bool | None, str]:
    if loaded is None:
        return None, "no success with a known cost"
    if value is None:
        return None, "release.costs.value_per_success is not given"
    if loaded >= value:
        return False, "a success costs at least what it is worth"
    if missing:
        return None, f"{OPTIMISTIC}: {', '.join(missing)} not given"
    if unpriced:
        return None, f"{OPTIMISTIC}: {unpriced} sessions have no price"
    return True, "a success is worth more than its loaded cost"
