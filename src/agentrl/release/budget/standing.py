"""Where a workflow stands, from its records: what the frame and the phases are filled with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select

from agentrl.errors import ReleaseError
from agentrl.release.budget.second_workflow import unstable_because
from agentrl.release.lifecycle.audit_log import read_entries
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import drills, incidents, releases, suite_results, transitions, verdicts

DAY = 86400.0
RECENT_DAYS = 28.0


@dataclass(frozen=True)
class Standing:
    """None is not recorded; an empty `release_id` is a workflow without a release."""

    release_id: str
    """The one that serves all users, or else the last one."""
    state: str
    days_to_general: float | None
    """From its draft."""
    promoted: int
    rolled_back: int
    rejected: int
    """Releases that came to that in the last `RECENT_DAYS`."""
    gates: Mapping[str, Mapping[str, int]]
    """Of that release: stage -> verdict of the last look -> number of gates."""
    suites: tuple[str, ...]
    """Kinds that it was measured on."""
    drills: int
    """That count."""
    worst_drill_seconds: float | None
    incidents_open: int
    incidents_closed: int
    last_recovery_seconds: float | None
    audit_entries: int
    audit_problem: str
    """What breaks the audit log's chain; empty: nothing."""
    unstable: tuple[str, ...]
    """What keeps the workflow from having been stable for a week."""
    configured: Mapping[str, tuple[str, ...]]
    """Stage -> gates that the release's rules name."""


def standing(place: ReleasePlace, *, now: float) -> Standing:
    """Read it.

    Args:
        now: seconds since 1970.

    Raises:
        ReleaseError: the store cannot be read.
    """
    columns = releases.c
    with place.store.read() as connection:
        rows = [
            dict(row._mapping)
            for row in connection.execute(
                select(releases).where(columns.workflow == place.workflow).order_by(columns.created_at, columns.id)
            )
        ]
        recent = [row["state"] for row in rows if row["entered_at"] >= now - RECENT_DAYS * DAY]
        general = [row for row in rows if row["state"] == "general"]
        of_users = general or rows
        release = of_users[-1] if of_users else None
        key = "" if release is None else release["id"]
        is_general = release is not None and release["state"] == "general"
        since = 0.0 if release is None else release["evidence_since"] or 0.0
        found = connection.execute(
            select(verdicts.c.stage, verdicts.c.gate, verdicts.c.verdict, verdicts.c.record)
            .where(verdicts.c.release_id == key, verdicts.c.at >= since)
            .order_by(verdicts.c.at, verdicts.c.look_no, verdicts.c.id)
        ).all()
        last = {(row.stage, row.gate): row.verdict for row in found if not row.record.get("is_shown_only")}
        kinds = connection.execute(select(suite_results.c.kind).where(suite_results.c.release_id == key)).scalars()
        counted = select(func.count(), func.max(drills.c.rollback_seconds)).where(
            drills.c.release_id == key, drills.c.is_counted.is_(True)
        )
        n_drills, worst = connection.execute(counted).one()
        went_wrong = connection.execute(
            select(incidents).where(incidents.c.workflow == place.workflow).order_by(incidents.c.opened_at)
        ).all()
        suites = tuple(sorted(set(kinds)))
        unstable = tuple(unstable_because(connection, place.workflow, now=now))
        applied = connection.execute(
            select(func.count()).select_from(transitions).where(transitions.c.workflow == place.workflow)
        ).scalar_one()
    recoveries = [
        row.record["recovered_at"] - row.record["t_breach"]
        for row in went_wrong
        if row.record.get("recovered_at") is not None and row.record.get("t_breach") is not None
    ]
    n_open = sum(row.closed_at is None for row in went_wrong)
    entries, problem = _audit(place, applied)
    return Standing(
        release_id=key,
        state="" if release is None else release["state"],
        days_to_general=(
            (release["entered_at"] - release["created_at"]) / DAY if release is not None and is_general else None
        ),
        promoted=recent.count("general") + recent.count("superseded"),
        rolled_back=recent.count("rolled_back"),
        rejected=recent.count("rejected"),
        gates=_counted(last),
        suites=suites,
        drills=n_drills,
        worst_drill_seconds=worst,
        incidents_open=n_open,
        incidents_closed=len(went_wrong) - n_open,
        last_recovery_seconds=recoveries[-1] if recoveries else None,
        audit_entries=entries,
        audit_problem=problem,
        unstable=unstable,
        configured=_configured(release),
    )


def _counted(last: Mapping[tuple[str, str], str]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for (stage, _), verdict in last.items():
        counts = found.setdefault(stage, {})
        counts[verdict] = counts.get(verdict, 0) + 1
    return found


def _configured(release: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {}
    section = ((release or {}).get("config") or {}).get("release") or {}
    for gate in section.get("gates") or ():
        for stage in gate.get("stages") or ():
            found.setdefault(stage, []).append(gate["name"])
    return {stage: tuple(names) for stage, names in found.items()}


def _audit(place: ReleasePlace, applied: int) -> tuple[int, str]:
    try:
        entries = read_entries(place.audit_log)
    except ReleaseError as error:
        return applied, str(error)
    mine = sum(entry.body.get("workflow") == place.workflow for entry in entries)
    if mine < applied:
        return mine, f"{place.audit_log} has {mine} entries, the store has applied {applied}"
    return mine, ""
