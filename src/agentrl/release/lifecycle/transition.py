"""The one way to change where a release stands, and what gateways serve.

A step is taken while nobody else writes the audit log of the workflow: what it depends on is read, its guards are
asked, one line goes to the log and to the disk, then one transaction sets the rows. A step forward names the version
that it was decided on, and is refused (ConflictError) where somebody was faster. A step back names none: rollback
beats promotion, twice is once, and what was promoted a moment ago is taken back from there.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from agentrl.errors import ConflictError, ReleaseError
from agentrl.release.lifecycle.approvals import standing_approval
from agentrl.release.lifecycle.guards import Checks, Step, gaps
from agentrl.release.lifecycle.halt import halt_if_needed
from agentrl.release.lifecycle.incidents import opened_incident
from agentrl.release.lifecycle.ledger import Ledger, ledger
from agentrl.release.lifecycle.read import (
    Workflow,
    general_release,
    read_release,
    read_workflow,
    release_under_way,
)
from agentrl.release.lifecycle.rules import rules_digest, rules_of
from agentrl.release.lifecycle.states import check_legal, way_back
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.routing import read_routing

S = ReleaseState


class GuardError(ReleaseError):
    """A step that lacks something; `gaps` says what, a sentence each."""

    def __init__(self, release_id: str, to: ReleaseState, gaps: list[str]) -> None:
        super().__init__("\n  ".join([f"{release_id} may not enter {to} yet:", *gaps]))
        self.gaps = tuple(gaps)


def transition(
    place: ReleasePlace,
    release_id: str,
    to: ReleaseState,
    *,
    actor: str,
    expected_version: int | None,
    evidence: Mapping[str, Any],
    now: float,
    checks: Checks | None = None,
) -> Release:
    """Take a release to another state; returns it as it is then.

    Args:
        expected_version: of the release as the caller saw it; None for a way back, which holds for any version.
        evidence: what the step rests on, for the audit log: JSON. Of a rollback `reason` (a word), `text`, and
            `t_breach` in seconds since 1970 where it is known.
        now: seconds since 1970.
        checks: of bundles and upstreams; the real ones.

    Raises:
        ConflictError: the release is of another version.
        GuardError: something that the step needs is missing.
        ReleaseError: the map has no such step, or it cannot be recorded.
    """
    checks = checks or Checks()
    if to is S.OFFLINE_EVAL:
        checks = _bundle_read(place, release_id, checks)
    elif to in (S.CANARY, S.GENERAL):
        release = read_release(place, release_id)
        # failures that were kept while no controller ran halt the workflow now
        halt_if_needed(place, count_by=rules_of(release).count_by, now=now)
        if to is S.CANARY and release.state is S.SHADOW:
            checks = _upstreams_asked(release, checks)
    with ledger(place) as books:
        release = read_release(place, release_id)
        if to in (S.ROLLED_BACK, S.REJECTED):
            return _take_back(books, release, to, actor=actor, evidence=evidence, now=now)
        if expected_version is None:
            raise ReleaseError(f"{release.id}: a step to {to} names the version that it was decided on")
        if release.version != expected_version:
            raise ConflictError(
                f"{release.id} is {release.state}, version {release.version}; found a step to {to} that was decided on "
                f"version {expected_version}: look at it again"
            )
        check_legal(release.id, release.state, to)
        if to is S.SUPERSEDED:
            raise ReleaseError(f"{release.id}: a release is superseded by the next one's promotion, not by itself")
        workflow = read_workflow(place)
        if found := gaps(Step(place, release, workflow, to, now, checks)):
            raise GuardError(release.id, to, found)
        return _go_on(books, release, workflow, to, actor=actor, evidence=evidence, now=now)


def _bundle_read(place: ReleasePlace, release_id: str, checks: Checks) -> Checks:
    """Read the bundle before the books are taken: weights take minutes, for which no rollback may wait."""
    bundle = read_release(place, release_id).candidate_bundle
    found = checks.bundle(place, bundle) if bundle else []
    read = checks.bundle
    return replace(checks, bundle=lambda where, which: found if which == bundle else read(where, which))


def _upstreams_asked(release: Release, checks: Checks) -> Checks:
    """Ask both servers before the books are taken, likewise: one that hangs takes half a minute."""
    found = {name: checks.upstream(release, name) for name in (release.baseline_upstream, release.candidate_upstream)}
    ask = checks.upstream
    return replace(checks, upstream=lambda of, name: found[name] if name in found else ask(of, name))


def _go_on(
    books: Ledger,
    release: Release,
    workflow: Workflow,
    to: ReleaseState,
    *,
    actor: str,
    evidence: Mapping[str, Any],
    now: float,
) -> Release:
    place = books.place
    rules = rules_of(release)
    changed = replace(release, state=to, version=release.version + 1, changed_at=now, entered_at=now)
    changes: dict[str, Any] = {}
    found = dict(evidence)
    routing = routing_now(place)
    if to is S.OFFLINE_EVAL:
        found |= {"bundle": release.candidate_bundle, "rules": rules_digest(release)}
    elif to is S.SHADOW:
        routing |= _candidate(release, "shadow") | {
            "general_upstream": workflow.general_upstream,
            "general_bundle": workflow.general_bundle,
            "salt": secrets.token_hex(16),
            "lease_seconds": rules.lease_seconds,
        }
        changes["routing"] = routing
    elif to is S.CANARY:
        changed = replace(changed, share_percent=rules.canary_traffic_percent)
        routing |= _candidate(release, "canary") | {"share_percent": changed.share_percent, "grants_lease": True}
        changes["routing"] = routing
    elif to is S.GENERAL:
        changed = replace(changed, share_percent=100.0)
        served = {"general_bundle": release.candidate_bundle, "general_upstream": release.candidate_upstream}
        before = {"previous_bundle": workflow.general_bundle, "previous_upstream": workflow.general_upstream}
        changes["workflows"] = [{"name": workflow.name, **served, **before, "version": workflow.version + 1}]
        changes["routing"] = routing | served | NO_CANDIDATE | {"release_id": release.id, "channel": "general"}
        if earlier := general_release(place):
            ended = replace(earlier, state=S.SUPERSEDED, version=earlier.version + 1, changed_at=now, entered_at=now)
            changes["releases"] = [release_row(ended)]
            found["supersedes"] = earlier.id
    if str(to) in rules.approvals and (approval := standing_approval(place, release, to, now)):
        changes["approvals"] = [{**approval, "used_at": now}]
        found["approval"] = {key: approval[key] for key in ("id", "approver", "at", "context_hash")}
    changes["releases"] = [*changes.get("releases", []), release_row(changed)]
    _record_step(books, release, changed, actor, now, changes, found)
    return changed


def _take_back(
    books: Ledger, release: Release, to: ReleaseState, *, actor: str, evidence: Mapping[str, Any], now: float
) -> Release:
    place = books.place
    if release.state in (S.ROLLED_BACK, S.REJECTED):  # twice is once, with the incident of the first
        return release
    check_legal(release.id, release.state, to)
    other = release_under_way(place) if release.state is S.GENERAL else None
    if other is not None:  # it is measured against what is taken away now
        _take_back(
            books,
            other,
            way_back(other.state),
            actor=actor,
            evidence={"reason": "baseline_withdrawn", "text": f"its baseline {release.id} is rolled back"},
            now=now,
        )
    changed = replace(release, state=to, version=release.version + 1, changed_at=now, entered_at=now, share_percent=0.0)
    changes: dict[str, Any] = {"releases": [release_row(changed)]}
    found = dict(evidence)
    routing = routing_now(place)
    if release.state is S.GENERAL:
        workflow = read_workflow(place)
        if not workflow.previous_upstream:
            raise ReleaseError(f"{release.id}: nothing is known that served users before it")
        back = {"general_bundle": workflow.previous_bundle, "general_upstream": workflow.previous_upstream}
        changes["workflows"] = [
            {
                "name": workflow.name,
                **back,
                "previous_bundle": "",
                "previous_upstream": "",
                "version": workflow.version + 1,
            }
        ]
        changes["routing"] = routing | back | NO_CANDIDATE
        found |= back
    elif routing["release_id"] == release.id:
        changes["routing"] = routing | NO_CANDIDATE
        if earlier := general_release(place):  # which goes on to be watched
            changes["routing"] |= {"release_id": earlier.id, "channel": "general"}
    if to is S.ROLLED_BACK:
        incident = opened_incident(release, actor=actor, evidence=evidence, now=now, epoch=routing["epoch"])
        changes["incidents"] = [incident]
        found["incident"] = incident["id"]
    _record_step(books, release, changed, actor, now, changes, found)
    return changed


NO_CANDIDATE = {
    "release_id": "",
    "channel": "",
    "candidate_upstream": "",
    "candidate_bundle": "",
    "share_percent": 0.0,
}


def _candidate(release: Release, channel: str) -> dict[str, Any]:
    return {
        "release_id": release.id,
        "channel": channel,
        "candidate_upstream": release.candidate_upstream,
        "candidate_bundle": release.candidate_bundle,
        "share_percent": 0.0,
    }


def routing_now(place: ReleasePlace) -> dict[str, Any]:
    """The row as it is, with the epoch that it will have; the lease is the controller's and not in it."""
    found = read_routing(place.store, place.workflow)
    if found is None:
        return {"general_upstream": "", "general_bundle": "", **NO_CANDIDATE, "salt": "", "epoch": 1}
    row = asdict(found)
    for name in ("workflow", "lease_renewal"):
        del row[name]
    return {**row, "epoch": found.epoch + 1}


def _record_step(
    books: Ledger,
    release: Release,
    changed: Release,
    actor: str,
    now: float,
    changes: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> None:
    books.record(
        "transition",
        actor=actor,
        now=now,
        release_id=release.id,
        changes=changes,
        version=changed.version,
        evidence=evidence,
        **{"from": str(release.state), "to": str(changed.state)},
    )


def release_row(release: Release) -> dict[str, Any]:
    return {**asdict(release), "state": str(release.state)}
