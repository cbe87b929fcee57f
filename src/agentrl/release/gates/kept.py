"""Verdicts in the store: each under the digest of its record, so that one that is kept twice is there once."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import select

from agentrl.release.gates.digests import digest_of
from agentrl.release.records import Outcome, Verdict
from agentrl.release.store import Store
from agentrl.release.store.tables import verdicts as table


def keep_verdicts(store: Store, verdicts: Iterable[Verdict]) -> None:
    """Write them, all or none.

    Raises:
        ReleaseError: the store cannot be written.
    """
    rows = [_row(each) for each in verdicts]
    if rows:
        with store.write() as connection:
            connection.execute(store.insert(table).on_conflict_do_nothing(index_elements=["id"]), rows)


def read_verdicts(store: Store, release_id: str, stage: str | None = None) -> list[Verdict]:
    """Of a release, or of one of its stages, in the order of looks.

    Raises:
        ReleaseError: the store cannot be read.
    """
    wanted = select(table.c.record).where(table.c.release_id == release_id)
    if stage is not None:
        wanted = wanted.where(table.c.stage == stage)
    with store.read() as connection:
        rows = (
            connection.execute(wanted.order_by(table.c.at, table.c.look_no, table.c.gate, table.c.id)).scalars().all()
        )
    return [verdict_from(row) for row in rows]


def verdict_from(record: dict[str, Any]) -> Verdict:
    """The inverse of `Verdict.to_record`."""
    return Verdict(**{**record, "verdict": Outcome(record["verdict"])})


def _row(verdict: Verdict) -> dict[str, Any]:
    record = verdict.to_record()
    return {
        "id": digest_of(record),
        "release_id": verdict.release_id,
        "gate": verdict.gate,
        "stage": verdict.stage,
        "look_no": verdict.look_no,
        "at": datetime.fromisoformat(verdict.at).timestamp(),
        "verdict": str(verdict.verdict),
        "record": record,
    }
