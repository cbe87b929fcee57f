"""What must hold before a release takes a step; read from the database, under the lock that the step is taken with.

Every guard says what is missing in one sentence a gap. Nothing missing is the only way on: no evidence is a gap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from sqlalchemy import select

from agentrl.config.durations import seconds_of
from agentrl.config.release import ReleaseConfig
from agentrl.release.lifecycle.approvals import approval_gap
from agentrl.release.lifecycle.probe import probe_upstream
from agentrl.release.lifecycle.read import Workflow
from agentrl.release.lifecycle.rules import rules_of, upstream_of
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import MAX_ROLLBACK_SECONDS, Outcome, Release, ReleaseState
from agentrl.release.registry.verify import completeness_gaps
from agentrl.release.store import tables


def ask_upstream(release: Release, name: str) -> str:
    """Asks an upstream of a release by name for one short answer; returns what is wrong with it, or nothing."""
    return probe_upstream(upstream_of(release, name))


@dataclass(frozen=True)
class Checks:
    """What guards look at outside of the database; both take a while."""

    upstream: Callable[[Release, str], str] = ask_upstream
    bundle: Callable[[ReleasePlace, str], list[str]] = completeness_gaps


@dataclass(frozen=True)
class Step:
    """A step that somebody wants taken."""

    place: ReleasePlace
    release: Release
    workflow: Workflow
    to: ReleaseState
    now: float
    checks: Checks | None = field(default_factory=Checks)
    """None: only what the database says."""

    @property
    def rules(self) -> ReleaseConfig:
        """That the release was started under."""
        return rules_of(self.release)


def gaps(step: Step) -> list[str]:
    """What keeps the release from this step; empty: nothing."""
    found: list[str] = []
    for guard in GUARDS.get(step.to, ()):
        found += guard(step)
    if str(step.to) in step.rules.approvals and (gap := approval_gap(step.place, step.release, step.to, step.now)):
        found.append(gap)
    return found


def _bundle_is_complete(step: Step) -> Iterator[str]:
    bundle = step.release.candidate_bundle
    if not bundle:
        yield (
            "the candidate has no bundle; `agentrl bundle create` makes one, `agentrl release rollback` ends this "
            "draft, and `agentrl release start --bundle ID` begins one with it"
        )
        return
    if step.checks is not None:
        yield from step.checks.bundle(step.place, bundle)


def _suites_passed(step: Step) -> Iterator[str]:
    table = tables.suite_results
    with step.place.store.read() as connection:
        rows = connection.execute(
            select(table.c.kind, table.c.name, table.c.digest, table.c.record)
            .where(table.c.release_id == step.release.id, table.c.at >= step.release.evidence_since)
            .order_by(table.c.at)
        ).all()
    for kind in step.rules.required_suites:
        if not any(row.kind == kind for row in rows):
            how = f"`agentrl gate RUN --config CONFIG --release {step.release.id}`"
            yield f"no {kind} suite was measured; {how} keeps what it finds"
    latest = {(row.kind, row.name): row for row in rows}
    for row in latest.values():
        if row.record.get("is_contaminated"):
            yield f"the {row.kind} suite {row.name} shares items with the training data"


def _gates_passed(stage: ReleaseState) -> Callable[[Step], Iterator[str]]:
    def guard(step: Step) -> Iterator[str]:
        latest = latest_verdicts(step.place, step.release, stage)
        for gate in step.rules.gates:
            if str(stage) in gate.stages and gate.name not in latest:
                yield f"gate {gate.name}: not looked at in {stage}"
        named = {gate.name for gate in step.rules.gates}
        for verdict in latest.values():
            # what no row asks for, such as signs of a hacked reward, need not be shown: it must not be there
            is_fine = verdict.gate not in named and verdict.verdict is Outcome.INCONCLUSIVE
            if verdict.verdict is not Outcome.PASS and not is_fine:
                yield f"gate {verdict.gate}: {verdict.verdict} in {stage} ({verdict.reason})"

    return guard


def _drills_passed(step: Step) -> Iterator[str]:
    wanted = step.rules.min_drills
    drills = tables.drills.c
    with step.place.store.read() as connection:
        rows = connection.execute(
            select(drills.rollback_seconds)
            .where(drills.release_id == step.release.id, drills.is_counted.is_(True))
            .order_by(drills.at.desc())
            .limit(wanted)
        ).all()
    if len(rows) < wanted:
        yield f"{len(rows)} of {wanted} rollback drills were made; `agentrl release drill` makes one"
    for row in rows:
        if row.rollback_seconds is None or row.rollback_seconds >= MAX_ROLLBACK_SECONDS:
            took = "did not end" if row.rollback_seconds is None else f"took {row.rollback_seconds:.1f} s"
            yield f"one of the last {wanted} rollback drills {took}; allowed: under {MAX_ROLLBACK_SECONDS:g} s"


def _baseline_is_warm(step: Step) -> Iterator[str]:
    if step.checks and (problem := step.checks.upstream(step.release, step.release.baseline_upstream)):
        yield f"the baseline '{step.release.baseline_upstream}' does not answer ({problem}): nothing to come back to"


def _candidate_answers(step: Step) -> Iterator[str]:
    if step.checks and (problem := step.checks.upstream(step.release, step.release.candidate_upstream)):
        yield f"the candidate '{step.release.candidate_upstream}' does not answer ({problem})"


def _not_halted(step: Step) -> Iterator[str]:
    if step.workflow.is_halted:
        reason = (step.workflow.halt or {}).get("reason", "")
        yield f"{step.workflow.name} is halted ({reason}); `agentrl release resume` says what it needs"


def _long_enough(step: Step) -> Iterator[str]:
    wanted = seconds_of(step.rules.min_canary)
    waited = step.now - max(step.release.entered_at, step.release.evidence_since)
    if waited < wanted:
        yield f"it has been a canary for {waited / 3600:.1f} h of at least {wanted / 3600:.1f} h (release.min_canary)"


GUARDS = {
    ReleaseState.OFFLINE_EVAL: (_bundle_is_complete,),
    ReleaseState.SHADOW: (_suites_passed, _gates_passed(ReleaseState.OFFLINE_EVAL)),
    ReleaseState.CANARY: (
        _not_halted,
        _gates_passed(ReleaseState.SHADOW),
        _drills_passed,
        _baseline_is_warm,
        _candidate_answers,
    ),
    ReleaseState.GENERAL: (_not_halted, _gates_passed(ReleaseState.CANARY), _long_enough),
}
