"""One look at the gates of a release that has traffic: evidence, verdicts, and what follows from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import and_, case, func, select

from agentrl.config.durations import seconds_of
from agentrl.release.evidence import live_evidence
from agentrl.release.gates.decide import Decision, decide
from agentrl.release.gates.judge import judge, judge_all
from agentrl.release.gates.kept import keep_verdicts
from agentrl.release.gates.look import Look
from agentrl.release.gates.shown import shown_verdicts
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Outcome, Release, ReleaseState, SessionEvidence, Verdict
from agentrl.release.store import tables

LIVE_STATES = (ReleaseState.SHADOW, ReleaseState.CANARY)


@dataclass(frozen=True)
class Looked:
    """What a look found."""

    verdicts: list[Verdict]
    decision: Decision
    evidence: list[SessionEvidence]
    look: Look

    @property
    def failed(self) -> list[Verdict]:
        """Those that bring the release back."""
        return [each for each in self.verdicts if each.verdict is Outcome.FAIL and not each.is_shown_only]


@dataclass(frozen=True)
class Signature:
    """What changes whenever evidence does; two counts and sums instead of all rows."""

    rows: tuple[Any, ...]
    violations: int

    @classmethod
    def read(cls, place: ReleasePlace, release_id: str, channel: str) -> Signature:
        """Of the sessions of a release in a channel."""
        table, told = tables.sessions.c, tables.feedback.c
        mine = and_(table.workflow == place.workflow, table.release_id == release_id, table.channel == channel)
        is_closed = case((table.status == "open", 0), else_=1)
        with place.store.read() as connection:
            found = connection.execute(
                select(
                    func.count(),
                    func.sum(is_closed),
                    func.max(table.closed_at),
                    func.sum(case((table.arm == str(Arm.CANDIDATE), table.safety_violations), else_=0)),
                ).where(mine)
            ).one()
            events = connection.execute(
                select(func.count(), func.max(told.received_at)).where(
                    told.workflow == place.workflow, told.release_id == release_id
                )
            ).one()
        return cls((*found, *events), found[3] or 0)


def look_at(place: ReleasePlace, release: Release, *, now: float) -> Looked:
    """Read, judge and keep the gates of a shadow or a canary.

    Raises:
        ReleaseError: the store cannot be read or written.
    """
    rules, stage = rules_of(release), str(release.state)
    began = share_began(place, release) if release.state is ReleaseState.CANARY else release.entered_at
    since = max(began, release.evidence_since)
    evidence = live_evidence(place.store, place.workflow, release.id, stage, since=since)
    look = Look(
        release_id=release.id,
        stage=stage,
        at=datetime.fromtimestamp(now, UTC),
        look_no=next_look(place, release, stage),
        share_percent=release.share_percent if release.state is ReleaseState.CANARY else None,
        started_at=since,
        drills=counted_drills(place, release),
        assigned=_assigned(place, release, since) if release.state is ReleaseState.CANARY else None,
    )
    verdicts = judge_all(rules.gates, evidence, look)
    shown = shown_verdicts(rules.gates, evidence, look)
    _keep_what_is_new(place, release, [*verdicts, *shown])
    waited = now - max(release.entered_at, release.evidence_since)
    shortest = seconds_of(rules.min_canary) if release.state is ReleaseState.CANARY else 0.0
    gates = [gate for gate in rules.gates if stage in gate.stages]
    decision = decide(verdicts, waited_seconds=waited, gates=gates, min_seconds=shortest)
    return Looked(verdicts, decision, evidence, look)


def look_back(place: ReleasePlace, release: Release, *, now: float) -> Looked:
    """The canary's gates once more, after its promotion, with the labels that have come since; kept as `general`."""
    rules = rules_of(release)
    gates = [gate for gate in rules.gates if "canary" in gate.stages]
    began = max(share_began(place, release), release.evidence_since)
    evidence = live_evidence(place.store, place.workflow, release.id, "canary", since=began)
    look = Look(
        release_id=release.id,
        stage="general",
        at=datetime.fromtimestamp(now, UTC),
        look_no=next_look(place, release, "general"),
        share_percent=None,
        started_at=began,
        drills=counted_drills(place, release),
    )
    verdicts = [judge(gate, evidence, look, gates=len(gates)) for gate in gates]
    _keep_what_is_new(place, release, verdicts)
    decision = decide(verdicts, waited_seconds=0.0)
    return Looked(verdicts, decision, evidence, look)


def next_look(place: ReleasePlace, release: Release, stage: str) -> int:
    """The number of the next look, from 1; it begins anew where the evidence does."""
    table = tables.verdicts.c
    with place.store.read() as connection:
        last = connection.execute(
            select(func.max(table.look_no)).where(
                table.release_id == release.id, table.stage == stage, table.at >= release.evidence_since
            )
        ).scalar()
    return (last or 0) + 1


def counted_drills(place: ReleasePlace, release: Release) -> list[float]:
    """Seconds of the rollback drills that count."""
    table = tables.drills.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(table.rollback_seconds)
            .where(table.release_id == release.id, table.is_counted.is_(True), table.rollback_seconds.is_not(None))
            .order_by(table.at)
        ).scalars()
        return list(rows)


def share_began(place: ReleasePlace, release: Release) -> float:
    """When the canary's last share came into force: sessions from before it had other odds."""
    table = tables.transitions.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(table.at, table.kind, table.record)
            .where(table.workflow == place.workflow, table.release_id == release.id)
            .order_by(table.entry.desc())
        ).all()
    for row in rows:
        if row.kind == "share" or (row.kind == "transition" and row.record["to"] == "canary"):
            return float(row.at)
    return release.entered_at


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


def _assigned(place: ReleasePlace, release: Release, since: float) -> tuple[int, int]:
    """Sessions of the canary by arm, those that are open too."""
    table = tables.sessions.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(table.arm, func.count())
            .where(
                table.workflow == place.workflow,
                table.release_id == release.id,
                table.channel == "canary",
                table.assigned_at >= since,
                table.is_forced.is_(False),
            )
            .group_by(table.arm)
        ).all()
    counts = {row[0]: row[1] for row in rows}
    return counts.get(str(Arm.CANDIDATE), 0), counts.get(str(Arm.BASELINE), 0)


def _keep_what_is_new(place: ReleasePlace, release: Release, verdicts: Sequence[Verdict]) -> None:
    """A look that finds what the last one found is no further row; the first and the last of each finding are kept."""
    if not verdicts:
        return
    before = latest_verdicts(place, release, ReleaseState(verdicts[0].stage), with_shown=True)
    keep_verdicts(place.store, [each for each in verdicts if _said(each) != _said(before.get(each.gate))])


def _said(verdict: Verdict | None) -> Verdict | None:
    return None if verdict is None else replace(verdict, at="", look_no=0, data_digest="")
