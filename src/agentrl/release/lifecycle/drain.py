"""When a rollback is complete: every gateway has put it into force and answers nobody with the candidate any more.

    t_breach      the first record that makes the verdict true
    t_decision    the rollback's line in the audit log
    t_route_zero  the last session that was assigned to the candidate, by any gateway
    t_drained     the end of the last answer of the candidate

detection is t_decision - t_breach, routing is t_route_zero - t_decision, rollback is t_drained - t_decision. A gateway
that has gone silent for longer than the lease gives the candidate out no more, and its answers ended with it: both of
its times are taken as late as they can have been.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select

from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_release
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Release
from agentrl.release.store import tables

KEPT_SESSIONS = 1000
"""Ids of affected sessions that an incident names; all of them are in the table of sessions."""


@dataclass(frozen=True)
class Drain:
    """How far a rollback is."""

    replicas: int
    """That reported since the candidate's traffic began."""
    waiting: tuple[str, ...]
    """Ids of those that have not put it into force, or still answer with the candidate."""
    in_flight: int
    """Answers of the candidate under way."""
    t_route_zero: float
    t_drained: float

    @property
    def is_complete(self) -> bool:
        """Whether nobody is waited for."""
        return not self.waiting


def read_drain(place: ReleasePlace, *, epoch: int, t_decision: float, lease_seconds: float, now: float) -> Drain:
    """What the gateways say of a rollback that is in force with `epoch`."""
    return drain_of(read_replicas(place), epoch=epoch, t_decision=t_decision, lease_seconds=lease_seconds, now=now)


def read_replicas(place: ReleasePlace) -> list[Mapping[str, Any]]:
    """The gateways' own rows."""
    with place.store.read() as connection:
        rows = connection.execute(select(tables.replicas).where(tables.replicas.c.workflow == place.workflow)).all()
    return [dict(row._mapping) for row in rows]


def drain_of(
    rows: Sequence[Mapping[Any, Any]], *, epoch: int, t_decision: float, lease_seconds: float, now: float
) -> Drain:
    """Of the gateways' rows; pure."""
    waiting, in_flight, route_zero, drained = [], 0, t_decision, t_decision
    reported = [row for row in rows if row["seen_at"] >= t_decision - lease_seconds]
    for row in reported:
        last = row["last_candidate_at"] or t_decision
        if row["epoch"] >= epoch and row["candidate_in_flight"] == 0:
            route_zero = max(route_zero, last)
            drained = max(drained, row["drained_at"] or t_decision, last)
        elif now - row["seen_at"] > lease_seconds:  # killed, or cut off: its lease has ended by itself
            ended = row["seen_at"] + lease_seconds
            route_zero, drained = max(route_zero, ended), max(drained, ended)
        else:
            waiting.append(row["id"])
            in_flight += row["candidate_in_flight"]
    return Drain(len(reported), tuple(sorted(waiting)), in_flight, route_zero, drained)


def complete_rollbacks(place: ReleasePlace, *, now: float) -> list[dict[str, Any]]:
    """Put the times and the affected sessions into the incidents whose rollback is complete; returns their rows."""
    done = []
    for incident in read_incidents(place):
        record = incident["record"]
        if record["t_drained"] is not None or record.get("epoch") is None:
            continue
        release = read_release(place, incident["release_id"])
        lease = float(release.config["release"]["lease_seconds"])
        drain = read_drain(place, epoch=record["epoch"], t_decision=record["t_decision"], lease_seconds=lease, now=now)
        if not drain.is_complete:
            continue
        count, ids = affected_sessions(place, release)
        with ledger(place) as books:
            row = next(each for each in read_incidents(place) if each["id"] == incident["id"])
            if row["record"]["t_drained"] is not None:  # another process was faster
                continue
            row["record"] |= {
                "t_route_zero": drain.t_route_zero,
                "t_drained": drain.t_drained,
                "sessions_affected": count,
                "session_ids": ids,
            }
            row["version"] += 1
            books.record(
                "rollback_complete", actor="controller", now=now, release_id=release.id, changes={"incidents": [row]}
            )
        done.append(row)
    return done


def affected_sessions(place: ReleasePlace, release: Release) -> tuple[int, list[str]]:
    """Of users, those that talked to the candidate: their number, and the ids of the latest."""
    table = tables.sessions.c
    wanted = and_(
        table.workflow == place.workflow,
        table.upstream == release.candidate_upstream,
        or_(
            and_(table.release_id == release.id, table.arm == str(Arm.CANDIDATE), table.channel == "canary"),
            and_(table.release_id == release.id, table.channel == "general"),
        ),
    )
    with place.store.read() as connection:
        count = connection.execute(select(func.count()).select_from(tables.sessions).where(wanted)).scalar_one()
        ids = connection.execute(
            select(table.session_id).where(wanted).order_by(table.assigned_at.desc()).limit(KEPT_SESSIONS)
        ).scalars()
        return count, list(ids)


def clocks_of(record: Mapping[str, Any]) -> dict[str, float | None]:
    """Seconds of an incident: detection, routing, rollback, recovery; None is not known (yet)."""

    def between(start: str, end: str) -> float | None:
        begun, ended = record.get(start), record.get(end)
        return None if begun is None or ended is None else max(ended - begun, 0.0)

    return {
        "detection_seconds": between("t_breach", "t_decision"),
        "routing_seconds": between("t_decision", "t_route_zero"),
        "rollback_seconds": between("t_decision", "t_drained"),
        "recovery_seconds": between("t_breach", "recovered_at"),
    }
