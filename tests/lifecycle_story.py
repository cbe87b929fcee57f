"""A small release for tests of the lifecycle: two upstreams, two bundles, and rules that ask for little."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from agentrl.config import RunConfig
from agentrl.release.lifecycle.approvals import approve
from agentrl.release.lifecycle.audit_log import iso
from agentrl.release.lifecycle.guards import Checks
from agentrl.release.lifecycle.ledger import set_row
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.sight import Clocks
from agentrl.release.lifecycle.start import start_release
from agentrl.release.lifecycle.transition import transition
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Outcome, Release, ReleaseState, Verdict
from agentrl.release.store.tables import bundles, replicas, sessions, verdicts

BASELINE = "sha256:" + "a" * 64
CANDIDATE = "sha256:" + "b" * 64
NOW = 1_780_000_000.0
EASY = {"approvals": [], "min_drills": 0, "required_suites": [], "min_canary": "PT0S", "gates": []}
ORDER = (ReleaseState.OFFLINE_EVAL, ReleaseState.SHADOW, ReleaseState.CANARY, ReleaseState.GENERAL)


def release_config(**rules: Any) -> RunConfig:
    """Of the workflow `support`, with the easy rules but for those that are given."""
    servers = {"url": "http://127.0.0.1:9/v1", "model": "m"}
    return RunConfig.model_validate(
        {
            "workflow": {"target": "support", "baseline": "checkpoint"},
            "monitoring": rules.pop("monitoring", None),
            "release": EASY | rules,
            "gateway": {
                "upstreams": {
                    "stable": {**servers, "bundle": BASELINE},
                    "tuned": {**servers, "bundle": CANDIDATE},
                    "third": {**servers, "bundle": "sha256:" + "c" * 64},
                },
                "general": "stable",
            },
        }
    )


WARM = Checks(upstream=lambda _release, _name: "", bundle=lambda _place, _bundle: [])
"""Upstreams that always answer, and bundles that are always whole."""


def keep_bundles(place: ReleasePlace) -> None:
    """Put the bundles of the config in the registry, without files."""
    with place.store.write() as connection:
        for letter in "abc":
            row = {"id": "sha256:" + letter * 64, "name": letter, "created_at": NOW, "manifest": {}}
            connection.execute(place.store.insert(bundles).values(**row).on_conflict_do_nothing())


def started(place: ReleasePlace, *, now: float = NOW, candidate: str = "tuned", **rules: Any) -> Release:
    """A draft."""
    keep_bundles(place)
    return start_release(place, release_config(**rules), candidate, actor="ada", now=now)


def brought_to(place: ReleasePlace, state: ReleaseState, **options: Any) -> Release:
    """A release that took every step up to this state, one second each."""
    given = options.pop("approvals_given", ())
    release = started(place, **options)
    for to in ORDER[: ORDER.index(state) + 1]:
        if str(to) in given:
            approve(place, release.id, to, approver="grace", now=release.changed_at)
        release = step(place, release, to, now=release.changed_at + 1)
    return release


def step(place: ReleasePlace, release: Release, to: ReleaseState, *, now: float) -> Release:
    """One step forward by a person."""
    return transition(
        place, release.id, to, actor="ada", expected_version=release.version, evidence={}, now=now, checks=WARM
    )


def rolled_back(place: ReleasePlace, release: Release, *, now: float, **evidence: Any) -> Release:
    """The way back of a canary or of a general release."""
    transition(
        place,
        release.id,
        ReleaseState.ROLLED_BACK,
        actor="controller",
        expected_version=None,
        evidence={"reason": "gate", **evidence},
        now=now,
    )
    return read_release(place, release.id)


def keep_verdict(
    place: ReleasePlace,
    release_id: str,
    gate: str,
    outcome: Outcome,
    *,
    at: float,
    stage: str = "canary",
    look_no: int = 1,
) -> Verdict:
    """One look at a gate."""
    verdict = Verdict(
        gate=gate, stage=stage, release_id=release_id, at=iso(at), look_no=look_no, n_candidate=100, n_baseline=400,
        estimate=-0.1, lower=-0.2, upper=-0.06, candidate=0.7, baseline=0.8, scale="difference", margin=-0.05,
        alpha=0.01, test="confidence_sequence", verdict=outcome, reason="of a test", severity="soft",
        data_digest="sha256:d", gate_digest="sha256:g", code_version="1",
    )  # fmt: skip
    with place.store.write() as connection:
        connection.execute(
            verdicts.insert().values(
                id=f"{release_id}{gate}{stage}{look_no}{at}"[-80:],
                release_id=release_id,
                gate=gate,
                stage=stage,
                look_no=look_no,
                at=at,
                verdict=str(outcome),
                record=verdict.to_record(),
            )
        )
    return verdict


@dataclass
class FakeClocks:
    """Both clocks of a machine, set by hand."""

    wall: float = NOW
    steady: float = 1000.0

    def pass_by(self, seconds: float) -> None:
        """Both go on."""
        self.wall += seconds
        self.steady += seconds

    @property
    def clocks(self) -> Clocks:
        """For a controller."""
        return Clocks(lambda: self.wall, lambda: self.steady)


def report(place: ReleasePlace, *, at: float, name: str = "gateway-1", **columns: Any) -> None:
    """A gateway's own row."""
    row = {
        "workflow": place.workflow, "id": name, "epoch": 0, "has_lease": False, "candidate_in_flight": 0,
        "last_candidate_at": None, "drained_at": None, "started_at": at, "seen_at": at, **columns,
    }  # fmt: skip
    with place.store.write() as connection:
        set_row(connection, place.store, replicas, row)


def add_sessions(
    place: ReleasePlace,
    release: Release,
    arm: Arm,
    count: int,
    *,
    at: float,
    first: int = 0,
    channel: str = "canary",
    **columns: Any,
) -> None:
    """Closed sessions of an arm, a hundredth of a second apart; four in five succeed unless columns say otherwise."""
    bundle = release.candidate_bundle if arm is Arm.CANDIDATE else release.baseline_bundle
    upstream = release.candidate_upstream if arm is Arm.CANDIDATE else release.baseline_upstream
    rows = [
        {
            "workflow": place.workflow, "release_id": release.id, "session_id": f"{arm}-{first + i}", "arm": str(arm),
            "channel": channel, "bundle": bundle, "upstream": upstream, "is_forced": False,
            "assigned_at": at + i / 100, "last_at": at + i / 100, "closed_at": at + i / 100, "status": "closed",
            "requests": 1, "success": i % 5 != 0, "seconds": 2.0, "cost_usd": 0.01, "tool_calls": 2, "tool_errors": 0,
            "tool_infra_errors": 0, "safety_violations": 0, "human_override": False, **columns,
        }
        for i in range(count)
    ]  # fmt: skip
    with place.store.write() as connection:
        connection.execute(sessions.insert(), rows)
