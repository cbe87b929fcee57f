"""A violation that nothing excuses brings a release back wherever it is told of: of any share, of all users, later."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.read import read_release, read_workflow
from agentrl.release.lifecycle.share import change_share
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Release, ReleaseState
from agentrl.release.store.tables import feedback, sessions
from tests.lifecycle_story import add_sessions, brought_to, started, step
from tests.release.lifecycle.test_controller import GATES, Watching, traffic, watch

__all__ = ["watch"]
S = ReleaseState


def told_of(place: ReleasePlace, release: Release, session: str, at: float, **columns: Any) -> None:
    """A late label."""
    with place.store.write() as connection:
        harmed = sessions.update().where(sessions.c.session_id == session)
        connection.execute(harmed.values(safety_violations=1, zero_tolerance=True, **columns))
        connection.execute(
            feedback.insert().values(
                workflow="support", event_id=f"of {session}", session_id=session, release_id=release.id, kind="safety",
                payload={}, payload_digest="", at=at, received_at=at, is_late=True,
            )
        )  # fmt: skip


def with_early_sessions(place: ReleasePlace, watch: Watching) -> Release:
    """A canary whose share has grown since its first sessions."""
    release = brought_to(place, S.CANARY, **GATES)
    add_sessions(place, release, Arm.CANDIDATE, 5, at=release.entered_at, first=5000)
    watch.tick(9)
    now = watch.time.wall
    changed = change_share(place, release.id, 49.0, actor="ada", expected_version=release.version, now=now)
    watch.tick(2)
    return changed


def promoted(place: ReleasePlace, watch: Watching, release: Release) -> Release:
    traffic(place, release, at=watch.time.wall, count=300, success=True)
    for _ in range(9):
        watch.tick(9)
    release = step(place, read_release(place, release.id), S.GENERAL, now=watch.time.wall)
    watch.tick()
    watch.tick()
    assert read_release(place, release.id).state is S.GENERAL
    return release


def test_a_violation_under_an_earlier_share_counts_also_after_a_restart(place: ReleasePlace, watch: Watching) -> None:
    """The comparison begins anew with the share, and a controller that comes back has seen no number grow."""
    release = with_early_sessions(place, watch)
    told_of(place, release, "candidate-5002", watch.time.wall)
    watch.restart()
    watch.tick(3)
    assert read_release(place, release.id).state is S.ROLLED_BACK


def test_a_violation_under_an_earlier_share_counts_after_the_promotion(place: ReleasePlace, watch: Watching) -> None:
    release = promoted(place, watch, with_early_sessions(place, watch))
    told_of(place, release, "candidate-5002", watch.time.wall)
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_incidents(place)[0]["record"]["trigger"] == "late_label"


@pytest.mark.parametrize("status", ["closed", "open"])
def test_a_violation_that_any_user_of_a_promoted_policy_met_takes_it_back(
    place: ReleasePlace, watch: Watching, status: str
) -> None:
    """No monitor watches safety, and the canary's gates read the canary alone."""
    release = promoted(place, watch, brought_to(place, S.CANARY, **GATES))
    add_sessions(place, release, Arm.BASELINE, 50, at=watch.time.wall, channel="general", first=9000, upstream="tuned")
    watch.tick(2)
    closed_at = watch.time.wall if status == "closed" else None
    told_of(place, release, "baseline-9007", watch.time.wall, status=status, closed_at=closed_at)
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_workflow(place).general_upstream == "stable"
    assert read_incidents(place)[0]["record"]["gates"] == ["no_safety_regression"]


def test_so_does_one_while_the_next_release_is_tried(place: ReleasePlace, watch: Watching) -> None:
    release = promoted(place, watch, brought_to(place, S.CANARY, **GATES))
    following = started(place, now=watch.time.wall, candidate="third", **GATES)
    for to in (S.OFFLINE_EVAL, S.SHADOW):
        following = step(place, following, to, now=watch.time.wall)
    watch.tick(2)
    add_sessions(place, following, Arm.BASELINE, 50, at=watch.time.wall, channel="shadow", first=9000, upstream="tuned")
    watch.tick(2)
    told_of(place, following, "baseline-9007", watch.time.wall)
    watch.tick()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_release(place, following.id).state.is_end
    assert read_workflow(place).general_upstream == "stable"


def test_drift_of_a_promoted_policy_is_seen_while_the_next_release_is_tried(
    place: ReleasePlace, watch: Watching
) -> None:
    rules = GATES | {"monitoring": {"metrics": ["completion_quality"]}}
    release = brought_to(place, S.CANARY, **rules)
    for arm in Arm:
        add_sessions(place, release, arm, 150, at=watch.time.wall, first=4000, quality=0.9, success=True)
    release = promoted(place, watch, release)
    following = started(place, now=watch.time.wall, candidate="third", **rules)
    for to in (S.OFFLINE_EVAL, S.SHADOW):
        following = step(place, following, to, now=watch.time.wall)
    watch.tick(40)
    at = watch.time.wall - 10
    add_sessions(
        place, following, Arm.BASELINE, 200, at=at, channel="shadow", first=9000, upstream="tuned", quality=0.2
    )
    watch.tick(40)
    assert read_release(place, release.id).state is S.ROLLED_BACK
