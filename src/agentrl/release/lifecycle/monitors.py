"""The online monitors of a release: what drifted once all users are served, and what is an outage of everybody's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from sqlalchemy import and_, or_, select

from agentrl.config.monitoring import MonitoringConfig
from agentrl.monitoring.alarms import Alarm, Watched, watch
from agentrl.release.evidence import READ, live_evidence, session_evidence
from agentrl.release.lifecycle.rules import monitoring_of
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Release, SessionEvidence, Verdict
from agentrl.release.store import tables

REFERENCE_SECONDS = 7 * 86400.0
"""Before a canary, of the baseline's sessions: a week has every hour and every weekday in it."""
FIRST_EVENT = "first_event"
"""The test of a verdict that one event decides: no outage of anybody's excuses it."""


def watch_promoted(place: ReleasePlace, release: Release, *, now: float) -> Watched | None:
    """Hold all users' sessions since the promotion against the candidate's own canary; None: nothing is watched."""
    config = monitoring_of(release)
    if config is None or not config.metrics:
        return None
    canary = live_evidence(place.store, place.workflow, release.id, "canary")
    watched = watch(
        config,
        served_by(place, release.candidate_upstream, since=release.entered_at),
        reference=[each for each in canary if each.arm is Arm.CANDIDATE],
        now=now,
    )
    keep_alerts(place, release, watched.alarms)
    return watched


def shared_outage(place: ReleasePlace, release: Release, evidence: Iterable[SessionEvidence], *, now: float) -> str:
    """What is wrong with both arms of a canary, or with the tools' own servers; empty where nothing is."""
    sessions = list(evidence)
    began = release.entered_at
    watched = watch(
        monitoring_of(release) or MonitoringConfig(),
        [each for each in sessions if each.arm is Arm.CANDIDATE],
        reference=served_by(place, release.baseline_upstream, since=began - REFERENCE_SECONDS, until=began),
        concurrent=[each for each in sessions if each.arm is Arm.BASELINE],
        now=now,
    )
    if not watched.is_shared_outage:
        return ""
    keep_alerts(place, release, watched.alarms)
    blameless = [alarm.text for alarm in watched.alarms if not alarm.may_roll_back]
    return "; ".join(blameless) or "both arms are worse"


def is_decided_by_an_event(failed: Iterable[Verdict]) -> bool:
    """Whether one of these needs no comparison."""
    return any(verdict.test == FIRST_EVENT for verdict in failed)


def keep_alerts(place: ReleasePlace, release: Release, alarms: Iterable[Alarm]) -> None:
    """Each once: an alarm keeps its id from look to look."""
    rows = [
        {
            "id": f"{release.id}-{alarm.id}"[-80:],
            "workflow": place.workflow,
            "release_id": release.id,
            "at": alarm.at,
            "kind": alarm.kind,
            "text": alarm.text,
        }
        for alarm in alarms
    ]
    if rows:
        with place.store.write() as connection:
            connection.execute(place.store.insert(tables.alerts).on_conflict_do_nothing(), rows)


def forbidden_by(place: ReleasePlace, release: Release) -> list[SessionEvidence]:
    """Of the users of a promoted policy, those with a violation that nothing excuses, also while the next one is tried.

    As evidence against the candidate that it was; a session that is still open counts, too.
    """
    table, later = tables.sessions.c, tables.releases.c
    since = select(later.id).where(later.workflow == place.workflow, later.created_at >= release.entered_at)
    wanted = and_(
        table.workflow == place.workflow,
        or_(table.release_id == release.id, table.release_id.in_(since)),
        table.assigned_at >= release.entered_at,
        table.upstream == release.candidate_upstream,
        table.is_forced.is_(False),
        table.safety_violations > 0,
        table.zero_tolerance.is_(True),
    )
    with place.store.read() as connection:
        rows = connection.execute(select(*READ).where(wanted).order_by(table.assigned_at, table.session_id)).mappings()
        return [replace(session_evidence(row), arm=Arm.CANDIDATE, pair="") for row in rows]


def served_by(place: ReleasePlace, upstream: str, *, since: float, until: float | None = None) -> list[SessionEvidence]:
    """Of users, whatever release was under way: also those that a later canary is measured against."""
    table = tables.sessions.c
    wanted = and_(
        table.workflow == place.workflow,
        table.upstream == upstream,
        table.assigned_at >= since,
        table.is_forced.is_(False),
        table.status != "open",
    )
    if until is not None:
        wanted = and_(wanted, table.assigned_at < until)
    with place.store.read() as connection:
        rows = connection.execute(
            select(*READ).where(wanted).order_by(table.assigned_at, table.session_id, table.arm)
        ).mappings()
        return [session_evidence(row) for row in rows]
