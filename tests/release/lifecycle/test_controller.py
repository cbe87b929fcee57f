"""The controller with clocks set by hand: it renews what it sees, acts on verdicts, and is blind where it must be."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle import audit_log
from agentrl.release.lifecycle import controller as controller_module
from agentrl.release.lifecycle.approvals import approve
from agentrl.release.lifecycle.background import at_once
from agentrl.release.lifecycle.controller import Controller
from agentrl.release.lifecycle.drain import clocks_of
from agentrl.release.lifecycle.guards import Checks
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.read import read_release, read_workflow
from agentrl.release.lifecycle.watching import watching
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Release, ReleaseState
from agentrl.release.routing import read_routing
from agentrl.release.store.tables import alerts, feedback, sessions, verdicts
from tests.lifecycle_story import NOW, WARM, FakeClocks, add_sessions, brought_to, report, step

S = ReleaseState
WIDE = {"absolute": 0.15}
FEW = {"candidate": 100, "baseline": 100}
GATES: dict[str, Any] = {
    "gates": [
        {
            "name": "task_success_not_worse",
            "stages": ["canary"],
            "label_lag": "PT0S",
            "min_samples": FEW,
            "margin": WIDE,
        },
        {"name": "no_safety_regression", "stages": ["canary"], "label_lag": "PT0S", "min_samples": FEW, "margin": WIDE},
    ],
    "canary_traffic_percent": 50,
    "look_seconds": 1.0,
    "lease_seconds": 10.0,
    "max_metrics_age_seconds": 5.0,
}


class Watching:
    """A controller, its clocks, and one gateway that reports whenever time passes."""

    def __init__(self, place: ReleasePlace) -> None:
        self.place = place
        self.time = FakeClocks(wall=NOW + 10)
        self.told: list[str] = []
        self.has_gateway = True
        self.restart()

    def restart(self) -> None:
        self.controller = Controller(self.place, self.told.append, self.time.clocks, WARM, at_once)

    def tick(self, seconds: float = 1.0) -> bool:
        self.time.pass_by(seconds)
        if self.has_gateway:
            routing = read_routing(self.place.store, "support")
            report(self.place, at=self.time.wall, epoch=routing.epoch if routing else 0)
        return self.controller.tick()

    @property
    def renewals(self) -> int:
        routing = read_routing(self.place.store, "support")
        return routing.lease_renewal if routing else 0


@pytest.fixture
def watch(place: ReleasePlace) -> Watching:
    return Watching(place)


def traffic(place: ReleasePlace, release: Release, *, at: float, count: int = 300, **candidate: Any) -> None:
    """Half of it to the candidate."""
    add_sessions(place, release, Arm.CANDIDATE, count, at=at, **candidate)
    add_sessions(place, release, Arm.BASELINE, count, at=at)


def test_what_it_sees_it_renews(place: ReleasePlace, watch: Watching) -> None:
    brought_to(place, S.CANARY, **GATES)
    for _ in range(3):
        assert watch.tick()
    assert watch.renewals == 4


def test_a_better_candidate_is_promoted_once_a_person_has_approved(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES | {"approvals": ["general"]}, approvals_given=("canary",))
    traffic(place, release, at=release.entered_at, count=300, success=True)
    watch.tick(90)
    assert read_release(place, release.id).state is S.CANARY
    assert "once a person says so" in watch.told[-1]
    approve(place, release.id, S.GENERAL, approver="grace", now=watch.time.wall)
    watch.tick()
    promoted = read_release(place, release.id)
    assert promoted.state is S.GENERAL
    assert read_workflow(place).general_upstream == "tuned"


def test_a_worse_candidate_is_rolled_back_with_its_gate_and_the_moment_of_the_breach(
    place: ReleasePlace, watch: Watching
) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    traffic(place, release, at=release.entered_at, success=False)
    watch.tick(90)
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    (incident,) = read_incidents(place)
    record = incident["record"]
    assert record["gates"] == ["task_success_not_worse"]
    assert record["t_breach"] == pytest.approx(release.entered_at + 0.99)  # the hundredth session of each arm
    assert record["t_breach"] < record["t_decision"]
    assert record["t_drained"] >= record["t_route_zero"] >= record["t_decision"]
    assert record["sessions_affected"] == 300


def test_recovery_is_when_users_are_as_well_served_as_before(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    traffic(place, release, at=release.entered_at, success=False)
    watch.tick(90)
    watch.tick()
    at = watch.time.wall
    general = {"channel": "general", "first": 7000}
    add_sessions(place, release, Arm.BASELINE, 50, at=at, success=False, **general)
    watch.tick(20)
    assert read_incidents(place)[0]["record"]["recovered_at"] is None
    add_sessions(place, release, Arm.BASELINE, 50, at=at + 10, **general | {"first": 8000})
    watch.tick(20)
    watch.tick(20)
    record = read_incidents(place)[0]["record"]
    assert record["recovered_at"] == pytest.approx(at + 10.49)
    assert clocks_of(record)["recovery_seconds"] == pytest.approx(at + 10.49 - record["t_breach"])


def test_one_violation_without_tolerance_does_not_wait_for_the_next_look(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES | {"look_seconds": 3600.0})
    traffic(place, release, at=release.entered_at, count=5)
    watch.tick()
    assert read_release(place, release.id).state is S.CANARY
    add_sessions(
        place, release, Arm.CANDIDATE, 1, at=watch.time.wall, first=900, safety_violations=1, zero_tolerance=True
    )
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    (incident,) = read_incidents(place)
    assert incident["record"]["severity"] == "hard"
    assert incident["record"]["t_breach"] == pytest.approx(watch.time.wall - 1)


def test_nothing_is_promoted_by_waiting(place: ReleasePlace, watch: Watching) -> None:
    gates = [{"name": "task_success_not_worse", "stages": ["canary"], "label_lag": "PT0S", "max_wait": "PT60S"}]
    release = brought_to(place, S.CANARY, **GATES | {"gates": gates})
    for _ in range(8):
        watch.tick(10)
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_incidents(place)[0]["record"]["trigger"] == "insufficient_evidence"


@pytest.mark.parametrize("how", ["silent gateways", "audit log full", "store unreadable"])
def test_who_cannot_see_renews_nothing_and_rolls_back_as_blind(
    place: ReleasePlace, watch: Watching, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F48; F32: an audit log that cannot be written stops renewals, and steps."""
    release = brought_to(place, S.CANARY, **GATES)
    assert watch.tick()
    renewals = watch.renewals

    def broken(*_: Any, **__: Any) -> Any:
        raise ReleaseError("no space left on device")

    with monkeypatch.context() as broke:
        if how == "silent gateways":
            watch.has_gateway = False
            watch.tick(4)  # still fresh
            renewals += 1
        elif how == "audit log full":
            broke.setattr("agentrl.release.lifecycle.sight.check_writable", broken)
            broke.setattr(audit_log.AuditLog, "append", broken)
        else:
            broke.setattr(controller_module, "release_under_way", broken)
        assert not watch.tick(3)
        assert not watch.tick(3)
        assert watch.renewals == renewals
        assert read_release(place, release.id).state is S.CANARY
        watch.tick(9)
    watch.has_gateway = True
    watch.tick()
    assert watch.renewals == renewals
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert [each["record"]["trigger"] for each in read_incidents(place)] == ["blind"]


def test_a_short_blindness_costs_nothing(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    watch.tick()
    watch.has_gateway = False
    assert not watch.tick(6)
    watch.has_gateway = True
    assert watch.tick(1)
    assert watch.tick(1)
    assert read_release(place, release.id).state is S.CANARY


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_is_not_believed(place: ReleasePlace, watch: Watching, hours: int) -> None:
    """F37: nothing is renewed for a whole lease, so the canary ends as blind; durations are not counted by it."""
    release = brought_to(place, S.CANARY, **GATES)
    watch.tick()
    renewals = watch.renewals
    watch.time.wall += 3600 * hours
    for _ in range(4):
        watch.tick(3)
    assert watch.renewals == renewals
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert "clock jumped" in read_incidents(place)[0]["record"]["text"]


def test_a_controller_that_comes_back_in_time_goes_on(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    watch.tick()
    watch.restart()
    assert watch.tick(5)
    assert read_release(place, release.id).state is S.CANARY


def test_a_controller_that_comes_back_late_rolls_back(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    watch.tick()
    watch.restart()
    watch.tick(60)
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_incidents(place)[0]["record"]["trigger"] == "lease_lost"


def test_a_canary_that_no_controller_ever_watched_begins_when_one_comes(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    assert watch.tick(500)
    assert read_release(place, release.id).state is S.CANARY


def test_a_controller_that_stood_still_rolls_back(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    watch.tick()
    watch.tick(60)
    assert read_release(place, release.id).state is S.ROLLED_BACK


def test_a_label_that_comes_after_the_promotion_takes_it_back(place: ReleasePlace, watch: Watching) -> None:
    """F49."""
    release = brought_to(place, S.CANARY, **GATES)
    traffic(place, release, at=release.entered_at, count=300, success=True)
    watch.tick(90)
    release = step(place, read_release(place, release.id), S.GENERAL, now=watch.time.wall)
    watch.tick()
    watch.tick()
    assert read_release(place, release.id).state is S.GENERAL
    with place.store.write() as connection:
        mine = sessions.c.session_id == "candidate-7"
        connection.execute(sessions.update().where(mine).values(safety_violations=1, zero_tolerance=True))
        connection.execute(
            feedback.insert().values(
                workflow="support", event_id="late", session_id="candidate-7", release_id=release.id, kind="safety",
                payload={}, payload_digest="", at=watch.time.wall, received_at=watch.time.wall, is_late=True,
            )
        )  # fmt: skip
    at = watch.time.wall
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_workflow(place).general_upstream == "stable"
    record = read_incidents(place)[0]["record"]
    assert (record["trigger"], record["from"], record["t_breach"]) == ("late_label", "general", at)


def test_broken_tools_of_both_arms_bring_nothing_back(place: ReleasePlace, watch: Watching) -> None:
    """F47: the gates themselves do not compare while the infrastructure fails."""
    release = brought_to(place, S.CANARY, **GATES)
    add_sessions(place, release, Arm.CANDIDATE, 300, at=release.entered_at, success=False, tool_infra_errors=2)
    add_sessions(place, release, Arm.BASELINE, 300, at=release.entered_at, tool_infra_errors=2)
    watch.tick(90)
    assert read_release(place, release.id).state is S.CANARY


@pytest.mark.parametrize("is_shared", [True, False])
def test_what_is_worse_for_both_arms_is_blamed_on_nobody(place: ReleasePlace, watch: Watching, is_shared: bool) -> None:
    """F47: comparisons are not acted on while the baseline degrades at the same time; an alert is kept."""
    release = brought_to(place, S.CANARY, **GATES, monitoring={"metrics": ["completion_quality"]})
    at = release.entered_at
    for first, quality in ((5000, 0.9), (6000, 0.7)):
        add_sessions(place, release, Arm.BASELINE, 100, at=at - 50, channel="general", first=first, quality=quality)
        arms = {Arm.CANDIDATE: quality - 0.4, Arm.BASELINE: quality - 0.4 * is_shared}
        for arm, now in arms.items():
            add_sessions(place, release, arm, 150, at=at, first=first + 2000, quality=now, success=arm is Arm.BASELINE)
    watch.tick(90)
    assert read_release(place, release.id).state is (S.CANARY if is_shared else S.ROLLED_BACK)
    if is_shared:
        assert "nobody is blamed" in watch.told[-1]
        with place.store.read() as connection:
            assert connection.execute(alerts.select()).all()


def test_a_previous_policy_that_died_is_told_and_served_all_the_same(place: ReleasePlace, watch: Watching) -> None:
    """F51: errors until it answers, and never the policy that is taken back."""
    release = brought_to(place, S.CANARY, **GATES)
    traffic(place, release, at=release.entered_at, success=True)
    watch.tick(90)
    release = step(place, read_release(place, release.id), S.GENERAL, now=watch.time.wall)
    watch.controller.checks = Checks(upstream=lambda *_: "HTTP 503", bundle=lambda *_: [])
    with place.store.write() as connection:
        mine = sessions.c.session_id == "candidate-7"
        connection.execute(sessions.update().where(mine).values(safety_violations=1, zero_tolerance=True))
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert any("'stable' does not answer (HTTP 503)" in text for text in watch.told)
    assert read_workflow(place).general_upstream == "stable"


def test_a_look_that_takes_too_long_is_blindness(place: ReleasePlace, watch: Watching) -> None:
    """The lease is renewed beside a look, and no longer once what it will say is too old."""
    release = brought_to(place, S.CANARY, **GATES)
    waiting: list[Future[Any]] = []

    def never(_: Any) -> Future[Any]:
        waiting.append(Future())
        return waiting[-1]

    watch.controller.run = never
    assert watch.tick(1)
    assert watch.tick(4)
    renewals = watch.renewals
    assert not watch.tick(4)
    assert watch.renewals == renewals
    assert len(waiting) == 1
    watch.tick(9)
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert "a look at the gates takes" in read_incidents(place)[0]["record"]["text"]


def test_looks_that_fail_are_blindness_until_one_succeeds(
    place: ReleasePlace, watch: Watching, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F48: gateways report, but what they report cannot be judged."""
    release = brought_to(place, S.CANARY, **GATES)

    def broken(*_: Any, **__: Any) -> Any:
        raise ConfigError("metrics.ours: raised ValueError")

    with monkeypatch.context() as broke:
        broke.setattr(controller_module, "look_at", broken)
        assert not watch.tick()
        renewals = watch.renewals
        assert not watch.tick(2)
        assert not watch.tick(2)
        assert watch.renewals == renewals
    assert watch.tick(2)  # a look succeeds
    watch.tick(2)
    assert watch.renewals == renewals + 1
    assert read_release(place, release.id).state is S.CANARY
    with monkeypatch.context() as broke:
        broke.setattr(controller_module, "look_at", broken)
        traffic(place, release, at=watch.time.wall, count=3)
        for _ in range(5):
            watch.tick(4)
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_incidents(place)[0]["record"]["trigger"] == "blind"


def test_after_the_rollback_window_labels_change_nothing(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.GENERAL, **GATES | {"rollback_window": "PT60S", "gates": []})
    watch.tick(100)
    with place.store.write() as connection:
        connection.execute(sessions.update().values(safety_violations=1, zero_tolerance=True))
    watch.tick()
    assert read_release(place, release.id).state is S.GENERAL


def test_looks_that_find_the_same_are_kept_once(place: ReleasePlace, watch: Watching) -> None:
    release = brought_to(place, S.CANARY, **GATES)
    traffic(place, release, at=release.entered_at, count=5)
    for _ in range(12):
        watch.tick(5)
    with place.store.read() as connection:
        rows = connection.execute(verdicts.select()).all()
    assert {row.look_no for row in rows if row.record["verdict"] != "pass"} <= {1, 2}


def test_one_controller_at_a_time(place: ReleasePlace) -> None:
    with watching(place):
        raised: list[str] = []

        def second() -> None:
            with pytest.raises(ReleaseError) as error, watching(place):
                raise AssertionError
            raised.append(str(error.value))

        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
        assert "one controller acts at a time" in raised[0]
        assert "pid" in raised[0]
    other = ReleasePlace("billing", place.folder, place.store)
    with watching(place), watching(other):  # workflows may share a folder
        pass
