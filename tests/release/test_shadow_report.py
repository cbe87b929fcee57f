"""What copies in shadow came to, from the candidate's rows."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import insert

from agentrl.release.shadow_report import report_lines, report_of, shadow_report
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions


def turn(**fields: Any) -> dict[str, Any]:
    """A copy that went the baseline's way."""
    same = {"is_dropped": False, "failure": "", "calls": 2, "unmatched": 0, "divergence": None, "is_same_answer": True}
    return {**same, **fields}


PARTED = {"step": 1, "kind": "other_arguments", "baseline": "look", "candidate": "look"}
EARLY = {"step": 0, "kind": "answered_early", "baseline": "look", "candidate": "answer"}


def test_turns_calls_and_partings_are_counted() -> None:
    found = report_of(
        "rel_1",
        [
            [turn(), turn(divergence=PARTED, unmatched=1, is_same_answer=False)],
            [turn(divergence=PARTED, unmatched=2, calls=3)],
            [turn()],
            [turn(calls=0, divergence=EARLY)],
            [turn(failure="status 500", calls=1, divergence=None, is_same_answer=None)],
            [turn(is_dropped=True, calls=0, is_same_answer=None)],
        ],
    )
    assert (found.sessions, found.sessions_whole, found.sessions_matched) == (6, 4, 2)
    assert (found.turns, found.turns_dropped, found.turns_failed, found.failures) == (6, 1, 1, {"status 500": 1})
    assert (found.calls, found.calls_unmatched, found.unmatched_call_rate) == (10, 3, 0.3)
    assert (found.turns_same_calls, found.turns_same_answer) == (2, 4)
    assert found.first_divergence_by_step == {0: 1, 1: 2}
    assert [(each.kind, each.turns) for each in found.partings] == [("other_arguments", 2), ("answered_early", 1)]
    lines = "\n".join(report_lines(found))
    assert "3 of 10 calls (30.0%) had no recorded result" in lines
    assert "after 0 calls 1, after 1 call 2" in lines
    assert json.loads(json.dumps(found.to_record()))["first_divergence_by_step"] == {"0": 1, "1": 2}


def test_without_copies_nothing_is_claimed() -> None:
    found = report_of("rel_1", [])
    assert found.unmatched_call_rate is found.sessions_matched_interval is None
    assert "0 of 0 calls (n/a)" in "\n".join(report_lines(found))


def test_only_the_candidates_rows_of_this_shadow_are_read(store: Store) -> None:
    common = {"workflow": "w", "assigned_at": 0.0, "last_at": 0.0, "status": "closed"}
    kept = {"turns": {"1": turn()}}
    rows = [
        {**common, "release_id": release, "session_id": name, "arm": arm, "channel": channel, "shadow": shadow}
        for name, (release, arm, channel, shadow) in {
            "a": ("rel_1", "candidate", "shadow", kept),
            "b": ("rel_1", "candidate", "canary", kept),
            "c": ("rel_2", "candidate", "shadow", kept),
            "d": ("rel_1", "baseline", "shadow", None),
        }.items()
    ]
    with store.write() as connection:
        connection.execute(insert(sessions), rows)
    assert shadow_report(store, "w", "rel_1").sessions == 1
