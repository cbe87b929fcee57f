"""What the tool policy and people said of a session's calls, counted for its record."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from agentrl.release.store.tables import approvals, tool_decisions
from agentrl.tools.approval import APPROVED

PENDING, DENIED = "pending", "denied"


def subject_of(workflow: str, session_id: str) -> str:
    """What all approvals of a session's calls are kept under."""
    return f"tool:{workflow}:{session_id}"[:200]


@dataclass(frozen=True)
class ApprovalCounts:
    """What became of a session's calls under the tool policy; for its record."""

    approved: int
    """Let through by rule or by a person."""
    refused_by_person: int
    timeouts: int
    """Requests that nobody answered in time: no fault of the policy."""
    out_of_scope: int
    denied: int
    """By a rule; those out of scope are not among them."""
    approved_by_person: int

    @property
    def human_approval(self) -> bool | None:
        """As in the session's record: None where nobody said anything."""
        if self.refused_by_person:
            return False
        return True if self.approved_by_person else None


def counts_of(
    connection: Connection, workflow: str, session_ids: Sequence[str], now: float
) -> dict[str, ApprovalCounts]:
    """What became of these sessions' calls under the tool policy; without those for which it was never asked."""
    table = tool_decisions
    by_subject = {subject_of(workflow, session_id): session_id for session_id in session_ids}
    rules: dict[str, Counter[str]] = {}
    counted = select(table.c.session_id, table.c.decision, table.c.count).where(
        table.c.workflow == workflow, table.c.session_id.in_(by_subject.values())
    )
    for session_id, decision, count in connection.execute(counted):
        rules.setdefault(session_id, Counter())[decision] += count
    asked: dict[str, list[Any]] = {}
    for row in connection.execute(select(approvals).where(approvals.c.subject.in_(by_subject))):
        asked.setdefault(by_subject[row.subject], []).append(row)
    return {
        session_id: _counted(rules.get(session_id, Counter()), asked.get(session_id, []), now)
        for session_id in session_ids
        if session_id in rules or session_id in asked
    }


def _counted(rules: Counter[str], asked: Sequence[Any], now: float) -> ApprovalCounts:
    return ApprovalCounts(
        approved=rules["allow"] + sum(row.used_at is not None for row in asked),
        refused_by_person=sum(row.decision == DENIED for row in asked),
        timeouts=sum(row.decision == PENDING and now >= row.record["answer_until"] for row in asked),
        out_of_scope=rules["scope"],
        denied=rules["deny"],
        approved_by_person=sum(row.decision == APPROVED for row in asked),
    )
