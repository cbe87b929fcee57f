"""What one transaction of the ledger writes, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, bindparam, func, select, update

from agentrl.gateway.feedback import FeedbackEvent, folded, merged
from agentrl.gateway.sessions import KEY, OPEN, Told, seen_by_users
from agentrl.release.records import Arm
from agentrl.release.store import Store
from agentrl.release.store.tables import feedback, replicas, response_sessions, sessions

SLICE = 400
"""Ids of one statement: SQLite takes 32,766 values."""
Became = Literal["recorded", "duplicate", "conflict", "unknown_session", "foreign_session"]


@dataclass(frozen=True)
class Recorded:
    """What became of one event."""

    outcome: Became
    is_late: bool = False


def write_sessions(connection: Connection, store: Store, changed: Sequence[tuple[dict[str, Any], Told]]) -> None:
    """Insert sessions, or add what happened in them."""
    if not changed:
        return
    rows = [
        {**row, **vars(told), "model_cost_usd": told.model_cost_usd}
        for row, told in sorted(changed, key=lambda each: [each[0][key] for key in KEY])  # one order: no deadlocks
    ]
    insert = store.insert(sessions)
    new = insert.excluded
    values: dict[str, Any] = {
        name: func.coalesce(sessions.c[name], 0) + func.coalesce(new[name], 0) for name in vars(Told())
    }
    latest = func.max if store.is_sqlite else func.greatest
    values["last_at"] = latest(sessions.c.last_at, new.last_at)
    values["moved_at"] = func.coalesce(sessions.c.moved_at, new.moved_at)
    values |= {name: new[name] for name in ("status", "closed_at", "record")}
    values["recorded_at"] = None
    connection.execute(insert.on_conflict_do_update(index_elements=list(KEY), set_=values), rows)
    settled = [row for row, told in changed if row["status"] != OPEN or told.fallbacks]
    settle(connection, [{key: row[key] for key in KEY} for row in settled])


def write_responses(
    connection: Connection, store: Store, workflow: str, responses: Sequence[tuple[str, str]], at: float
) -> None:
    """Which session each response belongs to; the first one counts."""
    if not responses:
        return
    rows = [
        {"workflow": workflow, "response_id": response, "session_id": session, "at": at}
        for response, session in sorted(dict(responses).items())
    ]
    connection.execute(store.insert(response_sessions).on_conflict_do_nothing(), rows)


def write_replica(connection: Connection, store: Store, workflow: str, replica: dict[str, Any]) -> None:
    """This replica's row."""
    row = {"workflow": workflow, **replica}
    changed = {key: value for key, value in row.items() if key not in ("workflow", "id", "started_at")}
    insert = store.insert(replicas).values(**row)
    connection.execute(insert.on_conflict_do_update(index_elements=["workflow", "id"], set_=changed))


def write_events(
    connection: Connection, store: Store, workflow: str, events: Sequence[FeedbackEvent], *, window_seconds: float
) -> list[Recorded]:
    """Insert events that are new and settle their sessions; what became of each, in their order.

    Sessions are locked before: two replicas that are told of one session at once would each fold without the other's
    event. A second event with an id that the same batch has is compared with the first.
    """
    if not events:
        return []
    rows = _rows_of(connection, workflow, {event.session_id for event in events}, lock=not store.is_sqlite)
    results: dict[int, Recorded] = {}
    new: dict[str, dict[str, Any]] = {}
    asked: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        row = rows.get(event.session_id)
        if row is None:
            results[index] = Recorded("unknown_session")
        elif row["client"] != event.client:
            results[index] = Recorded("foreign_session")
        else:
            is_late = row["closed_at"] is not None and event.received_at > row["closed_at"] + window_seconds
            asked.setdefault(event.event_id, []).append(index)
            new.setdefault(event.event_id, _event_row(workflow, event, row, is_late))
    inserted = _insert(connection, store, [new[event_id] for event_id in sorted(new)])
    known = _digests(connection, workflow, [event_id for event_id in asked if event_id not in inserted])
    for event_id, indices in asked.items():
        digest, is_late = known.get(event_id) or (new[event_id]["payload_digest"], new[event_id]["is_late"])
        for place, index in enumerate(indices):
            is_same = events[index].digest == digest
            is_new = place == 0 and event_id in inserted
            outcome: Became = "conflict" if not is_same else "recorded" if is_new else "duplicate"
            results[index] = Recorded(outcome, is_late)
    heard: dict[str, list[dict[str, Any]]] = {}
    for event_id in inserted:
        heard.setdefault(new[event_id]["session_id"], []).append(new[event_id])
    _write_folded(
        connection, [dict(rows[each]) | {"told": merged(rows[each]["told"], heard[each])} for each in sorted(heard)]
    )
    return [results[index] for index in range(len(events))]


def settle(connection: Connection, keys: Sequence[dict[str, Any]]) -> None:
    """Decide again what feedback and the session's end say together; the caller has the rows locked."""
    for some in _slices(keys):
        ids = {key["session_id"] for key in some}
        wanted = {tuple(key[name] for name in KEY) for key in some}
        found = connection.execute(select(sessions).where(_within(sessions, some[0]["workflow"], ids))).mappings().all()
        rows = [dict(row) for row in found if tuple(row[name] for name in KEY) in wanted]
        _write_folded(connection, [row for row in rows if not _is_copy(row)])


def _is_copy(row: Mapping[str, Any]) -> bool:
    """Of a candidate in shadow: nobody was told anything of it, its columns are the shadow's own."""
    return (row["channel"], row["arm"]) == ("shadow", Arm.CANDIDATE.value)


def _write_folded(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    updates = []
    for row in rows:
        columns = {name: row[name] for name in OVERRIDE} | folded(row) | {"told": row["told"], "recorded_at": None}
        updates.append({f"the_{name}": row[name] for name in KEY} | columns)
    where = [sessions.c[name] == bindparam(f"the_{name}") for name in KEY]
    names = [name for name in updates[0] if not name.startswith("the_")]
    connection.execute(update(sessions).where(*where).values({name: bindparam(name) for name in names}), updates)


OVERRIDE = ("human_override", "human_override_kind", "human_override_by", "human_override_at")


def _rows_of(connection: Connection, workflow: str, ids: Iterable[str], *, lock: bool) -> dict[str, Any]:
    """The row that users saw of each session id."""
    by_id: dict[str, list[Any]] = {}
    for some in _slices(sorted(ids)):
        query = select(sessions).where(_within(sessions, workflow, some))
        query = query.order_by(*(sessions.c[name] for name in KEY))
        for row in connection.execute(query.with_for_update() if lock else query).mappings():
            by_id.setdefault(row["session_id"], []).append(row)
    seen = {session_id: seen_by_users(rows) for session_id, rows in by_id.items()}
    return {session_id: row for session_id, row in seen.items() if row is not None}


def _event_row(workflow: str, event: FeedbackEvent, session: Any, is_late: bool) -> dict[str, Any]:
    return {
        "workflow": workflow,
        "event_id": event.event_id,
        "session_id": event.session_id,
        "release_id": session["release_id"],
        "kind": event.kind,
        "payload": dict(event.payload),
        "payload_digest": event.digest,
        "at": event.at,
        "received_at": event.received_at,
        "is_late": is_late,
    }


def _insert(connection: Connection, store: Store, rows: Sequence[dict[str, Any]]) -> set[str]:
    """The ids of the events that were not there yet."""
    inserted: set[str] = set()
    for some in _slices(rows):
        statement = store.insert(feedback).values(list(some)).on_conflict_do_nothing().returning(feedback.c.event_id)
        inserted.update(connection.execute(statement).scalars())
    return inserted


def _digests(connection: Connection, workflow: str, event_ids: Sequence[str]) -> dict[str, tuple[str, bool]]:
    known: dict[str, tuple[str, bool]] = {}
    columns = feedback.c
    for some in _slices(event_ids):
        query = select(columns.event_id, columns.payload_digest, columns.is_late).where(
            columns.workflow == workflow, columns.event_id.in_(some)
        )
        known |= {event_id: (digest, is_late) for event_id, digest, is_late in connection.execute(query)}
    return known


def _within(table: Any, workflow: str, ids: Iterable[str]) -> Any:
    return (table.c.workflow == workflow) & table.c.session_id.in_(list(ids))


def _slices(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    return (values[start : start + SLICE] for start in range(0, len(values), SLICE))
