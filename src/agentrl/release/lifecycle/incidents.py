"""What went wrong, who owns it, how long it took, and what is believed no longer: one incident a rollback."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release
from agentrl.release.store import tables

CLASSES = ("policy", "grader", "tool", "infra", "data", "unknown")
OWNERS = ("ML", "Platform", "Product")
NEEDED = ("class", "owner", "cause")
"""Without these no incident is closed."""
TOLD = ("class", "owner", "cause", "invalidated_assumption", "follow_up", "severity")
"""What people say of one."""
SEVERITIES = ("soft", "hard")


def opened_incident(
    release: Release, *, actor: str, evidence: Mapping[str, Any], now: float, epoch: int
) -> dict[str, Any]:
    """The row of a rollback's incident.

    Args:
        evidence: `reason`, `text`, `t_breach`, `gates` where they are known.
        epoch: of the routing that takes the candidate's traffic away.
    """
    day = f"{datetime.fromtimestamp(now, UTC):%Y%m%d}"
    record = {
        "trigger": evidence.get("reason", "operator"),
        "text": evidence.get("text", ""),
        "gates": list(evidence.get("gates", ())),
        "severity": evidence.get("severity", "soft"),
        "from": str(release.state),
        "actor": actor,
        "epoch": epoch,
        "t_breach": evidence.get("t_breach"),
        "t_decision": now,
        "t_route_zero": None,
        "t_drained": None,
        "recovered_at": None,
        "sessions_affected": None,
        "class": None,
        "owner": None,
        "cause": None,
        "invalidated_assumption": None,
        "follow_up": None,
        "closed_by": None,
    }
    return {
        "id": f"inc-{day}-{secrets.token_hex(3)}",
        "workflow": release.workflow,
        "release_id": release.id,
        "opened_at": now,
        "closed_at": None,
        "version": 1,
        "record": record,
    }


def read_incidents(place: ReleasePlace, *, is_open: bool | None = None) -> list[dict[str, Any]]:
    """The workflow's, the oldest first; all, the open ones or the closed ones."""
    table = tables.incidents
    wanted = select(table).where(table.c.workflow == place.workflow)
    if is_open is not None:
        wanted = wanted.where(table.c.closed_at.is_(None) if is_open else table.c.closed_at.is_not(None))
    with place.store.read() as connection:
        rows = connection.execute(wanted.order_by(table.c.opened_at, table.c.id)).all()
    return [dict(row._mapping) for row in rows]


def find_incident(place: ReleasePlace, incident_id: str) -> dict[str, Any]:
    """One, by its id or the beginning of it, or by the id of its release.

    Raises:
        ConfigError: there is none, or there are several.
    """
    every = read_incidents(place)
    found = [each for each in every if incident_id in (each["id"], each["release_id"])]
    found = found or [each for each in every if each["id"].startswith(incident_id)]
    if len(found) != 1:
        known = ", ".join(each["id"] for each in every[-5:]) or "none yet"
        raise ConfigError(f"incident {incident_id!r}: found {len(found)}; the last ones: {known}")
    return found[0]


def update_incident(
    place: ReleasePlace, incident_id: str, told: Mapping[str, str], *, actor: str, now: float, is_closing: bool = False
) -> dict[str, Any]:
    """Keep what people say of an incident, and close it; returns its row.

    Raises:
        ConfigError: a word is not one of those that are allowed, or there is no such incident.
        ReleaseError: it is closed already, or is to be closed without class, owner and cause.
    """
    for key, allowed in (("class", CLASSES), ("owner", OWNERS), ("severity", SEVERITIES)):
        if key in told and told[key] not in allowed:
            raise ConfigError(f"--{key}: found '{told[key]}'; allowed: {', '.join(allowed)}")
    with ledger(place) as books:
        row = find_incident(place, incident_id)
        if row["closed_at"] is not None:
            raise ReleaseError(f"{row['id']} was closed by {row['record']['closed_by']}; what it says stays")
        record = row["record"] | {key: text.strip() for key, text in told.items() if key in TOLD}
        if is_closing:
            if missing := [key for key in NEEDED if not record.get(key)]:
                raise ReleaseError(f"{row['id']} cannot be closed without {', '.join(missing)}")
            record["closed_by"] = actor
        changed = {**row, "record": record, "version": row["version"] + 1, "closed_at": now if is_closing else None}
        books.record(
            "incident_closed" if is_closing else "incident",
            actor=actor,
            now=now,
            release_id=row["release_id"],
            changes={"incidents": [changed]},
        )
    return changed
