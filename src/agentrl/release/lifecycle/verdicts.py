"""The last look at each gate of a release: what guards read and people approve."""

from __future__ import annotations

from sqlalchemy import and_, func, select

from agentrl.release.gates.kept import verdict_from
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState, Verdict
from agentrl.release.store import tables


def latest_verdicts(
    place: ReleasePlace, release: Release, stage: ReleaseState, *, with_shown: bool = False
) -> dict[str, Verdict]:
    """By gate, of those that decide or of all; of looks since the evidence last began anew."""
    table = tables.verdicts.c
    since = max(release.evidence_since, release.verdicts_since)
    mine = and_(table.release_id == release.id, table.stage == str(stage), table.at >= since)
    last = select(table.gate, func.max(table.at).label("at")).where(mine).group_by(table.gate).subquery()
    with place.store.read() as connection:
        rows = connection.execute(
            select(table.record)
            .join(last, and_(table.gate == last.c.gate, table.at == last.c.at))
            .where(mine)
            .order_by(table.gate, table.look_no)
        ).scalars()
        found = [verdict_from(row) for row in rows]
    return {verdict.gate: verdict for verdict in found if with_shown or not verdict.is_shown_only}
