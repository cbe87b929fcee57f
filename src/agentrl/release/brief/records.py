"""What the store has of a release, read in one transaction: no line of a brief is older than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row, and_, func, or_, select

from agentrl.errors import ConfigError
from agentrl.release.store import Store
from agentrl.release.store.tables import (
    approvals,
    budgets,
    bundles,
    drills,
    incidents,
    releases,
    sessions,
    suite_results,
    transitions,
    verdicts,
    workflows,
)

Record = Mapping[str, Any]
"""A row; JSON columns are parsed."""
NEWEST = "latest"
WEEKS = 8
"""Of the reliability score, in block 5."""


@dataclass(frozen=True)
class ReleaseRecords:
    """All that a brief may tell."""

    release: Record
    workflow: Record | None
    previous: Record | None
    """The release before this one, of the same workflow."""
    verdicts: Sequence[Record]
    """The last look of every gate in every stage since its evidence began, in order of stages and gates."""
    suites: Sequence[Record]
    """The last result of each kind and name."""
    drills: Sequence[Record]
    incidents: Sequence[Record]
    """Of the workflow, all that there were, the oldest first."""
    transitions: Sequence[Record]
    """Of the release, in order of the audit log."""
    head: Record | None
    """The last entry of the workflow's audit log."""
    approvals: Sequence[Record]
    candidate: Record | None
    """Bundles."""
    baseline: Record | None
    budgets: Sequence[Record]
    """The last weeks of money that were kept, the oldest first."""
    live: Sequence[Record] = field(default=())
    """channel, arm, sessions, first, last: of the sessions that count."""

    @property
    def config(self) -> Mapping[str, Any]:
        """The `release` section that the release is judged by, as it was frozen with it."""
        section = (self.release["config"] or {}).get("release")
        return section if isinstance(section, Mapping) else {}

    @property
    def gateway(self) -> Mapping[str, Any]:
        """The `gateway` section that was frozen with it; empty where there is none."""
        section = (self.release["config"] or {}).get("gateway")
        return section if isinstance(section, Mapping) else {}


STAGES = ("offline_eval", "shadow", "canary", "general")


def find_release(store: Store, name: str, workflow: str | None = None) -> str:
    """The id of a release, by its id, the beginning of it, or `latest`.

    Raises:
        ConfigError: there is none, or several begin so.
        ReleaseError: the store cannot be read.
    """
    columns = releases.c
    wanted = select(columns.id, columns.workflow, columns.state).order_by(columns.created_at.desc(), columns.id)
    if workflow is not None:
        wanted = wanted.where(columns.workflow == workflow)
    with store.read() as connection:
        rows = connection.execute(wanted).all()
    exact = [row.id for row in rows if row.id == name]
    found = exact or [row.id for row in (rows[:1] if name == NEWEST else rows) if name in (NEWEST, row.id[: len(name)])]
    if len(found) == 1:
        return str(found[0])
    where = store.name if workflow is None else f"{workflow} in {store.name}"
    if found:
        raise ConfigError(f"{name}: {len(found)} releases of {where} begin so: {', '.join(found[:5])}")
    known = ", ".join(f"{row.id} ({row.state})" for row in rows[:5]) or "none yet"
    raise ConfigError(f"{name}: {where} has no such release; it has: {known}")


def read_records(store: Store, release_id: str) -> ReleaseRecords:
    """What there is of a release.

    Raises:
        ConfigError: there is no such release.
        ReleaseError: the store cannot be read.
    """
    with store.read() as connection:
        release = _one(connection, select(releases).where(releases.c.id == release_id))
        if release is None:
            raise ConfigError(f"{release_id}: {store.name} has no such release")
        name = release["workflow"]
        earlier = and_(releases.c.workflow == name, releases.c.created_at < release["created_at"])
        of_workflow = select(transitions).where(transitions.c.workflow == name)
        return ReleaseRecords(
            release=release,
            workflow=_one(connection, select(workflows).where(workflows.c.name == name)),
            previous=_one(connection, select(releases).where(earlier).order_by(releases.c.created_at.desc()).limit(1)),
            verdicts=_last_looks(connection, release),
            suites=_last_suites(connection, release_id),
            drills=_all(
                connection, select(drills).where(drills.c.release_id == release_id).order_by(drills.c.at, drills.c.id)
            ),
            incidents=_all(
                connection,
                select(incidents).where(incidents.c.workflow == name).order_by(incidents.c.opened_at, incidents.c.id),
            ),
            transitions=_all(
                connection, of_workflow.where(transitions.c.release_id == release_id).order_by(transitions.c.entry)
            ),
            head=_one(connection, of_workflow.order_by(transitions.c.entry.desc()).limit(1)),
            approvals=_approvals(connection, release_id),
            candidate=_one(connection, select(bundles).where(bundles.c.id == release["candidate_bundle"])),
            baseline=_one(connection, select(bundles).where(bundles.c.id == release["baseline_bundle"])),
            budgets=_all(
                connection,
                select(budgets).where(budgets.c.workflow == name).order_by(budgets.c.week.desc()).limit(WEEKS),
            )[::-1],
            live=_live(connection, release),
        )


def _last_looks(connection: Connection, release: Record) -> list[Record]:
    last: dict[tuple[str, str], Record] = {}
    since = release["evidence_since"] or 0.0
    rows = select(verdicts).where(verdicts.c.release_id == release["id"], verdicts.c.at >= since)
    for row in _all(connection, rows.order_by(verdicts.c.at, verdicts.c.look_no, verdicts.c.id)):
        last[row["stage"], row["gate"]] = row
    section = (release["config"] or {}).get("release") or {}
    order = [gate.get("name") for gate in section.get("gates", ())]

    def place(row: Record) -> tuple[int, int, str]:
        stage = STAGES.index(row["stage"]) if row["stage"] in STAGES else len(STAGES)
        return stage, order.index(row["gate"]) if row["gate"] in order else len(order), row["gate"]

    return sorted(last.values(), key=place)


def _last_suites(connection: Connection, release_id: str) -> list[Record]:
    rows = select(suite_results).where(suite_results.c.release_id == release_id)
    last = {
        (row["kind"], row["name"]): row
        for row in _all(connection, rows.order_by(suite_results.c.at, suite_results.c.id))
    }
    kinds = ("capability", "adversarial", "frozen")
    return [last[key] for key in sorted(last, key=lambda key: (kinds.index(key[0]) if key[0] in kinds else 9, key[1]))]


def _approvals(connection: Connection, release_id: str) -> list[Record]:
    """Of the release's steps, RELEASE:STATE; those of tool calls have another subject."""
    wanted = approvals.c.subject.startswith(f"{release_id}:", autoescape=True)
    return _all(connection, select(approvals).where(wanted).order_by(approvals.c.at, approvals.c.id))


def _live(connection: Connection, release: Record) -> list[Record]:
    columns = sessions.c
    return _all(
        connection,
        select(
            columns.channel,
            columns.arm,
            func.count().label("sessions"),
            func.min(columns.assigned_at).label("first"),
            func.max(columns.assigned_at).label("last"),
        )
        .where(
            columns.workflow == release["workflow"],
            columns.release_id == release["id"],
            columns.is_forced.is_(False),
            columns.assigned_at >= (release["evidence_since"] or 0.0),
            or_(columns.status != "open", columns.closed_at.is_not(None)),
        )
        .group_by(columns.channel, columns.arm)
        .order_by(columns.channel, columns.arm),
    )


def _one(connection: Connection, statement: Any) -> Record | None:
    row: Row[Any] | None = connection.execute(statement).one_or_none()
    return None if row is None else dict(row._mapping)


def _all(connection: Connection, statement: Any) -> list[Record]:
    return [dict(row._mapping) for row in connection.execute(statement)]
