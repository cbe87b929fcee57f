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
from agentrl.release.gates.judge import judge, judge_all, take
from agentrl.release.gates.kept import keep_verdicts
from agentrl.release.gates.look import Look
from agentrl.release.gates.shown import shown_verdicts
from agentrl.release.lifecycle.graders import begin_anew, note_first, read_graders
from agentrl.release.lifecycle.monitors import forbidden_by, is_decided_by_an_event, shared_outage
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
    release: Release
    """As it was looked at: its evidence may have begun anew just before."""
    outage: str = ""
    """What excuses comparisons that failed: both arms are worse. One event that decides by itself is not excused."""

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
        """Of the sessions of a release in a channel, what was told of them, its drills and its approvals."""
        table, told, drills, words = tables.sessions.c, tables.feedback.c, tables.drills.c, tables.approvals.c
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
            drilled = connection.execute(
                select(func.count(), func.max(drills.at)).where(drills.release_id == release_id)
            ).one()
            said = connection.execute(
                select(func.count(), func.max(words.at)).where(words.subject.startswith(f"{release_id}:"))
            ).one()
        return cls((*found, *events, *drilled, *said), found[3] or 0)


def look_at(place: ReleasePlace, release: Release, *, now: float) -> Looked:
    """Read, judge and keep the gates of a shadow or a canary.

    Raises:
        ReleaseError: the store cannot be read or written.
    """
    rules, stage = rules_of(release), str(release.state)
    began = share_began(place, release) if release.state is ReleaseState.CANARY else release.entered_at
    graders = read_graders(place, release, stage, since=max(began, release.evidence_since))
    if graders.is_new:
        release = begin_anew(place, release, graders, now=now)
    elif graders.is_first:
        note_first(place, release, graders, now=now)
    since = max(began, release.evidence_since)
    evidence = live_evidence(
        place.store, place.workflow, release.id, stage, since=since, grader_version=graders.version
    )
    look = Look(
        release_id=release.id,
        stage=stage,
        at=datetime.fromtimestamp(now, UTC),
        look_no=next_look(place, release, stage),
        share_percent=release.share_percent if release.state is ReleaseState.CANARY else None,
        started_at=since,
        drills=counted_drills(place, release),
        assigned=_assigned(place, release, since) if release.state is ReleaseState.CANARY else None,
        told=graders.reason,
    )
    taken = take(evidence, look)
    verdicts = judge_all(rules.gates, taken, look)
    shown = shown_verdicts(rules.gates, taken, look)
    _keep_what_is_new(place, release, [*verdicts, *shown])
    waited = now - max(release.entered_at, release.evidence_since)
    shortest = seconds_of(rules.min_canary) if release.state is ReleaseState.CANARY else 0.0
    gates = [gate for gate in rules.gates if stage in gate.stages]
    decision = decide(verdicts, waited_seconds=waited, gates=gates, min_seconds=shortest)
    found = Looked(verdicts, decision, evidence, look, release)
    if release.state is ReleaseState.CANARY and found.failed and not is_decided_by_an_event(found.failed):
        return replace(found, outage=shared_outage(place, release, evidence, now=now))
    return found


def look_for_events(place: ReleasePlace, release: Release, *, now: float) -> Looked | None:
    """Only what one event decides, of the sessions that have one: this takes milliseconds at any number of sessions.

    Sessions of every share count, and of a promoted release those of all its users: a violation that nothing excuses
    is no comparison. None where nothing fails by it.
    """
    rules, stage = rules_of(release), str(release.state)
    is_promoted = release.state is ReleaseState.GENERAL
    canary = "canary" if is_promoted else stage
    version = read_graders(place, release, canary, since=release.evidence_since).version
    harmed = [
        each
        for each in live_evidence(
            place.store, place.workflow, release.id, canary, since=release.evidence_since, only_harmed=True
        )
        if each.arm is Arm.CANDIDATE and (each.zero_tolerance or not version or each.conditions in ("", version))
    ]
    if is_promoted:
        harmed += forbidden_by(place, release)
    look = Look(
        release_id=release.id,
        stage=stage,
        at=datetime.fromtimestamp(now, UTC),
        look_no=next_look(place, release, stage),
        share_percent=None,
        started_at=release.evidence_since if is_promoted else max(release.entered_at, release.evidence_since),
    )
    gates = [gate for gate in rules.gates if canary in gate.stages and gate.unit == "session"]
    verdicts = [judge(gate, harmed, look, gates=len(gates)) for gate in gates]
    failed = [each for each in verdicts if each.verdict is Outcome.FAIL and is_decided_by_an_event([each])]
    if not failed:
        return None
    keep_verdicts(place.store, failed)
    return Looked(failed, decide(failed, waited_seconds=0.0), harmed, look, release)


def failure_record(looked: Looked, reason: str) -> dict[str, Any]:
    """Of a rollback, for the audit log and the incident; when the breach was is found out afterwards."""
    return {
        "reason": reason,
        "text": "; ".join(looked.decision.because),
        "gates": [verdict.gate for verdict in looked.failed],
        "verdicts": [verdict.to_record() for verdict in looked.failed],
        "severity": "hard" if any(each.severity == "hard" for each in looked.failed) else "soft",
        "t_breach": None,
    }


def look_back(place: ReleasePlace, release: Release, *, now: float) -> Looked:
    """The canary's gates once more, after its promotion, with the labels that have come since; kept as `general`."""
    rules = rules_of(release)
    gates = [gate for gate in rules.gates if "canary" in gate.stages]
    began = max(share_began(place, release), release.evidence_since)
    graders = read_graders(place, release, "canary", since=began)
    version = graders.before if graders.is_new else graders.version  # what it was promoted under
    evidence = live_evidence(
        place.store, place.workflow, release.id, "canary", since=began, grader_version=version or ""
    )
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
    return Looked(verdicts, decision, evidence, look, release)


def next_look(place: ReleasePlace, release: Release, stage: str) -> int:
    """The number of the next look, from 1; it begins anew where the evidence does."""
    table, begun = tables.verdicts.c, max(release.evidence_since, release.verdicts_since)
    with place.store.read() as connection:
        last = connection.execute(
            select(func.max(table.look_no)).where(
                table.release_id == release.id, table.stage == stage, table.at >= begun
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
