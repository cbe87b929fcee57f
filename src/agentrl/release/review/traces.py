"""The worst sessions of a week, each from end to end: what was asked of tools, how it ended, what people did then."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select

from agentrl.monitoring.redaction import redact
from agentrl.monitoring.session_log import read_sessions
from agentrl.release.records import SessionEvidence
from agentrl.release.review.weeks import Served
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions

WORST = 5
FROM_RECORD = (
    "outcome", "stop_reason", "failure_class", "turns", "tokens_in", "tokens_out", "tools", "tool_calls_count",
    "tool_error_count", "human_override_kind", "human_override_by", "human_override_at", "grader_version",
    "context_digest", "actions_digest", "output_digest", "content",
)  # fmt: skip
"""What a session's record adds to the columns of its row."""


def badness(session: SessionEvidence) -> tuple[float, float, float, float, str]:
    """Sorts the worst first: safety, override, low quality, cost. What was not measured is not held against anybody."""
    quality = session.quality
    return (
        -float(session.safety_violations or 0),
        -float(bool(session.human_override)),
        float("inf") if quality is None else quality,
        -(session.cost_usd or 0.0),
        session.session_id,
    )


def worst_sessions(served: Sequence[Served], count: int = WORST) -> list[Served]:
    """The worst first; of at least two intents, where the week had two."""
    ranked = sorted(served, key=lambda each: (*badness(each.evidence), each.evidence.arm, each.release_id))
    chosen, rest = ranked[:count], ranked[count:]
    if len({each.evidence.intent for each in chosen}) == 1 and len(chosen) > 1:
        other = next((each for each in rest if each.evidence.intent != chosen[0].evidence.intent), None)
        if other is not None:
            chosen[-1] = other
    return chosen


def traces(
    store: Store, workflow: str, chosen: Sequence[Served], *, log: Path | None = None, until: float | None = None
) -> list[dict[str, Any]]:
    """Each session as plain JSON, redacted; what its record says comes from the log, or else from the store.

    Args:
        log: folder of the session log; None, or not there: the store alone.
        until: seconds since 1970 after which no session of these ended.

    Raises:
        ReleaseError: the store cannot be read.
    """
    columns = sessions.c
    ids = [each.evidence.session_id for each in chosen]
    with store.read() as connection:
        rows = connection.execute(
            select(columns.session_id, columns.arm, columns.release_id, columns.status, columns.record).where(
                columns.workflow == workflow, columns.session_id.in_(ids)
            )
        ).all()
    kept = {(row.session_id, row.arm, row.release_id): row for row in rows}
    logged = _logged(log, chosen, until)
    found = []
    for each in chosen:
        evidence = each.evidence
        row = kept.get((evidence.session_id, str(evidence.arm), each.release_id))
        stored = row.record if row is not None and isinstance(row.record, Mapping) else {}
        record = {**stored, **logged.get((evidence.session_id, str(evidence.arm)), {})}
        told = {
            "session_id": evidence.session_id,
            "release": each.release_id,
            "channel": each.channel,
            "arm": str(evidence.arm),
            "intent": evidence.intent,
            "at": datetime.fromtimestamp(evidence.at, UTC).isoformat(timespec="seconds"),
            "status": row.status if row is not None else "",
            "safety_violations": evidence.safety_violations,
            "human_override": evidence.human_override,
            "success": evidence.success,
            "quality": evidence.quality,
            "cost_usd": evidence.cost_usd,
            "seconds": evidence.seconds,
            "steps": each.steps,
            "tool_calls": evidence.tool_calls,
            "tool_errors": evidence.tool_errors,
        }
        found.append({**told, **redact({name: record.get(name) for name in FROM_RECORD})})
    return found


def _logged(log: Path | None, chosen: Sequence[Served], until: float | None) -> dict[tuple[str, str], dict[str, Any]]:
    """Records of these sessions by id and arm; of one that was written twice the later."""
    if log is None or not log.is_dir() or not chosen:
        return {}
    ids = {each.evidence.session_id for each in chosen}
    since = datetime.fromtimestamp(min(each.evidence.at for each in chosen), UTC)
    end = None if until is None else datetime.fromtimestamp(until, UTC)
    found = read_sessions(log, since=since, until=end, keep=lambda record: record.get("session_id") in ids)
    return {(str(record.get("session_id")), str(record.get("arm"))): record for record in found}
