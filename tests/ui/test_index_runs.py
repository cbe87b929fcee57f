"""Which runs are listed, in what state, and that nothing outside the directory is ever read."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.runs.lock import LOCK, RunLock
from agentrl.ui.index import EpisodeQuery, RunRow, RunsIndex, locks
from tests.factories import make_rollout
from tests.ui.index_runs import write_file, write_run


def row_of(root: Path, name: str = "a") -> RunRow:
    return next(row for row in RunsIndex(root).runs() if row.name == name)


def write_metrics(run: Path, *rows: dict[str, Any]) -> None:
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_runs_are_named_by_their_place(tmp_path: Path) -> None:
    for name in ("a", "sweep/b", "sweep/deep/er/c", "a/rollouts/no", "a/checkpoints/no", ".hidden/no", "1/2/3/4/5/no"):
        write_run(tmp_path / name)
    (tmp_path / "notes").mkdir()
    assert [row.name for row in RunsIndex(tmp_path).runs()] == ["a", "sweep/b", "sweep/deep/er/c"]


def test_odd_names_are_names(tmp_path: Path) -> None:
    names = ["with space", "quote'\"", "50%", "-rf", "{}", "[x]*?", "ünï", "\u202eltr", "new\nline", "<b>"]
    for name in names:
        write_file(write_run(tmp_path / name), f"train-{name}", [make_rollout(answer="here")])
    index = RunsIndex(tmp_path)
    index.refresh()
    for name in names:
        page = index.episodes(EpisodeQuery(runs=(name,), file=f"train-{name}", contains="here"))
        assert [(row.run, row.file) for row in page.rows] == [(name, f"train-{name}")]
        assert index.episode(name, page.rows[0].rollout_id) is not None
    assert [row.name for row in index.runs()] == sorted(names)


def test_a_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    write_run(tmp_path / "a")
    os.makedirs(os.path.join(os.fsencode(tmp_path), b"\xff\xfe", b"rollouts"))
    (tmp_path / "a" / "rollouts" / os.fsdecode(b"train-\xff.jsonl.gz")).write_bytes(b"")
    index = RunsIndex(tmp_path)
    assert ([row.name for row in index.runs()], index.files("a"), index.runs()[0].problems) == (["a"], [], ())


def test_no_name_leads_out_of_the_directory(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "outside")
    write_file(outside, "train-000001", [make_rollout(answer="secret")])
    (outside / "metrics.jsonl").write_text('{"step": 1, "secret": 1}\n')
    inside = write_run(tmp_path / "runs" / "a")
    write_file(inside, "train-000001", [make_rollout(answer="mine")])
    index = RunsIndex(tmp_path / "runs")
    index.refresh()
    rollout_id = make_rollout().id
    for name in ("../outside", "a/../../outside", str(outside), "..", "/", "", "a/", "./a", "a\0", "~"):
        assert index.run_path(name) is None
        assert index.metrics(name) == index.files(name) == []
        assert index.episode(name, rollout_id) is None
        assert index.siblings(name, "t1") == []
        assert index.episodes(EpisodeQuery(runs=(name,))).total == 0
    row = index.episodes(EpisodeQuery()).rows[0]
    for odd in (
        replace(row, run="../outside"),
        replace(row, file="../../outside/rollouts/train-000001"),
        replace(row, line=99),
    ):
        assert index.neighbours(EpisodeQuery(), odd) == (None, None)


def test_links_are_not_followed(tmp_path: Path) -> None:
    outside = write_run(tmp_path / "outside", steps=3)
    secret = write_file(outside, "train-000001", [make_rollout(answer="secret")])
    (outside / "metrics.jsonl").write_text('{"step": 77}\n')
    runs = tmp_path / "runs"
    linked_files = write_run(runs / "a")
    (linked_files / "rollouts" / "train-000009.jsonl.gz").symlink_to(secret)
    (linked_files / "metrics.jsonl").symlink_to(outside / "metrics.jsonl")
    (linked_files / "summary.json").symlink_to(outside / "summary.json")
    (linked_files / LOCK).symlink_to(outside / LOCK)
    linked_folder = runs / "b"
    linked_folder.mkdir()
    (linked_folder / "manifest.json").write_text("{}")
    (linked_folder / "rollouts").symlink_to(outside / "rollouts")
    (runs / "c").symlink_to(outside)
    index = RunsIndex(runs)
    index.refresh()
    assert [(row.name, row.steps, row.rollouts) for row in index.runs()] == [("a", 0, 0), ("b", 0, 0)]
    assert (index.metrics("a"), index.files("a"), index.files("b")) == ([], [], [])
    assert "summary.json cannot be read" in " ".join(index.runs()[0].problems)


def test_a_pipe_in_the_place_of_a_file_hangs_nobody(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    for name in ("metrics.jsonl", "summary.json", LOCK, "rollouts/train-000001.jsonl.gz"):
        os.mkfifo(run / name)
    index = RunsIndex(tmp_path)
    assert (index.refresh(), index.metrics("a"), index.runs()[0].state) == (0, [], "interrupted")


def test_a_row_tells_what_a_finished_run_came_to(tmp_path: Path) -> None:
    run = write_run(
        tmp_path / "a", steps=7, best_step=5, stopped_by=None, baseline={"reward": 0.25}, best={"reward": 0.75}
    )
    write_metrics(run, {"step": 5, "reward_validation": 0.75}, {"step": 6}, {"step": 7, "reward_validation": 0.5})
    write_file(run, "train-000001", [make_rollout(), make_rollout(score=None)])
    assert row_of(tmp_path) == RunRow(
        name="a", state="finished", stopped_by="", started_at="2026-01-02T03:04:05+00:00", steps=7, planned_steps=7,
        reward_baseline=0.25, reward_latest=0.5, reward_best=0.75, rollouts=2, infra_failed=1,
    )  # fmt: skip


def test_a_row_of_a_run_under_way_needs_no_summary(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (run / "evaluations").mkdir()
    items = [{"reward": 0.25}, {"reward": 0.75}]
    (run / "evaluations" / "validation-baseline.json").write_text(json.dumps({"items": items}))
    write_metrics(
        run, *({"step": step, **({"reward_validation": step / 8} if step % 2 else {})} for step in range(1, 7))
    )
    row = row_of(tmp_path)
    assert (row.steps, row.planned_steps, row.reward_baseline, row.reward_latest, row.reward_best) == (
        6,
        7,
        0.5,
        0.625,
        0.625,
    )


@pytest.mark.parametrize(
    ("summary", "stop", "steps", "expected"),
    [
        ({}, {}, 3, ("interrupted", "")),
        ({"steps": 3, "stopped_by": None}, {}, 3, ("finished", "")),
        ({"steps": 3, "stopped_by": "interrupted"}, {}, 3, ("interrupted", "")),
        (
            {"steps": 3, "stopped_by": "max_kl_per_token"},
            {"rule": "max_kl_per_token"},
            3,
            ("stopped", "max_kl_per_token"),
        ),
        ({}, {"rule": "disk"}, 3, ("stopped", "disk")),
        ({"steps": 3, "stopped_by": None}, {}, 5, ("interrupted", "")),  # it was gone on with, and killed
    ],
)
def test_how_a_run_ended(
    tmp_path: Path, summary: dict[str, Any], stop: dict[str, Any], steps: int, expected: tuple[str, str]
) -> None:
    run = write_run(tmp_path / "a", **summary)
    if stop:
        (run / "stop.json").write_text(json.dumps(stop))
    write_metrics(run, {"step": steps})
    row = row_of(tmp_path)
    assert (row.state, row.stopped_by) == expected


def test_a_run_is_running_while_its_lock_is_held(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", steps=7, stopped_by=None)
    index = RunsIndex(tmp_path)
    lock = RunLock.acquire(run)
    assert index.runs()[0].state == "running"
    lock.release()
    assert index.runs()[0].state == "finished"


def test_looking_never_keeps_a_trainer_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    index = RunsIndex(tmp_path)
    for _ in range(50):
        index.runs()
        RunLock.acquire(run).release()


@pytest.mark.parametrize(("host", "pid", "expected"), [("", 0, True), ("", 2**22 + 1, False), ("elsewhere", 1, True)])
def test_a_lock_that_the_kernel_does_not_tell_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, pid: int, expected: bool
) -> None:
    monkeypatch.setattr(locks, "KERNEL_LOCKS", tmp_path / "none")
    run = write_run(tmp_path / "a")
    holder = {"host": host or socket.gethostname(), "pid": pid or os.getpid()}
    (run / LOCK).write_text(json.dumps(holder))
    assert locks.HeldLocks().is_held(run) is expected
    for path in (run / LOCK, run / "rollouts"):
        os.utime(path, (1, 1))
    assert locks.HeldLocks().is_held(run) is (expected and not host)


def test_a_run_that_ended_on_another_machine_has_ended(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    (run / LOCK).write_text(json.dumps({"host": "elsewhere", "pid": 1}))
    assert row_of(tmp_path).state == "running"
    (run / "summary.json").write_text(json.dumps({"steps": 0, "stopped_by": None}))
    assert row_of(tmp_path).state == "finished"


def test_metrics_are_read_as_they_are_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    index = RunsIndex(tmp_path)
    assert index.metrics("a") == []
    with (run / "metrics.jsonl").open("a") as file:
        for step in range(1, 30):
            text = json.dumps({"step": step, "x": "y" * step}) + "\n"
            file.write(text[:9])
            file.flush()
            assert len(index.metrics("a")) == step - 1, "a line that is being written is not there yet"
            file.write(text[9:])
            file.flush()
            assert [row["step"] for row in index.metrics("a")] == list(range(1, step + 1))
    known = index.metrics("a")
    assert index.metrics("a")[0] is known[0], "what is known is not parsed again"
    write_metrics(run, {"step": 1}, {"step": 2, "reward_validation": 0.5})
    assert index.metrics("a") == [{"step": 1}, {"step": 2, "reward_validation": 0.5}]
    (run / "metrics.jsonl").unlink()
    assert index.metrics("a") == []


def test_metrics_replaced_by_as_many_bytes_are_read_anew(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    index = RunsIndex(tmp_path)
    for step in (1, 2, 3):
        write_metrics(run, {"step": step})
        os.utime(run / "metrics.jsonl", ns=(step, step))
        assert index.metrics("a") == [{"step": step}]


@pytest.mark.parametrize("name", ["manifest.json", "summary.json", "stop.json", "metrics.jsonl"])
def test_a_damaged_file_of_a_run_is_a_problem_and_no_more(tmp_path: Path, name: str) -> None:
    run = write_run(tmp_path / "a", steps=1)
    index = RunsIndex(tmp_path)
    for text in (b"{", b"[1, 2]", b"\x00\xff", b'"x"', b"[" * 100_000):
        (run / name).write_bytes(text + b"\n")
        [row] = index.runs()
        assert [name in problem for problem in row.problems] == [True]
        assert index.metrics("a") == []


@pytest.mark.parametrize(
    "summary",
    [
        {"steps": "x", "baseline": 7, "best": {"reward": None}, "stopped_by": 3},
        {"steps": None, "best": {"reward": "1"}},
    ],
)
def test_foreign_values_are_passed_over(tmp_path: Path, summary: dict[str, Any]) -> None:
    run = write_run(tmp_path / "a", **summary)
    write_metrics(run, {"step": None, "reward_validation": "high"}, {"no": "step"})
    row = row_of(tmp_path)
    assert (row.steps, row.reward_baseline, row.reward_latest, row.reward_best) == (0, None, None, None)
