"""`agentrl audit`: queued episodes are shown, labels are saved one by one, and people are held against the grader."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agentrl.cli.audit_session import label_all, read_score
from agentrl.cli.main import app
from agentrl.errors import CheckpointError, ConfigError
from agentrl.evaluation.people import audit_summary
from agentrl.labels import AuditEntry, Rating, append_label, labels_path, read_labels, write_audit_queue
from agentrl.runs import RunDirectory
from agentrl.types import Grade
from tests.factories import make_rollout, make_task

CONFIG = """
workflow: {target: t, baseline: b}
grading: {url: http://127.0.0.1:1/grade, pass_threshold: 0.5}
"""
EVALUATION = "validation-000005"


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """Three episodes of q0, q1, q2 with scores 1, 1, 0, all of them in the queue."""
    rollouts = []
    for n, score in enumerate((1.0, 1.0, 0.0)):
        task = replace(make_task(f"q{n}"), item={"reference_answer": 40 + n})
        grade = Grade(
            score, explanation="the numbers agree", sub_scores={"numeric": score}, holdout={"strict": 1.0 - score}
        )
        output = "\x1b[2Jfound\n" + "\n".join(f"line {i}" for i in range(30))
        rollouts.append(make_rollout(f"q{n}", task=task, grade=grade, answer=f"it is {40 + n}", output=output))
    path = tmp_path / "run"
    with RunDirectory.create(path, config_yaml=CONFIG, manifest={}) as directory:
        directory.write_rollouts(EVALUATION, rollouts)
    entries = [
        AuditEntry(each.id, each.task.id, why, each.grade.score or 0.0, each.grade.holdout)
        for each, why in zip(rollouts, ("random", "highest, largest_gap", "random"), strict=True)
    ]
    write_audit_queue(path, EVALUATION, entries)
    return path


def answers(*lines: str) -> Callable[[str], str]:
    """Types these lines, then ends."""
    left: Iterator[str] = iter(lines)

    def ask(question: str) -> str:
        del question
        try:
            return next(left)
        except StopIteration:
            raise EOFError from None

    return ask


def queue(run_dir: Path) -> list[tuple[str, AuditEntry]]:
    from agentrl.labels import read_audit_queue

    return [(EVALUATION, entry) for entry in read_audit_queue(run_dir, EVALUATION)]


def said(run_dir: Path) -> list[tuple[str, float, str]]:
    path = labels_path(run_dir)
    return [(each.task_id, each.score, each.note) for each in read_labels(path).ratings] if path.exists() else []


def test_t17_labels_are_saved_with_their_notes_and_nothing_shown_is_obeyed(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert label_all(run_dir, queue(run_dir), "ana", ask=answers("g", "b wrong year", "0,25 half of it")) == 3
    assert said(run_dir) == [("q0", 1.0, ""), ("q1", 0.0, "wrong year"), ("q2", 0.25, "half of it")]
    shown = capsys.readouterr().out
    assert "What is q1?" in shown
    assert "reference_answer: 41" in shown
    assert "calls     search {" in shown
    assert "answer    it is 41" in shown
    assert "score     1 (numeric 1)" in shown
    assert "hold-out  strict 0" in shown
    assert "queued    highest, largest gap" in shown
    assert "more lines" in shown
    assert "\x1b" not in shown


def test_what_is_no_answer_is_asked_again(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert label_all(run_dir, queue(run_dir)[:1], "ana", ask=answers("1.5", "what", "?", "f", "", "g")) == 1
    shown = capsys.readouterr().out
    assert "found '1.5'; allowed:" in shown
    assert "line 29" in shown
    assert said(run_dir) == [("q0", 1.0, "")]


def test_skipping_and_quitting_label_nothing_and_lose_nothing(run_dir: Path) -> None:
    assert label_all(run_dir, queue(run_dir), "ana", ask=answers("s", "g", "q")) == 1
    assert said(run_dir) == [("q1", 1.0, "")]


def test_an_interrupt_keeps_the_labels(run_dir: Path) -> None:
    typed = answers("g")

    def ask(question: str) -> str:
        try:
            return typed(question)
        except EOFError:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt, match="labels are saved"):
        label_all(run_dir, queue(run_dir), "ana", ask=ask)
    assert said(run_dir) == [("q0", 1.0, "")]


def test_a_blind_rater_sees_the_scores_after_the_label(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[str] = []

    def ask(question: str) -> str:
        del question
        seen.append(capsys.readouterr().out)
        return "g"

    label_all(run_dir, queue(run_dir)[:1], "ana", is_blind=True, ask=ask)
    assert "What is q0?" in seen[0]
    assert "hold-out" not in seen[0]
    assert "hold-out  strict 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("word", "score"),
    [("g", 1), ("BAD", 0), ("0.5", 0.5), ("0,5", 0.5), ("1", 1), ("2", None), ("-1", None), ("nan", None), ("", None)],
)
def test_scores_as_people_type_them(word: str, score: float | None) -> None:
    assert read_score(word) == score


def test_at_a_terminal_it_asks_and_goes_on_where_it_ended(run_dir: Path) -> None:
    label_all(run_dir, queue(run_dir), "ana", ask=answers("g", "q"))
    shown = at_a_terminal(run_dir, "b wrong\ng\n")
    assert "1 of 2" in shown
    assert "3 of 3 episodes labelled (ana 3)" in shown
    assert "grader and people: Spearman -0.50" in shown
    assert "1 passed by the grader, failures to people:" in shown
    assert f"trace_q1-0 ({EVALUATION}, task q1) score 1, people 0: wrong" in shown
    assert said(run_dir) == [("q0", 1.0, ""), ("q1", 0.0, "wrong"), ("q2", 1.0, "")]


def at_a_terminal(run_dir: Path, typed: str) -> str:
    """What `agentrl audit` shows to somebody who types this; carriage returns of the terminal taken off."""
    main, terminal = pty.openpty()
    command = [sys.executable, "-m", "agentrl", "audit", str(run_dir), "--rater", "ana"]
    child = subprocess.Popen(command, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    os.write(main, typed.encode())
    shown = b""
    while select.select([main], [], [], 60)[0]:
        try:
            shown += os.read(main, 4096)
        except OSError:  # the terminal closes with the child
            break
    assert child.wait(60) == 0, shown
    os.close(main)
    return shown.decode().replace("\r", "")


def test_without_a_terminal_it_says_what_to_do(run_dir: Path) -> None:
    told = run("audit", run_dir, "--rater", "ana")
    assert told.exit_code == 0
    assert "3 episodes wait for ana, and this is no terminal to ask at." in told.output
    assert f"agentrl audit {run_dir} --export to_label.jsonl" in told.output


def test_a_sheet_is_filled_in_elsewhere(run_dir: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "to_label.jsonl"
    exported = run("audit", run_dir, "--rater", "ana", "--export", sheet)
    assert exported.exit_code == 0, exported.output
    again = run("audit", run_dir, "--rater", "ana", "--export", sheet)  # what a person filled in is not lost
    assert (again.exit_code, "exists already; import what is filled in there" in again.output) == (2, True)
    rows = [json.loads(line) for line in sheet.read_text().splitlines()]
    assert [row["score"] for row in rows] == [None] * 3
    assert rows[1]["grader_score"] == 1
    assert rows[1]["row"] == {"reference_answer": 41}
    assert "answer: it is 41" in rows[1]["conversation"]
    assert "\x1b" not in rows[1]["conversation"]
    rows[0]["score"], rows[1] = 0.5, {**rows[1], "score": 0, "note": "wrong year"}
    sheet.write_text("".join(json.dumps(row) + "\n" for row in rows))
    imported = run("audit", run_dir, "--import", sheet)
    assert imported.exit_code == 0, imported.output
    assert "2 new labels, 0 known already" in imported.stderr
    assert "2 of 3 episodes labelled (ana 2)" in imported.stdout
    assert said(run_dir) == [("q0", 0.5, ""), ("q1", 0.0, "wrong year")]
    again = run("audit", run_dir, "--import", sheet)
    assert "0 new labels, 2 known already" in again.stderr
    assert len(labels_path(run_dir).read_text().splitlines()) == 2


def test_a_blind_sheet_says_nothing_of_the_graders(run_dir: Path, tmp_path: Path) -> None:
    run("audit", run_dir, "--blind", "--export", tmp_path / "sheet.jsonl", "--rater", "ana")
    rows = [json.loads(line) for line in (tmp_path / "sheet.jsonl").read_text().splitlines()]
    assert all(not {"grader_score", "holdout", "why"} & row.keys() for row in rows)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"rollout_id": "trace_q0-0", "task_id": "q0", "rater": "ana", "score": 7}, "found score 7; allowed"),
        ({"rollout_id": "trace_x", "task_id": "q0", "rater": "ana", "score": 1}, "'trace_x', which is in no queue"),
        ({"rollout_id": "trace_q0-0", "task_id": "q0", "score": 1}, "found no 'rater'"),
        ({"task_id": "q0", "chosen": "a", "rejected": "b", "rater": "ana"}, "found no 'rollout_id'"),
    ],
)
def test_a_wrong_line_of_a_sheet_is_named_and_nothing_is_saved(
    row: dict[str, Any], message: str, run_dir: Path, tmp_path: Path
) -> None:
    sheet = tmp_path / "sheet.jsonl"
    good = {"rollout_id": "trace_q0-0", "task_id": "q0", "rater": "ana", "score": 1}
    sheet.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    refused = run("audit", run_dir, "--import", sheet)
    assert refused.exit_code == 2
    assert f"{sheet}:2: " in refused.output
    assert message in refused.output
    assert said(run_dir) == []


def test_the_list_says_what_waits_for_whom(run_dir: Path) -> None:
    append_label(labels_path(run_dir), Rating("trace_q0-0", "q0", "ana", 1.0))
    assert re.search(rf"{EVALUATION} +3 +2\n", run("audit", run_dir, "--list", "--rater", "ana").output)
    assert re.search(rf"{EVALUATION} +3 +3\n", run("audit", run_dir, "--list", "--rater", "ben").output)


def test_machines_get_the_summary_as_json(run_dir: Path) -> None:
    append_label(labels_path(run_dir), Rating("trace_q0-0", "q0", "ana", 0.0, "no"))
    found = json.loads(run("audit", run_dir, "--rater", "ana", "--json").stdout)
    assert (found["waiting"], found["labelled"], found["queued"]) == (2, 1, 3)
    (false_positive,) = found["false_positives"]
    assert (false_positive["entry"]["rollout_id"], false_positive["note"]) == ("trace_q0-0", "no")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "nowhere: no such directory"),
        (("RUN", "--evaluation", "validation-000010"), f"evaluations with a queue here: {EVALUATION}"),
        (("RUN", "--evaluation", "../x"), "--evaluation: '../x' cannot name an evaluation"),
        (("RUN", "--import", "none.jsonl"), "none.jsonl: cannot be read"),
        (("RUN", "--list", "--export", "x"), "--list leaves everything as it is"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], message: str, run_dir: Path) -> None:
    result = run("audit", *(str(run_dir) if word == "RUN" else word for word in arguments))
    assert result.exit_code == 2
    assert message in result.output


def test_a_run_without_a_queue_or_without_its_rollouts_is_named(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no episode was put aside" in run("audit", tmp_path / "empty").output
    write_audit_queue(run_dir, EVALUATION, [AuditEntry("trace_gone", "q9", "random", 1.0)])
    with pytest.raises(CheckpointError, match=r"lacks 1 of the queued episodes, such as trace_gone"):
        label_all(run_dir, queue(run_dir), "ana", ask=answers())


def test_agreement_is_over_what_people_say_on_average() -> None:
    entries = [(EVALUATION, AuditEntry(f"t{n}", f"q{n}", "random" if n % 2 else "highest", n / 4)) for n in range(5)]
    ratings = [Rating(f"t{n}", f"q{n}", "ana", n / 4) for n in range(5)]
    summary = audit_summary(entries, [*ratings, Rating("t4", "q4", "ben", 0.5)], pass_threshold=0.5)
    assert summary.grader is not None
    assert summary.grader_on_random is not None
    assert (summary.grader.spearman, summary.grader.n) == (pytest.approx(0.975, abs=0.01), 5)
    assert summary.grader_on_random.n == 2
    assert summary.by_rater == {"ana": 5, "ben": 1}
    assert summary.false_positives == ()
    assert [each.entry.rollout_id for each in summary.false_negatives] == []


def test_labels_of_other_runs_count_for_nothing() -> None:
    entries = [(EVALUATION, AuditEntry("t0", "q0", "random", 1.0))]
    summary = audit_summary(entries, [Rating("elsewhere", "q0", "ana", 0.0)], pass_threshold=0.5)
    assert (summary.labelled, summary.by_rater, summary.grader) == (0, {}, None)


def test_a_config_that_cannot_be_read_is_warned_of(run_dir: Path) -> None:
    (run_dir / "config.yaml").write_text("nonsense: 1")
    append_label(labels_path(run_dir), Rating("trace_q0-0", "q0", "ana", 0.0))
    told = run("audit", run_dir, "--json", "--rater", "ana")
    assert told.exit_code == 0
    assert "warning: " in told.stderr
    assert "pass_threshold 0.75 is taken" in told.stderr


def test_config_errors_are_config_errors(run_dir: Path) -> None:
    labels_path(run_dir).write_text('{"score": 1}\n')
    with pytest.raises(ConfigError, match=r"labels\.jsonl:1: found no 'rollout_id'"):
        read_labels(labels_path(run_dir))
    assert run("audit", run_dir).exit_code == 2


def test_the_page_shows_what_is_printed(tmp_path: Path) -> None:
    grades = [Grade(float(n > 2), holdout={"strict": n / 10}) for n in range(9)]
    rollouts = [make_rollout(f"q{n}", grade=grade) for n, grade in enumerate(grades)]
    with RunDirectory.create(tmp_path / "run", config_yaml=CONFIG, manifest={}) as directory:
        directory.write_rollouts(EVALUATION, rollouts)
    entries = [
        AuditEntry(each.id, each.task.id, ("random", "highest", "largest_gap")[n % 3], float(n > 2), each.grade.holdout)
        for n, each in enumerate(rollouts)
    ]
    write_audit_queue(tmp_path / "run", EVALUATION, entries)
    people = [("ana", 0, ""), ("ana", 0.25, ""), ("ben", 1, "right, in other words"), ("ana", 1, "")]
    people += [("ben", 0, "says both numbers"), ("ben", 1, ""), ("ana", 1, ""), ("ana", 1, "")]
    for n, (rater, score, note) in enumerate(people):
        append_label(labels_path(tmp_path / "run"), Rating(f"trace_q{n}-0", f"q{n}", rater, score, note))
    told = run("audit", tmp_path / "run", "--rater", "ana", "--import", os.devnull)
    page = (Path(__file__).parents[2] / "docs/audit.md").read_text()
    assert f"```\n{told.stdout}```\n" in page
