"""What a drill's four times mean, and when a drill is evidence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agentrl.release.drill.clocks import Moment
from agentrl.release.drill.record import Drill, Kind

START = Moment(steady=1000.0, wall=1_800_000_000.0)


def at(seconds: float) -> Moment:
    return START.of_steady(START.steady + seconds)


DRILL = Drill(
    id="drill-1",
    release_id="r-1",
    kind=Kind.ROLLBACK,
    replicas=1,
    in_flight=200,
    t_breach=at(0.0),
    t_decision=at(0.5),
    t_route_zero=at(0.75),
    t_drained=at(60.5),
    t_recovered=at(1.0),
    streams={"cut": 200},
    others={"done": 40},
    candidates_after_restart=0,
    lease_seconds=30.0,
    drain_seconds=60.0,
    poll_seconds=0.2,
    database="sqlite",
    clock_was_moved=False,
)


def test_detection_routing_rollback_and_recovery_are_told_apart() -> None:
    assert DRILL.detection_seconds == pytest.approx(0.5)
    assert DRILL.routing_seconds == pytest.approx(0.25)
    assert DRILL.rollback_seconds == pytest.approx(60.0)
    assert DRILL.recovery_seconds == pytest.approx(1.0)
    assert DRILL.problems == ()
    assert DRILL.is_counted


def test_a_drill_with_no_answer_under_way_does_not_count() -> None:
    empty = replace(DRILL, in_flight=0)
    assert not empty.is_counted
    assert "does not count" in empty.problems[0]
    assert empty.to_record()["is_counted"] is False


@pytest.mark.parametrize(
    ("change", "limit"),
    [
        ({"t_route_zero": at(1.5)}, None),
        ({"t_route_zero": at(1.6)}, "last session of the candidate"),
        ({"t_drained": at(61.5)}, None),
        ({"t_drained": at(61.6)}, "candidate drained"),
        ({"t_drained": None}, "candidate drained"),
        ({"t_recovered": None}, "users were not answered whole again"),
        ({"candidates_after_restart": 1}, "after the gateway's restart"),
    ],
    ids=["routing at 1 s", "routing over", "drained at 61 s", "drained over", "never drained", "never back", "restart"],
)
def test_a_missed_limit_is_named_and_still_evidence(change: dict[str, object], limit: str | None) -> None:
    drill = replace(DRILL, **change)  # type: ignore[arg-type]
    assert bool(drill.problems) is (limit is not None)
    assert limit is None or limit in drill.problems[0]
    assert drill.is_counted


def test_without_a_controller_the_lease_is_what_is_waited_for() -> None:
    killed = replace(DRILL, kind=Kind.CONTROLLER_KILLED, t_breach=None, t_route_zero=at(31.4), t_drained=at(91.4))
    assert killed.problems == ()
    assert killed.detection_seconds is None
    assert replace(killed, t_route_zero=at(31.6)).problems


def test_the_two_clocks_are_told_apart_and_a_jump_is_seen() -> None:
    assert at(5).wall == START.wall + 5
    assert START.of_wall(START.wall + 7).steady == START.steady + 7
    assert not START.has_jumped_by(at(3600))
    assert START.has_jumped_by(Moment(START.steady + 10, START.wall + 3610))
