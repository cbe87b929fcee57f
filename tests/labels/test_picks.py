"""People put episodes into the queue and take them out again, beside an evaluation that writes its own."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest

from agentrl.errors import ConfigError
from agentrl.labels import (
    PICKED,
    AuditEntry,
    Rating,
    Withdrawal,
    append_label,
    labels_path,
    pick,
    picks_path,
    queued_evaluations,
    read_audit_queue,
    read_labels,
    take_back,
    write_audit_queue,
)

NAME = "validation-000005"


def picked(rollout_id: str, note: str = "") -> AuditEntry:
    return AuditEntry(rollout_id, "q1", PICKED, 0.5, {"strict": 0.0}, note)


def test_a_pick_is_in_the_queue_and_survives_the_evaluations_own(tmp_path: Path) -> None:
    path = picks_path(tmp_path, NAME)
    pick(path, picked("trace_1", "guessed"))
    assert queued_evaluations(tmp_path) == (NAME,)
    assert read_audit_queue(tmp_path, NAME) == (picked("trace_1", "guessed"),)
    write_audit_queue(tmp_path, NAME, [AuditEntry("trace_1", "q1", "random", 0.5, {"strict": 0.0})])
    write_audit_queue(tmp_path, NAME, [AuditEntry("trace_2", "q2", "random", 1.0)])
    queue = read_audit_queue(tmp_path, NAME)
    assert [(entry.rollout_id, entry.reason) for entry in queue] == [
        ("trace_2", "random"),
        ("trace_1", "picked: guessed"),
    ]


def test_what_both_put_aside_is_one_entry_with_both_reasons(tmp_path: Path) -> None:
    write_audit_queue(tmp_path, NAME, [AuditEntry("trace_1", "q1", "largest_gap", 0.5, {"strict": 0.0})])
    pick(picks_path(tmp_path, NAME), picked("trace_1", "why so high?"))
    (entry,) = read_audit_queue(tmp_path, NAME)
    assert entry.reason == "largest gap, picked: why so high?"


def test_a_pick_is_taken_back_and_an_evaluations_choice_stays(tmp_path: Path) -> None:
    path = picks_path(tmp_path, NAME)
    write_audit_queue(tmp_path, NAME, [AuditEntry("trace_2", "q2", "random", 1.0)])
    for rollout_id in ("trace_1", "trace_2"):
        pick(path, picked(rollout_id))
        take_back(path, rollout_id)
    assert [entry.rollout_id for entry in read_audit_queue(tmp_path, NAME)] == ["trace_2"]
    pick(path, picked("trace_1", "again"))
    assert read_audit_queue(tmp_path, NAME)[1].note == "again"
    assert len(path.read_text().splitlines()) == 5


def _pick_many(path: Path, worker: int) -> None:
    for number in range(20):
        pick(path, picked(f"trace_{worker}_{number}"))


def test_two_who_pick_at_once_lose_nothing(tmp_path: Path) -> None:
    path = picks_path(tmp_path, NAME)
    workers = [multiprocessing.get_context("fork").Process(target=_pick_many, args=(path, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(read_audit_queue(tmp_path, NAME)) == 40


def test_names_and_lines_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot name an evaluation"):
        picks_path(tmp_path, "../elsewhere")
    with pytest.raises(ValueError, match="allowed: 'picked'"):
        pick(picks_path(tmp_path, NAME), AuditEntry("trace_1", "q1", "random", 1.0))
    path = picks_path(tmp_path, NAME)
    path.parent.mkdir(parents=True)
    path.write_text('{"rollout_id": "trace_1"}\n')
    with pytest.raises(ConfigError, match=rf"{NAME}\.jsonl:1: found no 'task_id'"):
        read_audit_queue(tmp_path, NAME)


def test_a_rating_is_taken_back_and_given_again(tmp_path: Path) -> None:
    path = labels_path(tmp_path)
    of_another = Rating("trace_1", "q1", "ben", 0.0)
    for label in (Rating("trace_1", "q1", "ana", 1.0), of_another, Withdrawal("trace_1", "q1", "ana")):
        append_label(path, label)
    assert read_labels(path).ratings == (of_another,)
    again = Rating("trace_1", "q1", "ana", 0.25)
    append_label(path, again)
    assert read_labels(path).ratings == (of_another, again)
    assert len(path.read_text().splitlines()) == 4


def test_an_audit_shows_who_asked_for_it_and_why(tmp_path: Path) -> None:
    from agentrl.cli.audit_session import score_lines
    from agentrl.labels.worksheet import worksheet_line
    from tests.factories import make_rollout

    entry, rollout = picked("trace_t1-0", "guessed\x1b[2J?"), make_rollout()
    assert "    queued    picked: guessed [2J?; ended: final" in list(score_lines(rollout, entry))
    assert '"why": "picked: guessed' in worksheet_line(entry, rollout, "ana")
