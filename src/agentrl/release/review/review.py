"""The weekly review as one record: what a team reads every Monday, from the store and the session log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agentrl.config.costs import CostsConfig
from agentrl.release.budget.loaded import week_budget
from agentrl.release.review.traces import traces, worst_sessions
from agentrl.release.review.trend import scaling_rule, slope
from agentrl.release.review.weeks import Served, by_week, served_sessions, week_bounds, week_figures, weeks_until
from agentrl.release.store import Store
from agentrl.release.store.tables import incidents, releases, suite_results

FORMAT = "agentrl-review/1"
RECORD_DELAY_SECONDS = 7 * 86400.0
"""Session records are written when a session's feedback window has closed."""


def weekly_review(
    store: Store, workflow: str, week: str, *, weeks: int, costs: CostsConfig, session_log: Path | None = None
) -> dict[str, Any]:
    """All of it, as plain JSON. The same store gives the same record.

    Args:
        week: that is reviewed, such as 2026-W46.
        weeks: length of the trends, this week included.

    Raises:
        ConfigError: it is no week.
        ReleaseError: the store cannot be read.
    """
    told = weeks_until(week, weeks)
    since, until = week_bounds(week)
    served = by_week(served_sessions(store, workflow, week_bounds(told[0])[0], until), told)
    figures, draws = zip(*(week_figures(each, served[each]) for each in told), strict=True)
    rule = scaling_rule(
        slope([each.score for each in figures], [each.score for each in draws]),
        slope([each.cost_per_success_usd for each in figures], [each.cost_usd for each in draws]),
    )
    chosen = worst_sessions(served[week])
    went_wrong = incidents_between(store, workflow, since, until)
    return {
        "format": FORMAT,
        "workflow": workflow,
        "week": week,
        "weeks": [each.to_record() for each in figures],
        "scaling": rule.to_record(),
        "worst": traces(store, workflow, chosen, log=session_log, until=until + RECORD_DELAY_SECONDS),
        "overrides": overrides_by_intent(served[week]),
        "incidents": went_wrong,
        "invalidated_assumptions": [
            {"incident": each["id"], "assumption": each["invalidated_assumption"]}
            for each in went_wrong
            if each["invalidated_assumption"]
        ],
        "frozen": _frozen(store, workflow, until),
        "budget": week_budget(workflow, figures[-1], costs, incident_hours(went_wrong)).to_record(),
    }


def overrides_by_intent(served: Sequence[Served]) -> list[dict[str, Any]]:
    """Where people step in: an intent's share of all overrides against its share of sessions; the densest first."""
    known = [each.evidence for each in served if each.evidence.human_override is not None]
    sessions, overrides = Counter(e.intent for e in known), Counter(e.intent for e in known if e.human_override)
    total = sum(overrides.values())
    rows: list[dict[str, Any]] = []
    for intent, count in sessions.items():
        share = overrides[intent] / total if total else None
        rows.append(
            {
                "intent": intent,
                "sessions": count,
                "overrides": overrides[intent],
                "override_rate": overrides[intent] / count,
                "share_of_overrides": share,
                "concentration": None if share is None else share / (count / len(known)),
            }
        )
    return sorted(rows, key=lambda row: (-(row["concentration"] or 0.0), row["intent"]))


def incident_hours(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """From opening to closing, in hours, of one person; None where one is still open, as it is not known then."""
    hours = [row["open_hours"] for row in rows]
    return None if None in hours else float(sum(hours))


def incidents_between(store: Store, workflow: str, since: float, until: float) -> list[dict[str, Any]]:
    """Those that were opened in [since, until), in seconds since 1970.

    Raises:
        ReleaseError: the store cannot be read.
    """
    columns = incidents.c
    wanted = select(incidents).where(
        columns.workflow == workflow, columns.opened_at >= since, columns.opened_at < until
    )
    with store.read() as connection:
        rows = connection.execute(wanted.order_by(columns.opened_at, columns.id)).all()
    found = []
    for row in rows:
        record = row.record
        breach, back = record.get("t_breach"), record.get("recovered_at")
        told = ("class", "owner", "cause", "trigger", "invalidated_assumption", "follow_up")
        found.append(
            {
                "id": row.id,
                "release": row.release_id,
                "opened_at": row.opened_at,
                "is_closed": row.closed_at is not None,
                "recovery_seconds": back - breach if breach is not None and back is not None else None,
                "open_hours": None if row.closed_at is None else (row.closed_at - row.opened_at) / 3600,
                **{name: str(record.get(name) or "") for name in told},
            }
        )
    return found


def _frozen(store: Store, workflow: str, until: float) -> list[dict[str, Any]]:
    """Results on frozen benchmarks up to then, by name, the oldest first: the same items, so that they compare."""
    columns = suite_results.c
    wanted = (
        select(suite_results)
        .join(releases, releases.c.id == columns.release_id)
        .where(releases.c.workflow == workflow, columns.kind == "frozen", columns.at < until)
        .order_by(columns.name, columns.at, columns.id)
    )
    with store.read() as connection:
        rows = connection.execute(wanted).all()
    return [
        {
            "name": row.name,
            "digest": row.digest,
            "release": row.release_id,
            "at": row.at,
            **{name: row.record.get(name) for name in ("estimate", "lower", "upper", "cases")},
        }
        for row in rows
    ]
