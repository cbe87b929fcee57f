"""Sessions that are over become records: in the store, in the session log, and then for whoever else is told.

Any replica closes any session, also one of a replica that is gone. A session is recorded again when a late label
changes it; who reads the log takes the last line of a session. In which people may override it is a window: until it
ends nobody knows that they did not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, or_, select, update

from agentrl.config import GatewayConfig
from agentrl.errors import ReleaseError
from agentrl.gateway.kept_content import take_content
from agentrl.gateway.ledger_rows import settle
from agentrl.gateway.record import record_of
from agentrl.gateway.sessions import CLOSED, KEY, OPEN
from agentrl.monitoring.redaction import redact
from agentrl.monitoring.session_log import SessionLog
from agentrl.release.approval_counts import ApprovalCounts, counts_of
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm
from agentrl.release.store.tables import sessions

logger = logging.getLogger(__name__)

AT_ONCE = 200
"""Sessions of one transaction."""

Told = Callable[[Sequence[tuple[Mapping[str, Any], bool]]], None]
"""Is given records, each with whether an earlier one of its session was written."""


class Closing:
    """What one replica does for the sessions of all.

    Args:
        tell: is given the records once they are written; what it does is no business of theirs.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        config: GatewayConfig,
        place: ReleasePlace,
        *,
        tell: Told | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._config, self._place, self._wall = config, place, wall
        self.tell = tell
        self._log: SessionLog | None = None
        self.trouble = ""
        """Why records could not be written last time; empty where they could."""
        self.recorded = 0

    def run_once(self) -> None:
        """Close, settle and record what is due; what cannot be written is due again next time."""
        try:
            self._end_windows()
            while self._record_some() == AT_ONCE:
                pass
            self.trouble = ""
        except (ReleaseError, OSError) as error:
            if not self.trouble:
                logger.error("sessions cannot be recorded: %s", error)
            self.trouble = str(error)
        except Exception:
            logger.exception("sessions cannot be recorded")
            self.trouble = "a fault of the gateway, see its log"

    def close(self) -> None:
        """Give the log back."""
        if self._log is not None:
            self._log.close()

    def _record_some(self) -> int:
        now, columns, store = self._wall(), sessions.c, self._place.store
        due = and_(
            columns.workflow == self._place.workflow,
            columns.recorded_at.is_(None),
            or_(columns.status == CLOSED, columns.last_at <= now - self._config.session_idle_seconds),
        )
        with store.write() as connection:
            wanted = select(*(columns[name] for name in KEY)).where(due).order_by(columns.last_at).limit(AT_ONCE)
            keys = [dict(row) for row in connection.execute(_skipping(wanted, store.is_sqlite)).mappings()]
            if not keys:
                return 0
            ended = {"status": CLOSED, "closed_at": sessions.c.last_at}
            _update(connection, keys, ended, columns.status == OPEN)
            settle(connection, keys)
            asked = counts_of(connection, self._place.workflow, sorted({key["session_id"] for key in keys}), now)
            said = take_content(connection, keys) if self._config.keep_content else {}
            records = [
                (row, self._record(row, asked.get(row["session_id"]), said.get(tuple(row[name] for name in KEY))))
                for row in _rows(connection, keys)
            ]
            self._append([record for _, record in records])
            marked = [{f"the_{name}": row[name] for name in KEY} | {"record": record} for row, record in records]
            where = [sessions.c[name] == bindparam(f"the_{name}") for name in KEY]
            connection.execute(
                update(sessions).where(*where).values(record=bindparam("record"), recorded_at=now), marked
            )
        self.recorded += len(records)
        if self.tell is not None:
            try:
                self.tell([(record, "schema_version" in (row["record"] or {})) for row, record in records])
            except Exception:
                logger.exception("records are written, and others cannot be told of them")
        return len(keys)

    def _end_windows(self) -> None:
        """Nobody overrode it, and nobody can any more."""
        columns = sessions.c
        is_over = and_(
            columns.workflow == self._place.workflow,
            columns.human_override.is_(None),
            columns.status != OPEN,
            columns.closed_at <= self._wall() - self._config.feedback_window_seconds,
            or_(columns.channel != "shadow", columns.arm == Arm.BASELINE.value),  # nobody saw a copy in shadow
        )
        with self._place.store.read() as connection:
            if connection.execute(select(columns.session_id).where(is_over).limit(1)).first() is None:
                return
        with self._place.store.write() as connection:
            connection.execute(update(sessions).where(is_over).values(human_override=False, recorded_at=None))

    def _record(self, row: Mapping[str, Any], asked: ApprovalCounts | None, said: Any) -> dict[str, Any]:
        record = record_of(row, self._config, asked).to_record()
        content = (row["record"] or {}).get("content") if said is None else said
        kept: dict[str, Any] = redact(record | ({"content": content} if content is not None else {}))
        return kept

    def _append(self, records: Sequence[Mapping[str, Any]]) -> None:
        if self._log is None:
            self._log = SessionLog(self._place.folder / "sessions", clock=self._wall)
        self._log.append(*records)


def _skipping(wanted: Any, is_sqlite: bool) -> Any:
    """Rows that another replica is about to record are left to it."""
    return wanted if is_sqlite else wanted.with_for_update(skip_locked=True)


def _rows(connection: Connection, keys: Sequence[Mapping[str, Any]]) -> list[Any]:
    ids = [key["session_id"] for key in keys]
    wanted = {tuple(key[name] for name in KEY) for key in keys}
    found = select(sessions).where(sessions.c.workflow == keys[0]["workflow"], sessions.c.session_id.in_(ids))
    rows = connection.execute(found.order_by(sessions.c.last_at, sessions.c.session_id, sessions.c.arm)).mappings()
    return [row for row in rows if tuple(row[name] for name in KEY) in wanted]


def _update(connection: Connection, keys: Sequence[Mapping[str, Any]], values: Mapping[str, Any], only: Any) -> None:
    where = [sessions.c[name] == bindparam(f"the_{name}") for name in KEY]
    of = [{f"the_{name}": key[name] for name in KEY} for key in keys]
    connection.execute(update(sessions).where(*where, only).values(**values), of)
