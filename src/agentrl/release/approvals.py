"""People's word on tool calls of users' sessions: asked for, given by somebody else, used once, for exactly one call.

    request   pending; bound to a hash of tool, arguments, context and expiry
    answer    approved or refused, by a person who is not the agent that asks
    use       the one call is made; the same approval, other arguments or a later hour: denied

Whatever is unclear is a no: nobody answered in time, the store cannot be read, an approval that was used before.
Arguments are kept redacted, for people to read; what they approve is bound by the hash of the real ones.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update

from agentrl.config.tool_policy import ToolPolicyConfig
from agentrl.errors import ConfigError, ConflictError, ReleaseError
from agentrl.monitoring.redaction import redact, redact_text
from agentrl.release.approval_counts import DENIED, PENDING, ApprovalCounts, counts_of, subject_of
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import approvals, tool_decisions
from agentrl.tools.approval import APPROVED, REFUSED, TIMEOUT, ApprovalRequest, Outcome, call_hash

POLL_SECONDS = 0.5
MAX_PENDING = 100
"""Of one session: an agent that asks and asks would bury the people who answer."""
SHOWN_SECONDS = 86400.0
"""Age from which on a request that waits is neither shown nor counted."""


@dataclass(frozen=True)
class Asked:
    """A request that was kept."""

    id: str
    answer_until: float
    """Seconds since 1970; without an answer by then it is denied."""
    expires_at: float
    """Until when an approval may be used."""


@dataclass(frozen=True)
class Use:
    """Whether a call may be made on an approval."""

    outcome: Outcome | str
    """approved; or refused, approval_timeout, pending, and else why not, in a word: used, changed, expired, unknown."""
    reason: str

    @property
    def may_call(self) -> bool:
        """Only an approval that fits says yes."""
        return self.outcome == APPROVED


class ToolApprovals:
    """The requests of one workflow.

    Args:
        rules: how long people have, and how long their word counts.
        wall: seconds since 1970.
    """

    def __init__(self, place: ReleasePlace, rules: ToolPolicyConfig, *, wall: Callable[[], float] = time.time) -> None:
        self._place, self._rules, self._wall = place, rules, wall

    def request(self, asked: ApprovalRequest, *, agent: str) -> Asked:
        """Ask people.

        Args:
            agent: who asks, by the name of its API key or whatever else it cannot choose: it may not answer itself.

        Raises:
            ConfigError: the arguments are no JSON.
            ReleaseError: it cannot be kept, or the session has too many requests waiting.
        """
        now = self._wall()
        until = now + self._rules.approval_timeout_seconds
        expires_at = round(until + self._rules.approval_valid_seconds, 3)
        try:
            bound = call_hash(asked.tool, asked.arguments, self._context(asked), expires_at)
        except ValueError as error:
            raise ConfigError(f"arguments: found no JSON object ({error})") from None
        row = {
            "id": f"t-{secrets.token_hex(12)}",
            "subject": subject_of(self._place.workflow, asked.session_id),
            "context_hash": bound,
            "decision": PENDING,
            "approver": "",
            "at": now,
            "expires_at": expires_at,
            "used_at": None,
            "record": {
                "tool": redact_text(asked.tool[:80]),
                "arguments": redact(_shown(asked.arguments)),
                "session_id": asked.session_id,
                "agent": agent,
                "reason": asked.reason,
                "context": redact(dict(asked.context)),
                "answer_until": until,
            },
        }
        with self._place.store.write() as connection:
            waiting = connection.execute(
                select(func.count())
                .select_from(approvals)
                .where(
                    approvals.c.subject == row["subject"],
                    approvals.c.decision == PENDING,
                    approvals.c.at > now - SHOWN_SECONDS,
                )
            ).scalar_one()
            if waiting >= MAX_PENDING:
                raise ReleaseError(f"session {asked.session_id}: {waiting} requests wait for people; no more are taken")
            connection.execute(approvals.insert().values(row))
        return Asked(str(row["id"]), until, expires_at)

    def answer(self, request_id: str, *, approver: str, is_approved: bool, reason: str = "") -> None:
        """A person's yes or no.

        Raises:
            ConfigError: nobody is named, or the agent answers itself.
            ConflictError: it was answered before, or is too late.
            ReleaseError: there is no such request, or the word cannot be kept.
        """
        now = self._wall()
        if not (name := approver.strip()):
            raise ConfigError("an approval needs a name")
        with self._place.store.write() as connection:
            row = connection.execute(
                select(approvals).where(approvals.c.id == request_id, self._is_ours).with_for_update()
            ).one_or_none()
            if row is None:
                raise ReleaseError(f"approval {request_id[:80]}: no tool call waits under this id")
            if name.casefold() in {str(row.record[key]).strip().casefold() for key in ("agent", "session_id")}:
                raise ConfigError(f"{name} asked for this call and cannot approve it: ask a person")
            if row.decision != PENDING:
                raise ConflictError(f"approval {request_id}: {row.approver} has {row.decision} it before")
            if not row.at <= now < row.record["answer_until"]:
                raise ConflictError(
                    f"approval {request_id}: too late; nobody answered in time, and the call was denied"
                )
            record = {**row.record, "answered_at": now, "answer": redact_text(reason[:1000])}
            connection.execute(
                update(approvals)
                .where(approvals.c.id == request_id, approvals.c.decision == PENDING)
                .values(decision=APPROVED if is_approved else DENIED, approver=name[:200], record=record)
            )

    def use(self, request_id: str, asked: ApprovalRequest) -> Use:
        """Whether this call may be made now; a yes is used up by it, whoever asks first.

        Args:
            asked: the call that is about to be made: the arguments that it will really have.

        Raises:
            ReleaseError: the store cannot be read; then the call is not made.
        """
        now = self._wall()
        with self._place.store.write() as connection:
            row = connection.execute(
                select(approvals).where(approvals.c.id == request_id, self._is_ours).with_for_update()
            ).one_or_none()
            verdict = self._verdict(row, asked, now)
            if verdict.may_call:
                connection.execute(
                    update(approvals)
                    .where(approvals.c.id == request_id, approvals.c.used_at.is_(None))
                    .values(used_at=now)
                )
        return verdict

    def _verdict(self, row: Any, asked: ApprovalRequest, now: float) -> Use:
        if row is None:
            return Use("unknown", "nobody was asked under this id")
        if row.decision == DENIED:
            return Use(REFUSED, "a person refused this call")
        if row.decision == PENDING:
            if row.at <= now < row.record["answer_until"]:
                return Use(PENDING, "a person has been asked and has not answered yet")
            return Use(TIMEOUT, "a person has to approve this call, and nobody did in time")
        if row.used_at is not None:
            return Use("used", "this approval was used before; every call needs one of its own")
        if not row.at <= now < row.expires_at:
            return Use("expired", "this approval has expired")
        try:
            bound = call_hash(asked.tool, asked.arguments, self._context(asked), row.expires_at)
        except ValueError:
            bound = ""
        if not secrets.compare_digest(bound, row.context_hash):
            return Use("changed", "what was approved is another call: tool, arguments and context must be the same")
        return Use(APPROVED, f"approved by {row.approver}")

    def waiting(self) -> list[dict[str, Any]]:
        """Requests that somebody should answer, the oldest first, as people may see them."""
        now = self._wall()
        with self._place.store.read() as connection:
            rows = connection.execute(
                select(approvals)
                .where(approvals.c.decision == PENDING, self._is_ours, approvals.c.at > now - SHOWN_SECONDS)
                .order_by(approvals.c.at, approvals.c.id)
            ).all()
        return [{"id": row.id, "at": row.at, **row.record} for row in rows if now < row.record["answer_until"]]

    def note(self, session_id: str, tool: str, decision: str) -> None:
        """Count a decision of the tool policy for the session's record."""
        key = {"workflow": self._place.workflow, "session_id": session_id[:80], "tool": tool[:80], "decision": decision}
        statement = self._place.store.insert(tool_decisions).values(**key, count=1)
        with self._place.store.write() as connection:
            connection.execute(
                statement.on_conflict_do_update(index_elements=list(key), set_={"count": tool_decisions.c.count + 1})
            )

    def counts(self, session_id: str) -> ApprovalCounts | None:
        """What became of a session's calls; None where the tool policy was never asked.

        Raises:
            ReleaseError: the store cannot be read.
        """
        with self._place.store.read() as connection:
            return counts_of(connection, self._place.workflow, [session_id], self._wall()).get(session_id)

    @property
    def _is_ours(self) -> Any:
        return approvals.c.subject.startswith(subject_of(self._place.workflow, ""), autoescape=True)

    def _context(self, asked: ApprovalRequest) -> dict[str, Any]:
        return {**asked.context, "session_id": asked.session_id, "workflow": self._place.workflow}


@dataclass(frozen=True)
class StoreApprover:
    """Asks through the store, and waits: `Toolbox.from_config(..., approver=StoreApprover(...))`."""

    approvals: ToolApprovals
    agent: str
    timeout_seconds: float
    poll_seconds: float = POLL_SECONDS

    async def ask(self, request: ApprovalRequest) -> Outcome:
        """Approved, refused, or `approval_timeout`; the approval is used up by the call that follows."""
        asked = await asyncio.to_thread(self.approvals.request, request, agent=self.agent)
        try:
            async with asyncio.timeout(self.timeout_seconds):
                while (use := await asyncio.to_thread(self.approvals.use, asked.id, request)).outcome == PENDING:
                    await asyncio.sleep(self.poll_seconds)
        except TimeoutError:
            return TIMEOUT
        if use.may_call:
            return APPROVED
        return REFUSED if use.outcome == REFUSED else TIMEOUT


def _shown(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
