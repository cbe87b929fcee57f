"""Incidents: four times apart, who owns them, and none that closes unexplained."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.audit_log import read_entries
from agentrl.release.lifecycle.drain import clocks_of, complete_rollbacks, drain_of
from agentrl.release.lifecycle.incidents import find_incident, read_incidents, update_incident
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, ReleaseState
from tests.lifecycle_story import NOW, add_sessions, brought_to, report, rolled_back

S = ReleaseState
EPOCH = 3
WHY = {"class": "policy", "owner": "ML", "cause": "the prompt lost a line"}


def replica(name: str = "a", **columns: Any) -> dict[str, Any]:
    return {
        "id": name, "epoch": EPOCH, "candidate_in_flight": 0, "last_candidate_at": None, "drained_at": None,
        "seen_at": 101.0, **columns,
    }  # fmt: skip


def drained(*rows: dict[str, Any], now: float = 101.0) -> Any:
    return drain_of(rows, epoch=EPOCH, t_decision=100.0, lease_seconds=30.0, now=now)


def test_without_gateways_nothing_is_waited_for() -> None:
    found = drained()
    assert found.is_complete
    assert (found.t_route_zero, found.t_drained) == (100.0, 100.0)


@pytest.mark.parametrize(
    "row",
    [replica(epoch=EPOCH - 1), replica(candidate_in_flight=7), replica(epoch=EPOCH - 1, candidate_in_flight=7)],
    ids=["old epoch", "answers under way", "both"],
)
def test_a_gateway_that_has_not_let_go_is_waited_for(row: dict[str, Any]) -> None:
    found = drained(row, replica("b"))
    assert not found.is_complete
    assert found.waiting == ("a",)
    assert found.in_flight == row["candidate_in_flight"]


def test_the_last_gateway_counts() -> None:
    found = drained(
        replica("a", last_candidate_at=100.1, drained_at=100.5), replica("b", last_candidate_at=99.0, drained_at=108.0)
    )
    assert (found.t_route_zero, found.t_drained) == (100.1, 108.0)


def test_a_gateway_that_was_killed_is_done_when_its_lease_is() -> None:
    killed = replica("a", epoch=EPOCH - 1, candidate_in_flight=200, seen_at=99.0)
    assert not drained(killed, now=129.0).is_complete
    found = drained(killed, now=129.5)
    assert found.is_complete
    assert (found.t_route_zero, found.t_drained) == (129.0, 129.0)


def test_a_gateway_that_went_long_before_is_not_asked() -> None:
    assert drained(replica(epoch=1, seen_at=10.0)).replicas == 0


def test_detection_routing_rollback_and_recovery_are_four_durations() -> None:
    record = {"t_breach": 90.0, "t_decision": 100.0, "t_route_zero": 100.4, "t_drained": 108.0, "recovered_at": 150.0}
    assert clocks_of(record) == {
        "detection_seconds": 10.0,
        "routing_seconds": pytest.approx(0.4),
        "rollback_seconds": 8.0,
        "recovery_seconds": 60.0,
    }
    assert clocks_of({})["rollback_seconds"] is None


def test_a_rollback_is_completed_once_all_gateways_have_let_go(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY)
    add_sessions(place, release, Arm.CANDIDATE, 12, at=NOW + 5)
    add_sessions(place, release, Arm.BASELINE, 30, at=NOW + 5)
    rolled_back(place, release, now=NOW + 10, t_breach=NOW + 8)
    report(place, at=NOW + 11, epoch=3, candidate_in_flight=2)
    assert complete_rollbacks(place, now=NOW + 11) == []
    report(place, at=NOW + 14, epoch=3, last_candidate_at=NOW + 10.2, drained_at=NOW + 13)
    assert len(complete_rollbacks(place, now=NOW + 14)) == 1
    assert complete_rollbacks(place, now=NOW + 15) == []
    (incident,) = read_incidents(place)
    assert incident["record"]["sessions_affected"] == 12
    assert len(incident["record"]["session_ids"]) == 12
    assert clocks_of(incident["record"])["rollback_seconds"] == pytest.approx(3.0)
    assert clocks_of(incident["record"])["detection_seconds"] == pytest.approx(2.0)
    assert read_entries(place.audit_log)[-1].body["kind"] == "rollback_complete"


@pytest.mark.parametrize("missing", ["class", "owner", "cause"])
def test_no_incident_closes_without_class_owner_and_cause(place: ReleasePlace, missing: str) -> None:
    release = rolled_back(place, brought_to(place, S.CANARY), now=NOW + 10)
    told = {key: word for key, word in WHY.items() if key != missing}
    with pytest.raises(ReleaseError, match=f"without {missing}"):
        update_incident(place, release.id, told, actor="grace", now=NOW + 20, is_closing=True)
    with pytest.raises(ReleaseError, match="without cause"):
        update_incident(place, release.id, WHY | {"cause": " "}, actor="grace", now=NOW + 20, is_closing=True)
    assert read_incidents(place, is_open=True)


def test_an_incident_is_described_bit_by_bit_and_closed_once(place: ReleasePlace) -> None:
    release = rolled_back(place, brought_to(place, S.CANARY), now=NOW + 10)
    update_incident(place, release.id, {"class": "policy"}, actor="ada", now=NOW + 20)
    update_incident(place, release.id, {"follow_up": "test it"}, actor="ada", now=NOW + 21)
    closed = update_incident(place, release.id, WHY, actor="grace", now=NOW + 22, is_closing=True)
    assert (closed["closed_at"], closed["record"]["closed_by"], closed["version"]) == (NOW + 22, "grace", 4)
    assert closed["record"]["follow_up"] == "test it"
    assert find_incident(place, closed["id"][:10]) == closed
    with pytest.raises(ReleaseError, match="was closed by grace"):
        update_incident(place, release.id, {"cause": "another"}, actor="eve", now=NOW + 23)


@pytest.mark.parametrize(("key", "word"), [("class", "bug"), ("owner", "ml"), ("severity", "high")])
def test_words_of_closed_lists_are_checked(place: ReleasePlace, key: str, word: str) -> None:
    release = rolled_back(place, brought_to(place, S.CANARY), now=NOW + 10)
    with pytest.raises(ConfigError, match=f"--{key}: found '{word}'; allowed"):
        update_incident(place, release.id, {key: word}, actor="ada", now=NOW + 20)


def test_an_unknown_incident_names_those_that_there_are(place: ReleasePlace) -> None:
    rolled_back(place, brought_to(place, S.CANARY), now=NOW + 10)
    with pytest.raises(ConfigError, match="the last ones: inc-"):
        find_incident(place, "inc-1999")
