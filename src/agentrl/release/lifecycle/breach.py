"""When a breach was: the first record that makes a failed verdict true. Found out after the rollback, not before."""

from __future__ import annotations

from sqlalchemy import func, select

from agentrl.release.gates.judge import judge
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.looking import Looked
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Outcome, Release, Verdict
from agentrl.release.store import tables


def note_breach(place: ReleasePlace, release: Release, looked: Looked) -> float | None:
    """Put the time of the breach into the incident of a rollback that these verdicts led to; returns it.

    Raises:
        ReleaseError: it cannot be recorded.
    """
    times = [breach_time(place, release, looked, verdict) for verdict in looked.failed]
    at = min((each for each in times if each is not None), default=None)
    if at is None:
        return None
    with ledger(place) as books:
        for row in read_incidents(place):
            if row["release_id"] == release.id and row["record"]["t_breach"] is None:
                changed = {**row, "record": {**row["record"], "t_breach": at}, "version": row["version"] + 1}
                now = looked.look.seconds
                books.record(
                    "breach", actor="controller", now=now, release_id=release.id, changes={"incidents": [changed]}
                )
    return at


def breach_time(place: ReleasePlace, release: Release, looked: Looked, verdict: Verdict) -> float | None:
    """When the first record came that makes a failed verdict true: the shortest prefix of the records that fails.

    Records are taken in the order in which they came to be known: a session's end, or what was last told of it.
    """
    gate = next((each for each in rules_of(release).gates if each.name == verdict.gate), None)
    if gate is None or not looked.evidence:
        return None
    known = _known_at(place, release)
    ordered = sorted(looked.evidence, key=lambda each: (known.get(each.session_id, each.at), each.session_id, each.arm))
    number = sum(str(looked.look.stage) in each.stages for each in rules_of(release).gates) or 1

    def fails(length: int) -> bool:
        return judge(gate, ordered[:length], looked.look, gates=number).verdict is Outcome.FAIL

    low, high = 0, len(ordered)
    if not fails(high):  # the split of the traffic is no single gate's
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fails(middle) else (middle, high)
    last = ordered[high - 1]
    return min(known.get(last.session_id, last.at), looked.look.seconds)


def _known_at(place: ReleasePlace, release: Release) -> dict[str, float]:
    table, told = tables.sessions.c, tables.feedback.c
    with place.store.read() as connection:
        closed = connection.execute(
            select(table.session_id, func.max(table.closed_at))
            .where(table.workflow == place.workflow, table.release_id == release.id, table.closed_at.is_not(None))
            .group_by(table.session_id)
        ).all()
        said = connection.execute(
            select(told.session_id, func.max(told.received_at))
            .where(told.workflow == place.workflow, told.release_id == release.id)
            .group_by(told.session_id)
        ).all()
    known = {row[0]: float(row[1]) for row in closed}
    for session_id, at in said:
        known[session_id] = max(known.get(session_id, 0.0), float(at))
    return known
