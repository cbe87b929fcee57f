"""Sessions as gates read them, from the store's rows. Evaluations: `gates/offline.py`."""

from __future__ import annotations

from typing import Any

from sqlalchemy import and_, or_, select

from agentrl.release.records import Arm, SessionEvidence
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions


def live_evidence(
    store: Store, workflow: str, release_id: str, channel: str, *, since: float = 0.0, until: float | None = None
) -> list[SessionEvidence]:
    """The sessions of a release in `shadow`, `canary` or `general`, in order of assignment; none that was forced.

    A session that is open is none yet; one that the client left half-way is, and is no success.

    Args:
        since, until: seconds since 1970, of the assignment; until is excluded.

    Raises:
        ReleaseError: the store cannot be read.
    """
    columns = sessions.c
    wanted = and_(
        columns.workflow == workflow,
        columns.release_id == release_id,
        columns.channel == channel,
        columns.assigned_at >= since,
        columns.is_forced.is_(False),
        or_(columns.status != "open", columns.closed_at.is_not(None)),
    )
    if until is not None:
        wanted = and_(wanted, columns.assigned_at < until)
    with store.read() as connection:
        rows = connection.execute(
            select(sessions).where(wanted).order_by(columns.assigned_at, columns.session_id, columns.arm)
        ).all()
    return [session_evidence(row._mapping) for row in rows]


def session_evidence(row: Any) -> SessionEvidence:
    """A row of the table `sessions`."""
    return SessionEvidence(
        session_id=row["session_id"],
        arm=Arm(row["arm"]),
        at=row["assigned_at"],
        cluster=row["cluster"] or row["session_id"],
        pair=row["session_id"] if row["channel"] == "shadow" else "",
        intent=row["intent"],
        success=row["success"],
        quality=row["quality"],
        safety_violations=row["safety_violations"],
        zero_tolerance=row["zero_tolerance"],
        seconds=row["seconds"],
        cost_usd=row["cost_usd"],
        human_override=row["human_override"],
        tool_calls=row["tool_calls"],
        tool_errors=row["tool_errors"],
        tool_infra_errors=row["tool_infra_errors"],
        policy_kl=row["policy_kl"],
        policy_kl_tokens=row["policy_kl_tokens"],
        extra=row["extra"] or {},
    )
