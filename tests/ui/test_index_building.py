"""The index follows the files: while runs write, when they go, when it is damaged, and when others write it too."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from agentrl.runs.files import to_json
from agentrl.runs.traces import to_trace
from agentrl.ui.index import EpisodeQuery, RunsIndex, builder, folder, segments
from tests.factories import make_rollout
from tests.ui.index_runs import write_file, write_run

INDEX = ".agentrl-index"


def opened(root: Path) -> RunsIndex:
    index = RunsIndex(root)
    index.refresh()
    return index


def total(index: RunsIndex, contains: str = "", **fields: Any) -> int:
    page = index.episodes(EpisodeQuery(contains=contains, **fields))
    assert len(page.rows) == min(page.total, 50)
    return page.total


def problems(index: RunsIndex) -> list[str]:
    return [problem for row in index.runs() for problem in row.problems]


def segments_of(root: Path) -> list[str]:
    return sorted(path.name for path in (root / INDEX / folder.SCHEMA / "segments").iterdir())


def test_new_files_and_new_runs_are_seen(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    index = opened(tmp_path)
    assert (total(index), index.refresh(), index.files("a")) == (0, 0, [])
    write_file(run, "train-000001", [make_rollout(answer="first thing")])
    write_file(run, "empty", [])
    assert (index.refresh(), index.refresh(), total(index, "FIRST")) == (2, 0, 1)
    write_file(write_run(tmp_path / "deep" / "b"), "validation-baseline", [make_rollout(answer="second thing")] * 3)
    assert (index.refresh(), total(index, "thing"), total(index, "second")) == (1, 4, 3)
    assert [(row.name, row.rollouts) for row in index.runs()] == [("a", 1), ("deep/b", 3)]
    assert index.files("a") == ["empty", "train-000001"]
    again = RunsIndex(tmp_path)
    assert (again.refresh(), total(again, "thing")) == (0, 4)


def test_a_replaced_file_replaces_its_episodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path / "a")
    write_file(run, "train-000001", [make_rollout(answer="old answer")] * 4)
    write_file(run, "train-000002", [make_rollout(answer="other answer")] * 5)
    index = opened(tmp_path)
    write_file(run, "train-000001", [make_rollout(answer="new answer")] * 2, age=60)
    assert (index.refresh(), total(index), total(index, "old"), total(index, "new answer")) == (1, 7, 0, 2)
    assert index.episodes(EpisodeQuery()).rows[0].answer == "new answer"
    monkeypatch.delattr(builder.Builder, "update")
    assert index.refresh() == 0, "what is stale in a segment is not looked at again and again"


def test_what_is_gone_is_no_longer_shown(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run = write_run(tmp_path / name)
        for step in range(3):
            write_file(run, f"train-{step:06d}", [make_rollout(answer=f"{name} says")])
    index = opened(tmp_path)
    (tmp_path / "a" / "rollouts" / "train-000001.jsonl.gz").unlink()
    index.refresh()
    assert (total(index), total(index, "a says"), index.files("a")) == (5, 2, ["train-000000", "train-000002"])
    subprocess.run(["rm", "-r", tmp_path / "b"], check=True)
    index.refresh()
    assert (total(index), [row.name for row in index.runs()]) == (2, ["a"])
    subprocess.run(["rm", "-r", tmp_path / "a"], check=True)
    index.refresh()
    assert (total(index), index.runs()) == (0, [])


def torn(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def no_gzip(path: Path) -> None:
    path.write_bytes(b"plain text")


def bad_line(path: Path) -> None:
    with gzip.open(path, "ab") as file:
        file.write(b'{"id": "no rollout"}\n')


def bad_json(path: Path) -> None:
    with gzip.open(path, "ab") as file:
        file.write(b'{"id": \n')


def flipped(path: Path) -> None:
    packed = bytearray(path.read_bytes())
    packed[len(packed) // 2] ^= 0xFF
    path.write_bytes(bytes(packed))


@pytest.mark.parametrize("damage", [torn, no_gzip, bad_line, bad_json, flipped])
def test_a_damaged_file_is_a_problem_until_it_is_repaired(tmp_path: Path, damage: Any) -> None:
    run = write_run(tmp_path / "a")
    write_file(run, "train-000001", [make_rollout(answer="fine")])
    path = write_file(run, "train-000002", [make_rollout(answer="was fine")] * 3)
    damage(path)
    index = opened(tmp_path)
    assert (total(index), index.files("a")) == (1, ["train-000001"])
    [problem] = problems(index)
    assert problem.startswith("rollouts/train-000002.jsonl.gz ")
    assert index.refresh() == 0, "a file that did not change is not tried again"
    assert problems(RunsIndex(tmp_path)) == [problem]
    write_file(run, "train-000002", [make_rollout(answer="fine again")] * 2, age=9)
    assert (index.refresh(), total(index), total(index, "again"), problems(index)) == (1, 3, 2, [])


def test_a_file_that_can_not_be_indexed_says_which_line(tmp_path: Path) -> None:
    record = to_trace(make_rollout())
    run = write_run(tmp_path / "a")
    for number, wrong in enumerate(
        [{"turns": None}, {"sample_index": 2**40}, {"answer": 7}, {"grade": {"score": "high"}}]
    ):
        write_file(run, f"train-{number:06d}", [record, {**record, **wrong}])
    index = opened(tmp_path)
    assert total(index) == 0
    assert [" line 2 is no rollout (" in problem for problem in problems(index)] == [True] * 4


def test_odd_values_are_kept(tmp_path: Path) -> None:
    record = to_trace(make_rollout())
    parts = [{"type": "text", "text": "part one"}, {"type": "image_url"}]
    odd = {
        "id": "trace_\x00'\u202e\ud800",
        "task_id": "",
        "answer": "lone \udc80 surrogate" + "x" * 100_000,
        "messages": [{"role": "user", "content": parts}, {"role": "user", "content": None}],
        "turns": [],
        "failure_class": None,
    }  # fmt: skip
    write_file(write_run(tmp_path / "a"), "train-000001", [{**record, **odd}, record])
    index = opened(tmp_path)
    [row, _] = index.episodes(EpisodeQuery()).rows
    assert (row.rollout_id, row.task_id, row.answer[:16]) == ("trace_\x00'\u202e?", "", "lone ? surrogate")
    assert (total(index, "part ONE"), total(index, "lone \udc80 surrogate"), total(index, "x" * 5_000)) == (1, 1, 1)


def test_small_segments_become_large_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LEFT_SECONDS", -1.0)
    run = write_run(tmp_path / "a")
    index = opened(tmp_path)
    for step in range(20):
        write_file(run, f"train-{step:06d}", [make_rollout(answer=f"answer {step}")] * 2, age=step)
        assert index.refresh() == 1
        assert total(index) == 2 * (step + 1)
    assert len(segments_of(tmp_path)) < 2 * builder.SMALL_SEGMENTS
    assert (total(index, "answer 1"), index.episodes(EpisodeQuery()).rows[0].answer) == (22, "answer 19")


def test_segments_are_closed_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "FULL_ROWS", 4)
    monkeypatch.setattr(builder, "FULL_ROWS", 4)
    run = write_run(tmp_path / "a")
    for step in range(10):
        write_file(run, f"train-{step:06d}", [make_rollout(answer=f"answer {step}")] * 2, age=step)
    index = opened(tmp_path)
    assert len(segments_of(tmp_path)) == 5
    found = index.episodes(EpisodeQuery(contains="answer", offset=5, limit=4)).rows
    assert [(row.file, row.line) for row in found] == [
        ("train-000007", 1), ("train-000006", 0), ("train-000006", 1), ("train-000005", 0),
    ]  # fmt: skip


def test_a_refresh_that_runs_out_of_time_goes_on_the_next_time(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    index = opened(tmp_path)
    for step in range(5):
        write_file(run, f"train-{step:06d}", [make_rollout()])
    assert (index.refresh(seconds=0), index.unread, total(index)) == (0, 5, 0)
    assert (index.refresh(), index.unread, total(index)) == (5, 0, 5)


def broken_catalog(index: Path) -> None:
    (index / folder.SCHEMA / "catalog.json").write_text('{"segments": [{}]}')


def missing_part(index: Path) -> None:
    next(index.glob("*/segments/*/texts.bin")).unlink()


def torn_part(index: Path) -> None:
    torn(next(index.glob("*/segments/*/rows.parquet")))


def all_of_it(index: Path) -> None:
    subprocess.run(["rm", "-r", index], check=True)


def older_schema(index: Path) -> None:
    (index / folder.SCHEMA).rename(index / "v0")


@pytest.mark.parametrize("harm", [broken_catalog, missing_part, torn_part, all_of_it, older_schema])
@pytest.mark.parametrize("is_open", [False, True])
def test_an_index_that_is_harmed_is_built_anew(tmp_path: Path, harm: Any, is_open: bool) -> None:
    write_file(write_run(tmp_path / "a"), "train-000001", [make_rollout(answer="found")] * 3)
    before = sorted(path.name for path in tmp_path.rglob("*") if INDEX not in path.parts)
    index = opened(tmp_path)
    harm(tmp_path / INDEX)
    if not is_open:
        index = RunsIndex(tmp_path)
    index.refresh()
    assert total(index, "found") == 3
    assert sorted(path.name for path in tmp_path.rglob("*") if INDEX not in path.parts) == before


def test_a_run_is_never_written_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    run = write_run(tmp_path / "run")
    write_file(run, "train-000001", [make_rollout(answer="inside")])
    before = sorted(run.rglob("*"))
    index = opened(run)
    assert ([row.name for row in index.runs()], total(index, "inside"), sorted(run.rglob("*"))) == (["."], 1, before)
    assert index.episode(".", make_rollout().id) is not None
    assert list((tmp_path / "cache" / "agentrl").iterdir())


def test_a_directory_that_is_not_ours_is_indexed_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(folder.os, "access", lambda *_: False)
    (tmp_path / "runs").mkdir()
    write_file(write_run(tmp_path / "runs" / "a"), "train-000001", [make_rollout(answer="inside")])
    assert total(opened(tmp_path / "runs"), "inside") == 1
    assert total(RunsIndex(tmp_path / "runs"), "inside") == 1
    [own] = (tmp_path / "cache" / "agentrl").iterdir()
    assert own.stat().st_mode & 0o077 == 0


def test_a_link_in_the_place_of_the_index_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / INDEX).symlink_to(tmp_path / "elsewhere")
    opened(tmp_path / "runs")
    assert list((tmp_path / "elsewhere").iterdir()) == []


CHILD = """
import sys
from pathlib import Path
from agentrl.ui.index import EpisodeQuery, RunsIndex
print("ready", flush=True)
index = RunsIndex(Path(sys.argv[1]))
while index.refresh() or index.unread:
    pass
print(index.episodes(EpisodeQuery(contains="answer")).total, flush=True)
"""


def child(root: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(root)], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert started.stdout is not None
    started.stdout.readline()
    return started


def many_files(root: Path, files: int, rollouts: int) -> None:
    run = write_run(root / "a")
    packed = gzip.compress(b"".join(to_json(to_trace(make_rollout())).encode() + b"\n" for _ in range(rollouts)), 1)
    for step in range(files):
        text = gzip.compress((to_json(to_trace(make_rollout(answer=f"answer {step}"))) + "\n").encode())
        (run / "rollouts" / f"train-{step:06d}.jsonl.gz").write_bytes(text + packed)


def test_two_processes_build_one_index(tmp_path: Path) -> None:
    many_files(tmp_path, 30, 40)
    children = [child(tmp_path), child(tmp_path)]
    assert [each.communicate(timeout=60)[0] for each in children] == ["30\n", "30\n"]
    catalog = json.loads((tmp_path / INDEX / folder.SCHEMA / "catalog.json").read_text())
    assert sum(len(segment["files"]) for segment in catalog["segments"]) == 30


def test_a_killed_build_leaves_nothing_that_harms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many_files(tmp_path, 60, 100)
    first = child(tmp_path)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and not list((tmp_path / INDEX).glob("*/segments/*")):
        time.sleep(0.002)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    left = tmp_path / INDEX / folder.SCHEMA / "segments" / "000009-left"
    left.mkdir()
    (left / "rows.parquet").write_bytes(b"half a file")
    os.utime(left, (1, 1))
    index = opened(tmp_path)
    assert (total(index, "answer"), total(index), left.exists()) == (60, 60 * 101, False)


def test_another_process_s_work_is_seen_and_not_repeated(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a")
    mine, other = opened(tmp_path), opened(tmp_path)
    write_file(run, "train-000001", [make_rollout(answer="shared")])
    assert (other.refresh(), mine.refresh(), total(mine, "shared")) == (1, 0, 1)


def test_a_segment_that_another_process_removed_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "LEFT_SECONDS", -1.0)
    run = write_run(tmp_path / "a")
    mine, other = opened(tmp_path), opened(tmp_path)
    for step in range(builder.SMALL_SEGMENTS - 1):
        write_file(run, f"train-{step:06d}", [make_rollout(answer="shared")])
        other.refresh()
    mine.refresh()
    write_file(run, "train-000100", [make_rollout(answer="shared")])
    other.refresh()
    assert total(mine, "shared") in (builder.SMALL_SEGMENTS - 1, builder.SMALL_SEGMENTS)


def test_questions_are_answered_while_the_index_is_built(tmp_path: Path) -> None:
    many_files(tmp_path, 12, 5)
    index = RunsIndex(tmp_path)
    failed: list[BaseException] = []

    def ask() -> None:
        try:
            while not done.is_set():
                assert total(index) % 6 == 0
                index.runs()
        except BaseException as error:
            failed.append(error)

    done = threading.Event()
    asking = [threading.Thread(target=ask) for _ in range(3)]
    for thread in asking:
        thread.start()
    for step in range(6):
        write_file(tmp_path / "a", f"train-{step:06d}", [make_rollout()] * 6, age=step)
        index.refresh()
    done.set()
    for thread in asking:
        thread.join()
    assert (failed, total(index)) == ([], 72)


def test_closing_ends_a_refresh(tmp_path: Path) -> None:
    write_file(write_run(tmp_path / "a"), "train-000001", [make_rollout()])
    index = RunsIndex(tmp_path)
    write_file(tmp_path / "a", "train-000002", [make_rollout()])
    index.close()
    assert index.refresh() == 0
