"""F55: a grader that changes in mid-canary. What two versions judged is never combined, and that is no failure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import select

from agentrl.cli.release_lines import print_release
from agentrl.gateway.errors import ApiError
from agentrl.gateway.feedback import FeedbackEvent, read_event
from agentrl.gateway.ledger_rows import write_events
from agentrl.release.evidence import live_evidence
from agentrl.release.gates.judge import judge_all
from agentrl.release.lifecycle.background import at_once
from agentrl.release.lifecycle.controller import Controller
from agentrl.release.lifecycle.looking import look_at
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, Outcome, Release, ReleaseState
from agentrl.release.store import tables
from tests.lifecycle_story import NOW, WARM, FakeClocks, add_sessions, brought_to, report

LATER = NOW + 10_000
GATE = {
    "name": "task_success_not_worse",
    "stages": ["canary"],
    "label_lag": "PT0S",
    "min_samples": {"candidate": 50, "baseline": 50},
    "margin": {"absolute": 0.3},
}
UNJUDGED: dict[str, Any] = {"success": None, "quality": None, "safety_violations": None, "fallbacks": 0}
numbers: Iterator[int] = iter(range(10**9))


def canary(place: ReleasePlace) -> Release:
    return brought_to(place, ReleaseState.CANARY, gates=[GATE], canary_traffic_percent=50, look_seconds=1.0)


def sessions(place: ReleasePlace, release: Release, count: int, *, first: int = 0) -> None:
    """Of both arms, that nobody has judged; those with later numbers were assigned later."""
    for arm in Arm:
        add_sessions(place, release, arm, count, at=release.entered_at + 1 + first, first=first, **UNJUDGED)


def event(session: str, at: float, version: str | None, kind: str = "outcome", **said: Any) -> FeedbackEvent:
    body = {"event_id": f"e-{next(numbers)}", "session_id": session, "kind": kind, "at": at, **said}
    if kind == "outcome":
        body = {"success": True, **body}
    if version is not None:
        body["grader_version"] = version
    return read_event(body, "", LATER)


def tell(place: ReleasePlace, events: list[FeedbackEvent]) -> None:
    with place.store.write() as connection:
        found = write_events(connection, place.store, place.workflow, events, window_seconds=60.0)
    assert {each.outcome for each in found} == {"recorded"}


def judge(place: ReleasePlace, first: int, count: int, *, at: float, version: str | None, success: bool = True) -> None:
    tell(
        place,
        [
            event(f"{arm}-{number}", at, version, success=success and number % 5 > 0)
            for arm in Arm
            for number in range(first, first + count)
        ],
    )


def lines(place: ReleasePlace) -> list[dict[str, Any]]:
    """Of the audit log, on evidence that began anew."""
    return [line for line in noted(place) if line["from"] is not None]


def noted(place: ReleasePlace) -> list[dict[str, Any]]:
    """Those too that only say which version is the first."""
    table = tables.transitions.c
    with place.store.read() as connection:
        return list(connection.execute(select(table.record).where(table.kind == "graders")).scalars())


def test_evidence_begins_anew_under_another_version(place: ReleasePlace, capsys: pytest.CaptureFixture[str]) -> None:
    """F55: feedback, row, evidence, reset, audit line, verdict's reason, status."""
    release = canary(place)
    sessions(place, release, 100)
    judge(place, 0, 100, at=NOW + 100, version="rubric-1")
    first = look_at(place, release, now=LATER)
    assert first.verdicts[0].verdict is Outcome.PASS
    assert (first.verdicts[0].n_candidate, lines(place)) == (100, [])

    sessions(place, release, 20, first=100)
    judge(place, 100, 10, at=NOW + 200, version="rubric-2", success=False)
    second = look_at(place, release, now=LATER + 1)
    reason = "evidence began anew: the grader's version is rubric-2, it was rubric-1"
    assert second.verdicts[0].verdict is Outcome.INCONCLUSIVE
    assert reason in second.verdicts[0].reason
    assert {each.conditions for each in second.evidence} == {"rubric-2"}
    assert not second.failed
    assert second.decision.action == "wait"
    (line,) = lines(place)
    assert (line["from"], line["to"], line["reason"]) == ("rubric-1", "rubric-2", reason)
    after = read_release(place, release.id)
    assert (after.state, after.version) == (ReleaseState.CANARY, release.version + 1)
    kept = latest_verdicts(place, after, ReleaseState.CANARY)
    assert [each.verdict for each in kept.values()] == [Outcome.INCONCLUSIVE]
    print_release(place, after, as_json=False)
    assert f"graders    {reason}" in capsys.readouterr().out


def test_what_an_old_version_says_late_brings_nothing_back(place: ReleasePlace) -> None:
    """F55: no second line, no further version of the release, and sessions that two judged are of neither."""
    release = canary(place)
    sessions(place, release, 200)
    judge(place, 0, 100, at=NOW + 100, version="one")
    judge(place, 100, 60, at=NOW + 200, version="two")
    look_at(place, release, now=LATER)
    release = read_release(place, release.id)
    judge(place, 160, 20, at=NOW + 300, version="one", success=False)
    tell(place, [event(f"{arm}-100", NOW + 300, "one", kind="grade", score=0.1) for arm in Arm])
    found = look_at(place, release, now=LATER + 1)
    judged = [each for each in found.evidence if each.success is not None]
    assert {int(each.session_id.rpartition("-")[2]) for each in judged} == set(range(101, 160))
    assert len(lines(place)) == 1
    assert read_release(place, release.id).version == release.version
    judge(place, 180, 5, at=NOW + 400, version="three")
    assert look_at(place, release, now=LATER + 2).release.version == release.version + 1
    assert [(line["from"], line["to"]) for line in lines(place)] == [("one", "two"), ("two", "three")]


@pytest.mark.parametrize("is_reversed", [False, True], ids=["in_order", "reversed"])
def test_the_order_of_arrival_does_not_say_which_version_is_newer(place: ReleasePlace, is_reversed: bool) -> None:
    """F55: the events' own time does."""
    release = canary(place)
    sessions(place, release, 100)
    batches: list[tuple[int, float, str]] = [(0, NOW + 100, "z-old"), (50, NOW + 200, "a-new")]
    for first, at, version in reversed(batches) if is_reversed else batches:
        judge(place, first, 50, at=at, version=version)
    look_at(place, release, now=LATER)
    assert [(line["from"], line["to"]) for line in lines(place)] == [("z-old", "a-new")]


def test_sessions_that_are_judged_again_by_the_new_version_count(place: ReleasePlace) -> None:
    """F55: evidence counts from the first session of the new version, not from the instant of the change."""
    release = canary(place)
    sessions(place, release, 100)
    judge(place, 0, 100, at=NOW + 100, version="one")
    look_at(place, release, now=LATER)
    judge(place, 0, 100, at=NOW + 200, version="two")
    found = look_at(place, release, now=LATER + 1)
    assert found.verdicts[0].verdict is Outcome.PASS
    assert found.verdicts[0].n_candidate == 100
    assert [(line["from"], line["to"]) for line in noted(place)] == [(None, "one"), ("one", "two")]


def test_without_versions_all_is_as_it_was(place: ReleasePlace) -> None:
    release = canary(place)
    sessions(place, release, 100)
    judge(place, 0, 100, at=NOW + 100, version=None)
    found = look_at(place, release, now=LATER)
    assert (found.verdicts[0].verdict, found.verdicts[0].n_candidate) == (Outcome.PASS, 100)
    assert {each.conditions for each in found.evidence} == {""}
    assert noted(place) == []
    assert read_release(place, release.id).version == release.version


def test_versions_that_begin_to_be_sent_are_another_grader(place: ReleasePlace) -> None:
    """F55: what was judged before by nobody knows which version is not combined with what has one."""
    release = canary(place)
    sessions(place, release, 100)
    judge(place, 0, 50, at=NOW + 100, version=None)
    judge(place, 50, 50, at=NOW + 200, version="two")
    found = look_at(place, release, now=LATER)
    assert "it was not named" in found.verdicts[0].reason
    assert {int(each.session_id.rpartition("-")[2]) for each in found.evidence} == set(range(50, 100))
    tell(place, [event("candidate-60", NOW + 300, None, kind="grade", score=1.0)])  # of no version, beside one
    assert len(look_at(place, read_release(place, release.id), now=LATER + 1).evidence) == len(found.evidence)


def test_nobody_judged_is_missing_and_is_of_no_version(place: ReleasePlace) -> None:
    release = canary(place)
    sessions(place, release, 100)
    judge(place, 0, 50, at=NOW + 100, version="one")
    found = look_at(place, release, now=LATER)
    assert found.verdicts[0].verdict is Outcome.INCONCLUSIVE
    assert "without task_success" in found.verdicts[0].reason
    assert len(found.evidence) == 200
    assert {each.conditions for each in found.evidence} == {"one"}


def test_evidence_that_was_not_parted_is_invalid_and_no_failure(place: ReleasePlace) -> None:
    """F55: who reads all sessions and judges them is told so."""

    release = canary(place)
    sessions(place, release, 100)
    judge(place, 0, 50, at=NOW + 100, version="one")
    judge(place, 50, 50, at=NOW + 200, version="two")
    look = replace(look_at(place, release, now=LATER).look, started_at=NOW)
    (verdict,) = judge_all(
        rules_of(release).gates, live_evidence(place.store, place.workflow, release.id, "canary"), look
    )
    assert verdict.verdict is Outcome.INVALID


def test_a_violation_that_nothing_excuses_counts_whichever_version_saw_it(place: ReleasePlace) -> None:
    gates = [GATE, {"name": "no_safety_regression", "stages": ["canary"], "label_lag": "PT0S"}]
    release = brought_to(place, ReleaseState.CANARY, gates=gates, canary_traffic_percent=50, look_seconds=1.0)
    time = FakeClocks(wall=LATER)
    controller = Controller(place, lambda _: None, time.clocks, WARM, at_once)

    def tick() -> Release:
        time.pass_by(2)
        report(place, at=time.wall, epoch=2)
        controller.tick()
        return read_release(place, release.id)

    sessions(place, release, 200)
    judge(place, 0, 100, at=NOW + 100, version="one")
    tick()
    judge(place, 100, 60, at=NOW + 200, version="two", success=False)
    assert tick().state is ReleaseState.CANARY
    assert [line["to"] for line in lines(place)] == ["two"]
    tell(place, [event("candidate-170", NOW + 300, "one", kind="safety", violations=1, zero_tolerance=True)])
    assert tick().state is ReleaseState.ROLLED_BACK


@pytest.mark.parametrize("version", ["", 7, True, ["a"]], ids=["empty", "number", "bool", "list"])
def test_a_version_is_a_text(version: Any) -> None:
    with pytest.raises(ApiError, match="grader_version"):
        read_event(
            {"event_id": "e", "session_id": "s", "kind": "grade", "score": 1, "grader_version": version}, "", NOW
        )


@pytest.mark.parametrize("kind", ["tool", "cost", "override", "metric"])
def test_kinds_that_no_grader_says_have_no_version(kind: str) -> None:
    with pytest.raises(ApiError, match="unknown key 'grader_version'"):
        read_event({"event_id": "e", "session_id": "s", "kind": kind, "grader_version": "v"}, "", NOW)


def test_a_version_is_kept_as_ids_are() -> None:
    assert event("s", NOW, "v" * 10_000).payload["grader_version"].startswith("sha256:")
    assert event("s", NOW, "évaluateur 3").payload["grader_version"].startswith("sha256:")
    assert event("s", NOW, "rubric-3").payload["grader_version"] == "rubric-3"
