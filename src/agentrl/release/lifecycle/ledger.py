"""From lines of the audit log to rows of the database: the log is the truth, and the rows can be made of it again.

An entry carries the whole rows that it sets, so that applying it needs nothing else and asks nothing. It is applied
with its own row of `transitions` in one transaction: once, wherever a process was killed. Whoever takes the log next
applies what is missing before he looks at anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Table, select

from agentrl.errors import ReleaseError
from agentrl.monitoring.redaction import redact_text
from agentrl.release.lifecycle.audit_log import AuditLog, Entry, iso, locked_log
from agentrl.release.place import ReleasePlace
from agentrl.release.store import Store, tables

Changes = Mapping[str, Any]
"""By table: a list of rows, each with its key; of `routing` one row without its workflow."""

TABLES: Mapping[str, Table] = {
    table.name: table
    for table in (
        tables.releases,
        tables.workflows,
        tables.approvals,
        tables.drills,
        tables.incidents,
        tables.alerts,
        tables.suite_results,
    )
}
"""What entries may set; sessions, feedback and verdicts are not the log's."""


WORDS = frozenset({"reason", "text", "cause", "invalidated_assumption", "follow_up", "fix"})
"""Keys of what people write in their own words, wherever in an entry they stand."""


@dataclass
class Ledger:
    """The log and the store of a workflow, while nobody else changes either."""

    place: ReleasePlace
    log: AuditLog

    def record(
        self, kind: str, *, actor: str, now: float, release_id: str = "", changes: Changes, **content: Any
    ) -> Entry:
        """Append one entry, then apply it.

        Raises:
            ReleaseError: the log cannot be written, and nothing has changed; or the store cannot, and the entry, which
                is written, is applied as soon as it can.
        """
        content, changes = _worded(content), _worded(changes)
        entry = self.log.append(
            {
                "at": iso(now),
                "kind": kind,
                "workflow": self.place.workflow,
                "release_id": release_id,
                "actor": actor,
                **content,
                "changes": changes,
            }
        )
        try:
            apply(self.place.store, [entry])
        except ReleaseError as error:
            raise ReleaseError(
                f"{error}; entry {entry.number} of the audit log is written and will be applied when the store answers"
            ) from error
        return entry


def _worded(value: Any) -> Any:
    """What people wrote, redacted: the log is handed on, and nothing in it can be taken back."""
    if isinstance(value, Mapping):
        return {
            key: redact_text(each) if key in WORDS and isinstance(each, str) else _worded(each)
            for key, each in value.items()
        }
    return [_worded(each) for each in value] if isinstance(value, list | tuple) else value


@contextmanager
def ledger(place: ReleasePlace) -> Iterator[Ledger]:
    """The workflow's books, with everything applied that the log has; others wait until the block ends.

    Raises:
        ReleaseError: the log or the store cannot be read, or the two are not of each other.
    """
    with locked_log(place.audit_log) as log:
        catch_up(place, log.entries)
        yield Ledger(place, log)


def catch_up(place: ReleasePlace, entries: list[Entry]) -> int:
    """Apply the entries that a crash kept from the store; returns how many.

    Raises:
        ReleaseError: the store has applied an entry that this log does not have: the log was cut, or is another one.
    """
    rows = tables.transitions.c
    with place.store.read() as connection:
        last = connection.execute(
            select(rows.entry, rows.hash).where(rows.workflow == place.workflow).order_by(rows.entry.desc()).limit(1)
        ).one_or_none()
    applied = 0 if last is None else last.entry
    if last is not None and (len(entries) < last.entry or entries[last.entry - 1].hash != last.hash):
        raise ReleaseError(
            f"{place.audit_log}: the store has applied entry {last.entry} ({last.hash[:12]}), which this log does not "
            "have: lines were cut from its end, or it is not the log of this store; put the right one back"
        )
    missing = [e for e in entries[applied:] if e.body["workflow"] == place.workflow]
    if missing:
        apply(place.store, missing)
    return len(missing)


def apply(store: Store, entries: list[Entry]) -> None:
    """Set the rows of these entries, all of them or none.

    Raises:
        ReleaseError: the store cannot be written.
    """
    with store.write() as connection:
        for entry in entries:
            body = entry.body
            key = {"workflow": body["workflow"], "entry": entry.number}
            written = connection.execute(
                store.insert(tables.transitions)
                .values(
                    **key,
                    hash=entry.hash,
                    at=datetime.fromisoformat(body["at"]).timestamp(),
                    release_id=body["release_id"],
                    kind=body["kind"],
                    record=dict(body),
                )
                .on_conflict_do_nothing()
            )
            if written.rowcount == 0:  # applied by another process meanwhile
                continue
            for name, rows in body["changes"].items():
                if name == tables.routing.name:
                    _set_routing(connection, store, body["workflow"], rows)
                    continue
                for row in rows:
                    set_row(connection, store, TABLES[name], row)


def set_row(connection: Connection, store: Store, table: Table, row: Mapping[str, Any]) -> None:
    """Insert the row, or set these columns of the one with its key."""
    keys = [column.name for column in table.primary_key]
    rest = {name: value for name, value in row.items() if name not in keys}
    statement = store.insert(table).values(**row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=keys, set_=rest) if rest else statement.on_conflict_do_nothing()
    )


def _set_routing(connection: Connection, store: Store, workflow: str, row: Mapping[str, Any]) -> None:
    """The epoch is the entry's own; a granted lease is one more renewal, whatever their number is by now."""
    table = tables.routing
    values = {name: value for name, value in row.items() if name != "grants_lease"}
    changed: dict[str, Any] = dict(values)
    if row.get("grants_lease"):
        changed["lease_renewal"] = table.c.lease_renewal + 1
        values["lease_renewal"] = 1
    statement = store.insert(table).values(workflow=workflow, **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["workflow"], set_=changed))
