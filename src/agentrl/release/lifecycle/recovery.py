"""Time to recovery: from the breach until users are as well served as before, which routing alone does not say.

The first window of sessions after a rollback in which the gate that failed is within its margin of the baseline's
level in the canary. A point estimate on purpose: it says when things looked well again, it decides nothing.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from agentrl.config.release import GateConfig, MinSamples
from agentrl.release.evidence import live_evidence
from agentrl.release.gates.judge import judge
from agentrl.release.gates.look import Look
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.monitors import served_by
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Release, SessionEvidence

WINDOW = 50
"""Sessions."""
WATCHED_SECONDS = 7 * 86400.0
"""For how long after a rollback it is looked for."""


def note_recoveries(place: ReleasePlace, *, now: float) -> list[dict[str, Any]]:
    """Put the time of recovery into the incidents that have one by now; returns their rows.

    Raises:
        ReleaseError: it cannot be recorded.
    """
    done = []
    for incident in read_incidents(place):
        record = incident["record"]
        is_waiting = record["recovered_at"] is None and record["t_breach"] is not None and record["gates"]
        if not is_waiting or record["t_drained"] is None or now - record["t_decision"] > WATCHED_SECONDS:
            continue
        release = read_release(place, incident["release_id"])
        at = recovered_at(place, release, record["gates"], since=record["t_route_zero"])
        if at is None:
            continue
        with ledger(place) as books:
            row = next(each for each in read_incidents(place) if each["id"] == incident["id"])
            row = {**row, "record": {**row["record"], "recovered_at": at}, "version": row["version"] + 1}
            books.record("recovered", actor="controller", now=now, release_id=release.id, changes={"incidents": [row]})
        done.append(row)
    return done


def recovered_at(place: ReleasePlace, release: Release, gates: list[str], *, since: float) -> float | None:
    """When the last of the failed gates was well again: the assignment of its window's last session; None: not yet."""
    before = [
        each for each in live_evidence(place.store, place.workflow, release.id, "canary") if each.arm is Arm.BASELINE
    ]
    after = served_by(place, release.baseline_upstream, since=since)
    found = [
        _first_well(gate, release, before, after)
        for gate in rules_of(release).gates
        if gate.name in gates and gate.compare == "candidate_vs_baseline"
    ]
    times = [at for at in found if at is not None]
    return max(times) if times and len(times) == len(found) else None


def _first_well(
    gate: GateConfig, release: Release, before: list[SessionEvidence], after: list[SessionEvidence]
) -> float | None:
    row = gate.model_copy(
        update={"min_samples": MinSamples(candidate=1, baseline=1), "label_lag": "PT0S", "fail_at_events": None}
    )
    for end in range(WINDOW, len(after) + 1, WINDOW):
        window = [replace(each, arm=Arm.CANDIDATE) for each in after[end - WINDOW : end]]
        at = datetime.fromtimestamp(window[-1].at, UTC)
        verdict = judge(row, [*before, *window], Look(release.id, "general", at, 1, None, 0.0))
        if verdict.estimate is None or verdict.margin is None:
            continue
        is_lower_better = gate.direction == "lower_is_better"
        if verdict.estimate <= verdict.margin if is_lower_better else verdict.estimate >= verdict.margin:
            return window[-1].at
    return None
