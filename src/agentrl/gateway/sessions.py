"""Users' sessions as a replica knows them: who began them, which arm they are of, what is not written yet.

A session is begun once, by whichever replica sees it first, and keeps its arm for life: another replica finds it in the
store. A session that was idle for longer than the config says is over; the same id later goes on under the same release
and begins anew under another one.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from agentrl.gateway.errors import ApiError
from agentrl.monitoring.redaction import redact_text
from agentrl.release.records import Arm

MAX_ID_CHARS = 80
MAX_SESSIONS = 200_000
"""In memory, at about 1 kB each; older ones are found in the store."""
PLAIN = re.compile(r"[!-~]{1,80}")
HARMLESS = re.compile(r"(?:[a-z]{1,8}[-_:])?(?:[a-zA-Z]{1,12}|\d{1,6})(?:[-_:](?:[a-zA-Z]{1,12}|\d{1,6})){0,3}")
"""Short words and small numbers: the usual id, for which nobody need look longer."""
OPEN, CLOSED, ABORTED, FAILED = "open", "closed", "aborted", "failed"
KEY = ("workflow", "release_id", "session_id", "arm")
"""Columns that a row of a session is found by."""
DRAFT_KEYS = ("context_digest", "output_digest", "tools", "content")
"""Of a record, kept in the row before the session is over."""


def kept_id(text: str) -> str:
    """An id as it is kept and shown: itself, or its digest where it is long, in other letters, or somebody's data."""
    if PLAIN.fullmatch(text) and _says_nothing(text):
        return text
    return text_digest(text)


def text_digest(text: str) -> str:
    """`sha256:...` of a text as a client or a server wrote it: half a character is no reason to stop."""
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


@lru_cache(maxsize=65536)
def _says_nothing(text: str) -> bool:
    """Not an address of mail, a phone number, a key: clients make ids of what they have."""
    return bool(HARMLESS.fullmatch(text)) or redact_text(text) == text


def issued_id() -> str:
    """For a session that came without one; nobody can guess it."""
    return f"sess_{uuid.uuid4().hex}"


@dataclass
class Told:
    """What happened in a session since it was last written: added to the row, as other replicas add theirs."""

    requests: int = 0
    fallbacks: int = 0
    errors: int = 0
    unpriced: int = 0
    seconds: float = 0.0
    tokens_in: int = 0
    tokens_out: int = 0
    model_cost_usd: float = 0.0
    proposed_calls: int = 0

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def plus(self, other: Told) -> Told:
        """Both."""
        return Told(**{key: value + getattr(other, key) for key, value in vars(self).items()})


@dataclass
class Session:
    """One, and only ever touched on the gateway's loop; the ledger is given copies of its row."""

    id: str
    release_id: str
    arm: Arm
    channel: str
    upstream: str
    bundle: str
    client: str
    assigned_at: float
    last_at: float
    cluster: str = ""
    intent: str = ""
    is_forced: bool = False
    price_table: str | None = None
    """Digest of the prices of its upstream; None where it has none."""
    moved_at: float | None = None
    status: str = OPEN
    in_flight: int = 0
    told: Told = field(default_factory=Told)
    draft: dict[str, Any] = field(default_factory=dict)
    """Of its record: what only those who saw its messages know."""

    @property
    def is_moved(self) -> bool:
        return self.moved_at is not None

    @property
    def key(self) -> tuple[str, str, str]:
        """Of its row, beside the workflow."""
        return (self.release_id, self.id, self.arm.value)

    def row(self, workflow: str) -> dict[str, Any]:
        """Its columns that are set and not added to."""
        return {
            "workflow": workflow,
            "release_id": self.release_id,
            "session_id": self.id,
            "arm": self.arm.value,
            "channel": self.channel,
            "bundle": self.bundle,
            "upstream": self.upstream,
            "client": self.client,
            "cluster": self.cluster,
            "intent": self.intent,
            "is_forced": self.is_forced,
            "price_table": self.price_table,
            "assigned_at": self.assigned_at,
            "last_at": self.last_at,
            "moved_at": self.moved_at,
            "status": self.status,
            "closed_at": self.last_at if self.status != OPEN else None,
            "record": self.draft or None,
        }


def session_of(row: Mapping[str, Any]) -> Session:
    """From the table's row."""
    return Session(
        id=row["session_id"],
        release_id=row["release_id"],
        arm=Arm(row["arm"]),
        channel=row["channel"],
        upstream=row["upstream"],
        bundle=row["bundle"],
        client=row["client"],
        assigned_at=row["assigned_at"],
        last_at=row["last_at"],
        cluster=row["cluster"],
        intent=row["intent"],
        is_forced=row["is_forced"],
        price_table=row["price_table"],
        moved_at=row["moved_at"],
        status=row["status"],
        draft={key: value for key, value in (row["record"] or {}).items() if key in DRAFT_KEYS},
    )


def seen_by_users(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of all rows of a session id, the one that its user last talked to: no copy in shadow."""
    seen = [row for row in rows if row["channel"] != "shadow" or row["arm"] == Arm.BASELINE.value]
    return max(seen, key=lambda row: (row["assigned_at"], row["release_id"], row["arm"]), default=None)


class SessionBook:
    """The sessions that a replica has seen lately, the latest last.

    Args:
        idle_seconds: after which one is looked up again: another replica may have closed it.
    """

    def __init__(self, idle_seconds: float, size: int = MAX_SESSIONS) -> None:
        self._idle_seconds = idle_seconds
        self._size = size
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def find(self, session_id: str, now: float) -> Session | None:
        """A session that is surely still open, or that this replica answers a request of."""
        session = self._sessions.get(session_id)
        if session is None:
            return None
        if not session.in_flight and (session.status == CLOSED or now - session.last_at > self._idle_seconds / 2):
            if not session.told:
                del self._sessions[session_id]
            return None
        self._sessions.move_to_end(session_id)
        return session

    def keep(self, session: Session) -> None:
        """Remember one, and forget the oldest that is at rest."""
        self._sessions[session.id] = session
        self._sessions.move_to_end(session.id)
        while len(self._sessions) > self._size:
            _, oldest = self._sessions.popitem(last=False)
            if oldest.in_flight:
                self.keep(oldest)
                return

    def in_flight(self) -> list[Session]:
        """Those with a request under way."""
        return [session for session in self._sessions.values() if session.in_flight]


def refuse_foreign(session: Session, client: str) -> None:
    """A session belongs to who began it.

    Raises:
        ApiError: 403, it is another client's.
    """
    if session.client != client:
        message = "The session id belongs to another client; send one of your own, or none to be given one."
        raise ApiError(403, message, code="foreign_session", kind="permission_error")
