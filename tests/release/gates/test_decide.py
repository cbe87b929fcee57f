from __future__ import annotations

from dataclasses import replace

import pytest

from agentrl.release.gates import decide, judge
from agentrl.release.gates.kept import keep_verdicts, read_verdicts
from agentrl.release.records import Outcome, Verdict
from agentrl.release.store import Store
from tests.release.gates.sessions import both, look, row

WEEK = 7 * 86400.0
GATE = row()
BLANK = judge(GATE, [], look())


def verdict(outcome: Outcome, name: str = GATE.name, **fields: object) -> Verdict:
    return replace(BLANK, gate=name, verdict=outcome, reason=f"because {outcome}", **fields)


PASS, FAIL = verdict(Outcome.PASS), verdict(Outcome.FAIL, "other")
OPEN, INVALID = verdict(Outcome.INCONCLUSIVE), verdict(Outcome.INVALID)


@pytest.mark.parametrize(
    ("verdicts", "waited", "action", "is_paused"),
    [
        ([PASS], 0.0, "advance", False),
        ([PASS, FAIL], 0.0, "rollback", False),
        ([INVALID, FAIL], 0.0, "rollback", False),
        ([PASS, OPEN], WEEK, "wait", False),
        ([PASS, OPEN], WEEK + 1, "expire", False),
        ([PASS, INVALID], 0.0, "wait", True),
        ([PASS, INVALID], WEEK + 1, "expire", True),
        ([], WEEK + 1, "wait", False),
        ([replace(FAIL, is_shown_only=True), PASS], 0.0, "advance", False),
        ([replace(PASS, is_shown_only=True)], 0.0, "wait", False),
    ],
    ids=[
        "all_pass",
        "one_fails",
        "a_fail_outweighs_what_is_invalid",
        "undecided_in_time",
        "undecided_too_long",
        "invalid_pauses",
        "invalid_too_long",
        "no_gates",
        "shown_only_decides_nothing",
        "shown_only_proves_nothing",
    ],
)
def test_what_verdicts_lead_to(verdicts: list[Verdict], waited: float, action: str, is_paused: bool) -> None:
    found = decide(verdicts, waited_seconds=waited, gates=[GATE])
    assert (found.action, found.is_paused) == (action, is_paused)
    assert found.because


def test_nothing_is_promoted_before_the_shortest_time_nor_by_waiting() -> None:
    early = decide([PASS], waited_seconds=WEEK / 2, gates=[GATE], min_seconds=WEEK)
    assert early.action == "wait"
    assert "3.5 d of the shortest time" in early.because[0]
    assert decide([PASS], waited_seconds=WEEK, gates=[GATE], min_seconds=WEEK).action == "advance"
    assert decide([OPEN], waited_seconds=10 * WEEK, gates=[GATE], min_seconds=WEEK).action == "expire"


def test_reasons_name_the_gates() -> None:
    assert decide([PASS, FAIL], waited_seconds=0.0).because == ("other: because fail",)


def test_verdicts_are_kept_once_and_read_in_the_order_of_looks(store: Store) -> None:
    first = judge(GATE, both(600), look(at=5_000_000.0))
    second = replace(judge(GATE, both(700), look(at=6_000_000.0)), look_no=2)
    offline = judge(GATE, both(600), look("offline_eval"))

    keep_verdicts(store, [second, first])
    keep_verdicts(store, [first, offline])
    keep_verdicts(store, [])

    assert read_verdicts(store, "rel-1", "canary") == [first, second]
    assert read_verdicts(store, "rel-1") == [offline, first, second]
    assert read_verdicts(store, "rel-2") == []
