"""Drills as a release's evidence: a row each, and a line of the audit log."""

from __future__ import annotations

from agentrl.release.drill.record import Drill
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_release
from agentrl.release.place import ReleasePlace


def keep_drill(place: ReleasePlace, drill: Drill, *, actor: str, now: float) -> None:
    """Record a drill of one of the place's releases.

    Raises:
        ConfigError: there is no such release.
        ReleaseError: the log or the store cannot be written.
    """
    row = {
        "id": drill.id,
        "release_id": drill.release_id,
        "at": now,
        "is_counted": drill.is_counted,
        "rollback_seconds": drill.rollback_seconds,
        "record": drill.to_record(),
    }
    with ledger(place) as books:
        release = read_release(place, drill.release_id)
        books.record("drill", actor=actor, now=now, release_id=release.id, changes={"drills": [row]})
