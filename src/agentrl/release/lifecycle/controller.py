"""The loop behind `agentrl release watch`: see, renew, look, act. One of them acts for a workflow at a time.

A tick first asks whether it can see (`sight.py`). Where it can, the lease is renewed and, when it is time, the gates
are looked at (`looking.py`); what follows is done through `transition`, like anything a person does. Where it cannot,
nothing is renewed: the gateways take the candidate's sessions away by themselves, and once the lease has run out the
release is rolled back as `blind`, as soon as that can be written down.

Nothing here has to survive: whoever starts next reads all of it from the log and the store.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from agentrl.config.durations import seconds_of
from agentrl.errors import AgentRLError, ConflictError
from agentrl.release.lifecycle.approvals import standing_approval
from agentrl.release.lifecycle.background import Job, Runner, in_thread
from agentrl.release.lifecycle.breach import note_breach
from agentrl.release.lifecycle.drain import clocks_of, complete_rollbacks
from agentrl.release.lifecycle.guards import Checks
from agentrl.release.lifecycle.halt import halt_if_needed
from agentrl.release.lifecycle.late_harm import Found, LateHarm
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.looking import (
    LIVE_STATES,
    Looked,
    Signature,
    failure_record,
    look_at,
    look_for_events,
)
from agentrl.release.lifecycle.read import general_release, read_release, release_under_way
from agentrl.release.lifecycle.recovery import note_recoveries
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.lifecycle.sight import Clocks, ClockWatch, Moment, blindness
from agentrl.release.lifecycle.states import FORWARD, way_back
from agentrl.release.lifecycle.transition import GuardError, transition
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.routing import read_routing, renew_lease
from agentrl.release.store import tables

ACTOR = "controller"
RECOVERY_SECONDS = 10.0
"""Between looks at whether users are as well served again as before a rollback."""
IDLE_LOOKS = 10
"""Looks that are left out where nothing new has come; labels also close by time alone."""


@dataclass
class Controller:
    """Of one workflow; call `tick` again and again, from one thread."""

    place: ReleasePlace
    tell: Callable[[str], None] = print
    clocks: Clocks = field(default_factory=Clocks)
    checks: Checks = field(default_factory=Checks)
    run: Runner = in_thread
    """How looks are taken; the next begins when the last one has ended."""

    def __post_init__(self) -> None:
        self._clock = ClockWatch(self.clocks)
        self._late = LateHarm(self.place)
        self._release_id = ""
        self._renewed: float | None = None
        """When the lease was renewed last, on the steady clock; None: not by this process."""
        self._blind: str = ""
        self._looked: float | None = None
        self._signature: Signature | None = None
        self._job: tuple[float, Future[Any], Callable[[Any], None]] | None = None
        """When it began, what it comes to, and what is done then."""
        self._recovery: float | None = None
        self._failed_look = ""
        """Why the last look came to nothing."""
        self._breaches: list[Job] = []
        self._said: set[str] = set()
        self._log_size = -1

    @property
    def is_looking(self) -> bool:
        """Whether a look is under way beside the ticks."""
        return self._job is not None

    def tick(self) -> bool:
        """See, renew, look and act once; returns whether it could see. What goes wrong is told, never raised."""
        now, problem = self._clock.read()
        try:
            self._catch_up()
            release = release_under_way(self.place)
            self._is_about(release)
            if release is not None and release.state in LIVE_STATES:
                self._clock.distrusted_seconds = rules_of(release).lease_seconds
                age = rules_of(release).max_metrics_age_seconds
                problem = problem or blindness(self.place, max_age_seconds=age, now=now.wall)
                problem = problem or self._slow_look(now, age)
                release = self._keep_lease(release, now, problem or self._failed_look)
            self._end_job()
            if release is not None and not problem:
                self._look(release, now)
            if not problem:
                self._after_promotion(now)
            if self._job is None and self._recovery_is_due(now):
                self._begin_job(lambda: note_recoveries(self.place, now=now.wall), lambda _: None, now)
            if self._breaches and self._job is None:
                self._begin_job(self._breaches.pop(0), lambda _: None, now)
            problem = problem or self._failed_look
            for incident in complete_rollbacks(self.place, now=self.clocks.wall()):
                self._tell_drained(incident)
        except AgentRLError as error:
            problem = problem or str(error)
            self._went_blind(problem)
        return not problem

    def _catch_up(self) -> None:
        """Apply what a process that was killed wrote to the log only."""
        try:
            size = self.place.audit_log.stat().st_size
        except OSError:
            size = 0
        if size != self._log_size:
            with ledger(self.place):
                self._log_size = size

    def _is_about(self, release: Release | None) -> None:
        if (found := release.id if release else "") != self._release_id:
            self._release_id, self._renewed, self._blind = found, None, ""
            self._looked = self._signature = None
            self._failed_look = ""
            self._said = set()

    def _keep_lease(self, release: Release, now: Moment, problem: str) -> Release | None:
        """Renew it, or see that it is lost; returns the release if it goes on."""
        routing = read_routing(self.place.store, self.place.workflow)
        if routing is None or routing.release_id != release.id:
            return None
        if problem:
            self._went_blind(problem)
        if release.state is ReleaseState.CANARY and (lost := self._lost(release, now)):
            reason = "blind" if self._blind else "lease_lost"
            self._take_back(release, {"reason": reason, "text": self._blind or lost, "t_breach": None}, now)
            return None
        if problem:
            return release
        try:
            renew_lease(self.place.store, self.place.workflow, epoch=routing.epoch, now=now.wall)
        except ConflictError:  # somebody took a step this very moment; the next tick sees it
            return None
        if self._blind:
            self.tell(f"{release.id}: sees again; the lease is renewed")
        self._renewed, self._blind = now.steady, ""
        return release

    def _lost(self, release: Release, now: Moment) -> str:
        """Why the lease must have run out at the gateways; empty where it has not."""
        lease = rules_of(release).lease_seconds
        if self._renewed is not None:
            away = now.steady - self._renewed
            return f"the lease of {lease:g} s was not renewed for {away:.0f} s" if away > lease else ""
        table = tables.routing.c
        with self.place.store.read() as connection:
            renewed = connection.execute(
                select(table.lease_renewed_at).where(table.workflow == self.place.workflow)
            ).scalar()
            holders = connection.execute(
                select(tables.replicas.c.seen_at).where(
                    tables.replicas.c.workflow == self.place.workflow, tables.replicas.c.has_lease.is_(True)
                )
            ).scalars()
            is_held = any(abs(now.wall - at) <= lease for at in holders)
        # of a canary that no controller ever renewed, nothing was served that anybody was blind to
        if renewed is None or renewed <= release.entered_at or is_held or 0 <= now.wall - renewed <= lease:
            return ""
        return f"no controller renewed the lease of {lease:g} s for {now.wall - renewed:.0f} s"

    def _went_blind(self, problem: str) -> None:
        if problem != self._blind:
            self.tell(f"{self._release_id or self.place.workflow}: blind, no lease is renewed: {problem}")
        self._blind = problem

    def _slow_look(self, now: Moment, max_age_seconds: float) -> str:
        """A look that takes too long is of the past: what it will say is not known now."""
        if self._job is None or now.steady - self._job[0] <= max_age_seconds:
            return ""
        return f"a look at the gates takes {now.steady - self._job[0]:.0f} s by now"

    def _begin_job(self, job: Job, then: Callable[[Any], None], now: Moment) -> None:
        self._job = now.steady, self.run(job), then
        self._end_job()

    def _end_job(self) -> None:
        if self._job is not None and self._job[1].done():
            _, future, then = self._job
            self._job = None
            try:
                found = future.result()
            except AgentRLError as error:  # what it would have seen is still to be seen, and until then nothing is
                self._signature, self._failed_look = None, str(error)
                raise
            self._failed_look = ""
            then(found)

    def _recovery_is_due(self, now: Moment) -> bool:
        if self._recovery is not None and now.steady - self._recovery < RECOVERY_SECONDS:
            return False
        self._recovery = now.steady
        return True

    def _look(self, release: Release, now: Moment) -> None:
        every = rules_of(release).look_seconds
        waited = every * IDLE_LOOKS if self._looked is None else now.steady - self._looked
        if release.state not in LIVE_STATES:
            if waited >= every:
                self._looked = now.steady
                self._step(release, now)
            return
        signature = Signature.read(self.place, release.id, str(release.state))
        before, self._signature = self._signature, self._signature or signature
        if signature.violations > (0 if before is None else before.violations):  # also what came while nobody watched
            self._signature = signature
            if found := look_for_events(self.place, release, now=now.wall):
                self._act(release, found, now)
                return
        if self._job is not None or waited < every or (signature == before and waited < every * IDLE_LOOKS):
            return
        self._looked, self._signature = now.steady, signature
        self._begin_job(
            lambda: look_at(self.place, release, now=now.wall),
            lambda looked: self._act(looked.release, looked, now),
            now,
        )

    def _act(self, seen: Release, looked: Looked, now: Moment) -> None:
        """What follows from a look, if the release is still as it was when it began."""
        release = read_release(self.place, seen.id)
        if release.version != seen.version:
            return
        said = "; ".join(looked.decision.because)
        if looked.look.told:
            self._tell_once(f"{release.id}: {looked.look.told}")
        if looked.outage:
            self._tell_once(f"{release.id}: an outage, no gate is read and nobody is blamed: {looked.outage}")
        elif looked.decision.action == "rollback":
            self._take_back(release, failure_record(looked, "gate"), now)
            self._breaches.append(lambda: note_breach(self.place, release, looked))
            halt_if_needed(self.place, count_by=rules_of(release).count_by, now=self.clocks.wall())
        elif looked.decision.action == "expire":
            self._take_back(release, {"reason": "insufficient_evidence", "text": said, "t_breach": None}, now)
        elif looked.decision.action == "advance" and not self._blind:
            self._step(release, now)
        if looked.decision.is_paused:
            self._tell_once(f"{release.id}: paused, the evidence cannot be trusted: {said}")

    def _step(self, release: Release, now: Moment) -> None:
        """Onward, where the rules let the controller do so or a person has approved it."""
        to = FORWARD[release.state]
        rules = rules_of(release)
        is_asked = str(to) in rules.approvals
        if rules.promotion != "automatic" and not (
            is_asked and standing_approval(self.place, release, to, now.wall) is not None
        ):
            self._tell_once(f"{release.id}: may enter {to} once a person says so")
            return
        try:
            changed = transition(
                self.place,
                release.id,
                to,
                actor=ACTOR,
                expected_version=release.version,
                evidence={"reason": "gates"},
                now=self.clocks.wall(),
                checks=self.checks,
            )
        except GuardError as error:
            self._tell_once(str(error))
        except ConflictError:  # a person was faster; the next tick sees what he did
            return
        else:
            self._looked = self._signature = None
            self.tell(f"{changed.id}: {release.state} -> {changed.state}")

    def _take_back(self, release: Release, evidence: Mapping[str, Any], now: Moment) -> None:
        changed = transition(
            self.place,
            release.id,
            way_back(release.state),
            actor=ACTOR,
            expected_version=None,
            evidence=evidence,
            now=max(self.clocks.wall(), now.wall),
        )
        self.tell(f"{changed.id}: {release.state} -> {changed.state} ({evidence['reason']}): {evidence['text']}")

    def _after_promotion(self, now: Moment) -> None:
        """Watch the release that serves all users, as long as the one before it is kept ready."""
        release = general_release(self.place)
        if release is None:
            return
        rules = rules_of(release)
        if now.wall - release.entered_at > seconds_of(rules.rollback_window):
            return
        if self._job is None and self._late.is_due(release, now, every=rules.look_seconds):
            self._begin_job(
                lambda: self._late.look(release, now=now.wall),
                lambda found: self._after_late_look(release, found, now),
                now,
            )

    def _after_late_look(self, seen: Release, found: Found, now: Moment) -> None:
        release = read_release(self.place, seen.id)
        for text in found.told:
            self._tell_once(text)
        if found.evidence is None or release.version != seen.version:
            return
        if problem := self.checks.upstream(release, release.baseline_upstream):
            self._tell_once(
                f"{release.id}: the previous '{release.baseline_upstream}' does not answer ({problem}); users get "
                "errors until it does, never the policy that is taken back"
            )
        self._take_back(release, found.evidence, now)
        if found.looked is not None:
            looked = found.looked
            self._breaches.append(lambda: note_breach(self.place, release, looked))
        halt_if_needed(self.place, count_by=rules_of(release).count_by, now=self.clocks.wall())

    def _tell_drained(self, incident: Mapping[str, Any]) -> None:
        clocks = clocks_of(incident["record"])
        said = ", ".join(
            f"{name.removesuffix('_seconds')} {seconds:.2f} s"
            for name, seconds in clocks.items()
            if seconds is not None
        )
        self.tell(f"{incident['release_id']}: drained ({said}); {incident['id']}")

    def _tell_once(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self.tell(text)
