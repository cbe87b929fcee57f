"""A workflow's budget as one record, and in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentrl.config.release import ReleaseConfig
from agentrl.release.budget.frame import decision_frame
from agentrl.release.budget.kept import keep_budget
from agentrl.release.budget.loaded import OPTIMISTIC, week_budget
from agentrl.release.budget.phases import phases
from agentrl.release.budget.standing import standing
from agentrl.release.place import ReleasePlace
from agentrl.release.review.document import MISSING, Document, Section, Table, number
from agentrl.release.review.review import incident_hours, incidents_between
from agentrl.release.review.trend import scaling_rule, slope
from agentrl.release.review.weeks import by_week, served_sessions, week_bounds, week_figures, weeks_until

FORMAT = "agentrl-budget/1"


def budget_report(
    place: ReleasePlace, config: ReleaseConfig, week: str, *, weeks: int, now: float, keep: bool = False
) -> dict[str, Any]:
    """Money by week, the decision frame and the phases, as plain JSON.

    Args:
        week: the last one that is told.
        weeks: how many, that one included.
        now: seconds since 1970; where the workflow stands is told of now.
        keep: keep the weeks in the store, for briefs and for what a second workflow asks.

    Raises:
        ConfigError: it is no week.
        ReleaseError: the store cannot be read or, to keep, written.
    """
    told = weeks_until(week, weeks)
    served = by_week(served_sessions(place.store, place.workflow, week_bounds(told[0])[0], week_bounds(week)[1]), told)
    figures, draws = zip(*(week_figures(each, served[each]) for each in told), strict=True)
    money = [week_budget(place.workflow, each, config.costs, _hours(place, each.week)) for each in figures]
    rule = scaling_rule(
        slope([each.score for each in figures], [each.score for each in draws]),
        slope([each.cost_per_success_usd for each in figures], [each.cost_usd for each in draws]),
    )
    stands = standing(place, now=now)
    if keep:
        for each, of_week in zip(money, figures, strict=True):
            if of_week.sessions:
                keep_budget(place.store, each, of_week, at=now)
    return {
        "format": FORMAT,
        "workflow": place.workflow,
        "week": week,
        "release": stands.release_id,
        "weeks": [each.to_record() for each in money],
        "frame": [axis.to_record() for axis in decision_frame(money[-1], figures[-1], rule, stands)],
        "phases": [phase.to_record() for phase in phases(config, money[-1], rule, stands)],
        "is_kept": keep,
    }


def budget_document(report: Mapping[str, Any]) -> Document:
    """What `agentrl budget` prints and writes."""
    last = report["weeks"][-1]
    code = last["currency"]
    rows = [
        (
            each["week"],
            number(each["sessions"], 0),
            number(each["successes"], 0),
            number(each["run_cost"], 2),
            number(each["run_cost_per_success"], 4),
            number(each["lines_cost"] if any(line["amount"] is not None for line in each["lines"]) else None, 2),
            number(each["loaded_cost_per_success"], 4),
            OPTIMISTIC if each["is_optimistic"] else "",
        )
        for each in report["weeks"]
    ]
    heads = ("week", "sessions", "successes", f"run, {code}", "per success", f"people, {code}", "loaded", "")
    money: list[str | Table] = [Table(heads, rows, frozenset(range(1, 7)))]
    if code != "USD":
        money.append(f"1 US dollar is {last['per_usd']:g} {code} ({last['per_usd_source']})")
    lines = [
        (line["name"], number(line["amount"], 2) if line["amount"] is not None else OPTIMISTIC, _how(line))
        for line in last["lines"]
    ]
    money.append(Table((f"lines of {last['week']}", f"{code} a week", "from"), lines, frozenset({1})))
    if last["unpriced"]:
        money.append(f"{OPTIMISTIC}: {last['unpriced']} sessions have no price")
    money.append(f"{_answer(last['pays'])}: {last['why']}")
    frame: list[str | Table] = []
    for axis in report["frame"]:
        frame.append(f"{axis['name'].upper()}  {axis['says']}: {axis['because']}")
        told = [(each["what"], _value(each["value"]), each["unit"]) for each in axis["figures"]]
        frame.append(Table(("", "", ""), told, frozenset({1})))
    steps: list[str | Table] = []
    for phase in report["phases"]:
        steps.append(f"{phase['name'].upper()}  {'GO' if phase['is_go'] else 'NO GO'}  ({phase['buys']})")
        told = [("yes" if each["is_met"] else "no", each["what"], each["missing"]) for each in phase["conditions"]]
        steps.append(Table(("", "", ""), told))
    return Document(
        f"Budget of {report['workflow']}, {report['week']}",
        [
            Section("Cost per successful completion", money),
            Section("Decision frame", frame),
            Section("Phases", steps),
        ],
    )


def _hours(place: ReleasePlace, week: str) -> float | None:
    return incident_hours(incidents_between(place.store, place.workflow, *week_bounds(week)))


def _how(line: Mapping[str, Any]) -> str:
    what = {"labels": "labels", "hours": "hours", "incident_hours": "hours of incident records"}.get(line["how"])
    if what is None:
        return {"amount": "an amount", "missing": "not given, which is not 0"}[line["how"]]
    return f"{line['count']:g} {what} at {line['price']:g}"


def _answer(pays: bool | None) -> str:
    return {True: "pays", False: "does not pay", None: "not known whether it pays"}[pays]


def _value(value: float | None) -> str:
    if value is None:
        return MISSING
    return f"{value:,.0f}" if value == int(value) else f"{value:,.4g}"
