"""Sessions as gates read them, from the store's rows. Evaluations: `gates/offline.py`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from sqlalchemy import and_, or_, select

from agentrl.release.records import Arm, SessionEvidence
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions


def live_evidence(
    store: Store,
    workflow: str,
    release_id: str,
    channel: str,
    *,
    since: float = 0.0,
    until: float | None = None,
    only_harmed: bool = False,
    grader_version: str = "",
) -> list[SessionEvidence]:
    """The sessions of a release in `shadow`, `canary` or `general`, in order of assignment; none that was forced.

    A session that is open is none yet, but for a violation that was told of it: a hard gate does not wait until the
    session is over. One that the client left half-way is evidence, and is no success.

    Args:
        since, until: seconds since 1970, of the assignment; until is excluded.
        only_harmed: those with a safety violation; of all others nothing is read.
        grader_version: only what this one judged, and what nobody has judged yet: it is to be seen as missing.
            Empty: whoever judged, and whoever combines sessions of two is told so by a gate.

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
        or_(columns.status != "open", columns.closed_at.is_not(None), columns.safety_violations > 0),
    )
    if until is not None:
        wanted = and_(wanted, columns.assigned_at < until)
    if only_harmed:
        wanted = and_(wanted, columns.safety_violations > 0)
    if grader_version:
        judged = columns.grader_version
        wanted = and_(wanted, or_(judged == grader_version, judged.is_(None)))
    with store.read() as connection:
        rows = connection.execute(
            select(*READ).where(wanted).order_by(columns.assigned_at, columns.session_id, columns.arm)
        ).mappings()
        return [session_evidence(row, grader_version) for row in rows]


UNREAD = ("record", "client", "upstream", "price_table", "shadow", "told")
READ = [column for column in sessions.columns if column.name not in UNREAD]
"""Without what is long and no gate reads: a look at 20,000 sessions takes half the time."""
UNKNOWN: defaultdict[str, Any] = defaultdict(lambda: None)


def session_evidence(row: Any, judged_by: str = "") -> SessionEvidence:
    """A row of the table `sessions`; of one that is open, only who it is and what must not wait.

    Nor is more known of one that was moved to the baseline half-way, as a replica had no lease: what came of it is the
    work of both.
    """
    is_open = row["status"] == "open" and row["closed_at"] is None
    is_of_both = row["moved_at"] is not None and row["arm"] == Arm.CANDIDATE
    known = UNKNOWN if is_open or is_of_both else row
    return SessionEvidence(
        session_id=row["session_id"],
        arm=Arm(row["arm"]),
        at=row["assigned_at"],
        cluster=row["cluster"] or row["session_id"],
        pair=row["session_id"] if row["channel"] == "shadow" else "",
        intent=row["intent"],
        safety_violations=row["safety_violations"],
        zero_tolerance=row["zero_tolerance"],
        success=known["success"],
        quality=known["quality"],
        seconds=known["seconds"],
        cost_usd=known["cost_usd"],
        human_override=known["human_override"],
        tool_calls=known["tool_calls"],
        tool_errors=known["tool_errors"],
        tool_infra_errors=known["tool_infra_errors"],
        policy_kl=known["policy_kl"],
        policy_kl_tokens=known["policy_kl_tokens"],
        extra=known["extra"] or {},
        conditions=row["grader_version"] or judged_by,
    )
