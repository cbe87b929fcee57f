"""Labels are appended one by one, survive, and are read back at the rater's latest word."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentrl.errors import ConfigError
from agentrl.labels import AuditEntry, Labels, Preference, Rating, append_label, read_labels
from agentrl.labels.audit_queue import queued_evaluations, read_audit_queue, write_audit_queue

RATING = Rating("trace_1", "q1", "ana", 0.5, "by luck")
PREFERENCE = Preference("q1", "trace_1", "trace_2", "ana")


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_labels_come_back_as_they_were_appended(tmp_path: Path) -> None:
    path = tmp_path / "audit" / "labels.jsonl"
    append_label(path, RATING)
    append_label(path, PREFERENCE)
    assert read_labels(path) == Labels((RATING,), (PREFERENCE,))
    assert read_labels(path).ratings[0].labelled_at == RATING.labelled_at


def test_the_later_word_of_a_rater_counts_and_the_file_keeps_both(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    later, of_another = Rating("trace_1", "q1", "ana", 1.0), Rating("trace_1", "q1", "ben", 0.0)
    turned = Preference("q1", "trace_2", "trace_1", "ana")
    for label in (RATING, PREFERENCE, of_another, later, turned):
        append_label(path, label)
    assert read_labels(path) == Labels((of_another, later), (turned,))
    assert len(path.read_text().splitlines()) == 5


def test_a_line_without_its_newline_is_ended_first(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    path.write_text('{"rollout_id": "trace_9", "task_id": "q9", "rater": "ben", "score": 1}')
    append_label(path, RATING)
    assert [rating.rollout_id for rating in read_labels(path).ratings] == ["trace_9", "trace_1"]


def test_text_of_any_kind_survives(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    rating = Rating("trace_1", "q1", "ana", 1, 'two\nlines, "quotes", \u2028 and ž')
    append_label(path, rating)
    assert read_labels(path).ratings == (rating,)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rollout_id": "t", "task_id": "q", "rater": "a", "score": 1.5}, "found score 1.5; allowed: a number from 0"),
        ({"rollout_id": "t", "task_id": "q", "rater": "a", "score": 10**400}, "found score 1000"),
        ({"rollout_id": "t", "task_id": "q", "rater": "a", "score": True}, "found score True; allowed"),
        ({"rollout_id": "t", "task_id": "q", "score": 1}, "found no 'rater'"),
        ({"rollout_id": "t", "task_id": "q", "rater": " ", "score": 1}, "found rater ' '; allowed: text"),
        ({"rollout_id": "t", "task_id": "q", "rater": "a", "score": 1, "noet": ""}, "the unknown key 'noet'; allowed"),
        ({"rollout_id": "t", "task_id": "q", "rater": "a", "score": 1, "note": 3}, "found note 3; allowed: text"),
        (
            {"rollout_id": "t", "task_id": "q", "rater": "a", "score": 1, "labelled_at": "yesterday"},
            "found labelled_at 'yesterday'; allowed: a time in ISO 8601",
        ),
        ({"task_id": "q", "chosen": "t", "rejected": "t", "rater": "a"}, "as chosen and rejected; allowed: two"),
        ({"task_id": "q"}, "found neither a rating nor a preference (keys: task_id)"),
        (["t"], "allowed: a JSON object"),
    ],
)
def test_a_line_that_is_no_label_is_named(tmp_path: Path, row: object, message: str) -> None:
    path = written(tmp_path / "labels.jsonl", {"rollout_id": "t", "task_id": "q", "rater": "a", "score": 1}, row)
    with pytest.raises(ConfigError) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}:2: ")
    assert message in str(caught.value)


def test_what_is_no_json_or_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    with pytest.raises(ConfigError, match=r"labels\.jsonl: cannot be read \(No such file"):
        read_labels(path)
    path.write_text('{"rollout_id": "t", "score": NaN}\n')
    with pytest.raises(ConfigError, match=r"labels\.jsonl:1: found no JSON"):
        read_labels(path)


def test_a_queue_comes_back_and_an_episode_is_in_it_once(tmp_path: Path) -> None:
    entries = [
        AuditEntry("trace_1", "q1", "random", 1.0, {"strict": 0.0}),
        AuditEntry("trace_2", "q2", "highest", 1.0),
        AuditEntry("trace_1", "q1", "largest_gap", 1.0, {"strict": 0.0}),
    ]
    write_audit_queue(tmp_path, "validation-0005", entries)
    assert read_audit_queue(tmp_path, "validation-0005") == (
        AuditEntry("trace_1", "q1", "random, largest_gap", 1.0, {"strict": 0.0}),
        AuditEntry("trace_2", "q2", "highest", 1.0),
    )
    append_label(tmp_path / "audit" / "labels.jsonl", RATING)
    assert queued_evaluations(tmp_path) == ("validation-0005",)


def test_a_queue_that_is_not_there_names_those_that_are(tmp_path: Path) -> None:
    write_audit_queue(tmp_path, "validation-0005", [])
    with pytest.raises(ConfigError, match="no such file; evaluations with a queue here: validation-0005"):
        read_audit_queue(tmp_path, "validation-0010")
    with pytest.raises(ValueError, match="holds people's labels"):
        write_audit_queue(tmp_path, "labels", [])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"why": "boredom"}, "found why 'boredom'; allowed: random, highest, largest_gap"),
        ({"score": None}, "found score None; allowed: a finite number"),
        ({"score": 10**400}, "found score 1000"),
        ({"holdout": {"strict": "low"}}, "found holdout"),
    ],
)
def test_an_entry_that_is_none_is_named(tmp_path: Path, entry: dict[str, object], message: str) -> None:
    (tmp_path / "audit").mkdir()
    good = {"rollout_id": "t", "task_id": "q", "why": "random", "score": 1.0, "holdout": {}}
    path = written(tmp_path / "audit" / "validation-0005.jsonl", good, {**good, "rollout_id": "u", **entry})
    with pytest.raises(ConfigError) as caught:
        read_audit_queue(tmp_path, "validation-0005")
    assert f"{path}:2: {message}" in str(caught.value)
