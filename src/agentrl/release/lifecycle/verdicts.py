"""The last look at each gate of a release: what guards read and people approve."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select

from agentrl.release.place import ReleasePlace
from agentrl.release.records import Outcome, Release, ReleaseState, Verdict
from agentrl.release.store import tables


def latest_verdicts(place: ReleasePlace, release: Release, stage: ReleaseState) -> dict[str, Verdict]:
    """By gate, of those that decide; of looks since the evidence last began anew."""
    table = tables.verdicts.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(table.record)
            .where(table.release_id == release.id, table.stage == str(stage), table.at >= release.evidence_since)
            .order_by(table.at, table.look_no)
        ).scalars()
        return {verdict.gate: verdict for verdict in map(verdict_of, rows) if not verdict.is_shown_only}


def verdict_of(record: dict[str, Any]) -> Verdict:
    """From its record."""
    return Verdict(**{**record, "verdict": Outcome(record["verdict"])})
