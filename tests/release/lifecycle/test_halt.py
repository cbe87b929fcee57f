"""Two failures within a week: what counts, for how long, and what it takes to go on."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.audit_log import read_entries
from agentrl.release.lifecycle.halt import WEEK, Failure, halt, halt_if_needed, halting_pair, resume
from agentrl.release.lifecycle.read import read_workflow
from agentrl.release.lifecycle.share import change_share
from agentrl.release.lifecycle.transition import GuardError
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Outcome, ReleaseState
from tests.lifecycle_story import NOW, brought_to, keep_verdict, rolled_back, started, step

S = ReleaseState
START = datetime(2026, 10, 20, 12, tzinfo=UTC)  # summer time ends in Europe five days later
failures = st.lists(
    st.builds(
        Failure,
        at=st.integers(0, 3_000_000).map(lambda seconds: START + timedelta(seconds=seconds)),
        release_id=st.sampled_from(["r1", "r2", "r3"]),
        gate=st.sampled_from(["success", "latency", "safety"]),
    ),
    max_size=12,
)


@pytest.mark.parametrize(
    ("apart", "halts"),
    [
        (timedelta(hours=167, minutes=59, seconds=59), True),
        (timedelta(hours=168), True),
        (timedelta(hours=168, seconds=1), False),
        (timedelta(hours=168, microseconds=1), False),
    ],
)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Paris", "America/New_York"])
def test_a_week_is_168_hours_and_its_end_counts(apart: timedelta, halts: bool, zone: str) -> None:
    """F54: in any zone, also over the night in which the clocks change."""
    here = START.astimezone(ZoneInfo(zone))
    pair = [Failure(here, "r1", "success"), Failure((START + apart).astimezone(ZoneInfo(zone)), "r2", "success")]
    assert (halting_pair(pair) is not None) is halts


@given(failures, st.randoms())
def test_the_order_in_which_failures_are_told_does_not_matter(told: list[Failure], random: object) -> None:
    """F54."""
    shuffled = list(told)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert halting_pair(shuffled) == halting_pair(told)


@given(failures)
def test_telling_failures_again_changes_nothing(told: list[Failure]) -> None:
    """F54: a replay, and a later look at a gate that is broken already."""
    again = [Failure(each.at + timedelta(hours=1), each.release_id, each.gate) for each in told]
    assert halting_pair([*told, *told, *again]) == halting_pair(told)


@given(failures)
def test_what_halts_is_two_distinct_failures_of_a_week(told: list[Failure]) -> None:
    first: dict[tuple[str, str], datetime] = {}
    for each in told:
        key = (each.release_id, each.gate)
        first[key] = min(each.at, first.get(key, each.at))
    times = sorted(first.values())
    expected = any(abs(one - other) <= WEEK for i, one in enumerate(times) for other in times[i + 1 :])
    found = halting_pair(told)
    assert (found is not None) is expected
    if found is not None:
        assert (found[0].release_id, found[0].gate) != (found[1].release_id, found[1].gate)
        assert timedelta() <= found[1].at - found[0].at <= WEEK


@given(failures)
def test_by_incident_the_gates_that_one_release_broke_are_one_failure(told: list[Failure]) -> None:
    found = halting_pair(told, count_by="incident")
    assert found is None or found[0].release_id != found[1].release_id
    if halting_pair(told) is None:
        assert found is None


@given(failures, st.integers(0, 3_000_000))
def test_what_a_person_answered_for_counts_no_longer(told: list[Failure], seconds: int) -> None:
    answered = START + timedelta(seconds=seconds)
    found = halting_pair(told, count_from=answered)
    assert found is None or found[0].at > answered


def test_two_looks_that_fail_halt_the_workflow_once(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY)
    keep_verdict(place, release.id, "success", Outcome.FAIL, at=NOW + 10)
    keep_verdict(place, release.id, "success", Outcome.FAIL, at=NOW + 11, look_no=2)
    keep_verdict(place, release.id, "cost", Outcome.INCONCLUSIVE, at=NOW + 12)
    keep_verdict(place, release.id, "quality", Outcome.INVALID, at=NOW + 12)
    assert not halt_if_needed(place, count_by="failure", now=NOW + 20).is_halted
    keep_verdict(place, release.id, "latency", Outcome.FAIL, at=NOW + 30)
    assert not halt_if_needed(place, count_by="incident", now=NOW + 40).is_halted
    for _ in range(3):
        workflow = halt_if_needed(place, count_by="failure", now=NOW + 40)
    assert workflow.is_halted
    assert workflow.halt is not None
    assert [each["gate"] for each in workflow.halt["failures"]] == ["success", "latency"]
    assert [entry.body["kind"] for entry in read_entries(place.audit_log)].count("halt") == 1


def test_a_halted_workflow_starts_no_canary_and_lets_no_share_grow(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY)
    halt(place, actor="grace", reason="the grader is broken", now=NOW + 10)
    with pytest.raises(ReleaseError, match="no share may grow"):
        change_share(place, release.id, 10, actor="ada", expected_version=release.version, now=NOW + 11)
    change_share(place, release.id, 1, actor="ada", expected_version=release.version, now=NOW + 11)
    rolled_back(place, release, now=NOW + 12)
    second = brought_to(place, S.SHADOW, now=NOW + 20)
    with pytest.raises(GuardError, match="the grader is broken"):
        step(place, second, S.CANARY, now=NOW + 30)


def test_failures_that_were_kept_without_a_controller_halt_the_next_canary(place: ReleasePlace) -> None:
    release = brought_to(place, S.SHADOW)
    for gate in ("success", "latency"):
        keep_verdict(place, release.id, gate, Outcome.FAIL, at=NOW + 5, stage="offline_eval")
    with pytest.raises(GuardError, match="two failures within a week"):
        step(place, release, S.CANARY, now=NOW + 30)
    assert read_workflow(place).is_halted


def test_a_person_goes_on_with_a_reason_a_fix_and_a_rerun_that_passed(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY)
    for number, gate in enumerate(("success", "latency")):
        keep_verdict(place, release.id, gate, Outcome.FAIL, at=NOW + 10 + number)
    rolled_back(place, release, now=NOW + 15)
    assert halt_if_needed(place, count_by="failure", now=NOW + 20).is_halted
    fixed = started(place, now=NOW + 30, gates=[{"name": "task_success_not_worse", "stages": ["offline_eval"]}])
    words = {"actor": "grace", "reason": "prompt repaired", "fix": "https://example.org/change/7"}
    with pytest.raises(ReleaseError, match="was not read offline since the halt"):
        resume(place, **words, rerun=fixed.id, now=NOW + 40)
    gate = "task_success_not_worse"
    keep_verdict(place, fixed.id, gate, Outcome.INCONCLUSIVE, at=NOW + 41, stage="offline_eval")
    with pytest.raises(ReleaseError, match="inconclusive offline"):
        resume(place, **words, rerun=fixed.id, now=NOW + 42)
    keep_verdict(place, fixed.id, gate, Outcome.PASS, at=NOW + 43, stage="offline_eval", look_no=2)
    for missing in ("reason", "fix"):
        with pytest.raises(ConfigError, match=f"--{missing} is needed"):
            resume(place, **words | {missing: " "}, rerun=fixed.id, now=NOW + 44)
    workflow = resume(place, **words, rerun=fixed.id, now=NOW + 45)
    assert not workflow.is_halted
    assert not halt_if_needed(place, count_by="failure", now=NOW + 50).is_halted  # answered for
    line = read_entries(place.audit_log)[-1].body
    assert (line["actor"], line["fix"], line["reason"]) == ("grace", words["fix"], words["reason"])
    with pytest.raises(ReleaseError, match="is not halted"):
        resume(place, **words, rerun=fixed.id, now=NOW + 46)


def test_a_rerun_from_before_the_halt_proves_nothing(place: ReleasePlace) -> None:
    release = started(place, gates=[{"name": "task_success_not_worse", "stages": ["offline_eval"]}])
    keep_verdict(place, release.id, "task_success_not_worse", Outcome.PASS, at=NOW + 1, stage="offline_eval")
    halt(place, actor="grace", reason="by hand", now=NOW + 2)
    with pytest.raises(ReleaseError, match="since the halt"):
        resume(place, actor="grace", reason="r", fix="f", rerun=release.id, now=NOW + 3)
    assert read_workflow(place).is_halted
