"""Indexes, folders and files of rollouts that somebody else made, to be read or obeyed by whoever looks at them."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="the extra agentrl[ui] is not installed")

import duckdb

from agentrl.runs.traces import to_trace
from agentrl.ui.index import EpisodeQuery, RunsIndex, episodes, folder
from agentrl.ui.index.database import ask
from tests.factories import make_rollout
from tests.ui.index_runs import write_file, write_run
from tests.ui.test_index_building import INDEX, opened, problems, total


@pytest.mark.parametrize("name", ["runs*", "r?ns", "runs[1]", "id=7", "line=3"])
def test_a_folder_s_name_is_no_pattern_and_no_column(tmp_path: Path, name: str) -> None:
    for each in (name, "runs1"):  # which all three patterns match
        write_file(write_run(tmp_path / each / "a"), "train-000001", [make_rollout(answer=f"of {each}")])
    opened(tmp_path / "runs1").close()
    page = opened(tmp_path / name).episodes(EpisodeQuery(max_score=1.0, limit=10))
    assert [(row.answer, row.line) for row in page.rows] == [(f"of {name}", 0)]


@pytest.mark.parametrize("key", ["score", "seconds", "cost_usd"])
def test_a_number_beyond_all_floats_damages_its_file_alone(tmp_path: Path, key: str) -> None:
    trace = to_trace(make_rollout("q1"))
    (trace["grade"] if key == "score" else trace)[key] = 10**400
    write_file(write_run(tmp_path / "a"), "train-000001", [trace])
    write_file(tmp_path / "a", "train-000002", [make_rollout(answer="fine")])
    index = opened(tmp_path)
    assert total(index, "fine") == 1
    assert "line 1 is no rollout" in problems(index)[0]


def test_a_line_that_would_fill_the_memory_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "MAX_LINE", 4 << 20)
    path = write_run(tmp_path / "a") / "rollouts" / "train-000001.jsonl.gz"
    with gzip.open(path, "wb") as file:
        for _ in range(64):
            file.write(b" " * (1 << 20))
    assert path.stat().st_size < 100_000
    assert "has a line of more than 4 MB" in problems(opened(tmp_path))[0]


def test_a_file_that_would_fill_the_memory_is_not_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episodes, "MAX_FILE", 1 << 20)
    write_file(write_run(tmp_path / "a"), "train-000001", [make_rollout()] * 2500)
    write_file(tmp_path / "a", "train-000002", [make_rollout(answer="fine")])
    index = opened(tmp_path)
    assert "unpacks to more than 1 MB" in problems(index)[0]
    assert total(index, "fine") == 1


def link(folder_: Path, name: str, to: Path) -> None:
    folder_.mkdir(parents=True)
    (folder_ / name).symlink_to(to)


@pytest.mark.parametrize("level", ["v1", "segments"])
def test_an_index_that_came_with_the_runs_removes_nothing_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    precious = tmp_path / "home" / ("segments" if level == "v1" else "") / "thesis"
    precious.mkdir(parents=True)
    os.utime(precious, (1, 1))
    write_file(write_run(tmp_path / "runs" / "a"), "train-000001", [make_rollout(answer="inside")])
    where = tmp_path / "runs" / INDEX
    link(where if level == "v1" else where / folder.SCHEMA, level, tmp_path / "home")
    assert total(opened(tmp_path / "runs"), "inside") == 1
    assert precious.is_dir()
    assert list((tmp_path / "home").rglob("*.json")) == []


def test_nothing_is_created_behind_a_link(tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "a")
    link(tmp_path / "runs" / INDEX, ".gitignore", tmp_path / "made")
    opened(tmp_path / "runs")
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_another_user_s_index_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_file(write_run(tmp_path / "runs" / "a"), "train-000001", [make_rollout(answer="inside")])
    (tmp_path / "runs" / INDEX).mkdir()
    os.chown(tmp_path / "runs" / INDEX, 12345, 12345)
    assert total(opened(tmp_path / "runs"), "inside") == 1
    assert list((tmp_path / "runs" / INDEX).iterdir()) == []


CATALOGS = {
    "deep": "[" * 100_000,
    "types": '{"segments":[{"number":"1","folder":3,"size":0,"files":[]}],"problems":[]}',
    "path": '{"segments":[{"number":1,"folder":"../../a/rollouts","size":0,"files":[]}],"problems":[]}',
    "list": "[]",
}


@pytest.mark.parametrize("text", [*CATALOGS.values(), None], ids=[*CATALOGS, "pipe"])
def test_a_catalog_that_none_of_ours_wrote_is_none(tmp_path: Path, text: str | None) -> None:
    write_file(write_run(tmp_path / "a"), "train-000001", [make_rollout(answer="inside")])
    where = tmp_path / INDEX / folder.SCHEMA
    where.mkdir(parents=True)
    if text is None:
        os.mkfifo(where / "catalog.json")
    else:
        (where / "catalog.json").write_text(text)
    assert total(opened(tmp_path), "inside") == 1


@pytest.mark.parametrize("part", ["rows.parquet", "texts.bin"])
def test_an_index_that_rots_on_disk_is_built_anew(tmp_path: Path, part: str) -> None:
    write_file(write_run(tmp_path / "a"), "train-000001", [make_rollout(answer="inside")])
    opened(tmp_path).close()
    [path] = (tmp_path / INDEX).rglob(part)
    path.write_bytes(b"\xde" * path.stat().st_size)
    index = RunsIndex(tmp_path)
    assert total(index, "inside") == 0
    index.refresh()
    assert total(index, "inside") == 1


def test_the_database_loads_nothing_spills_nothing_and_stays_so() -> None:
    names = ("autoinstall_known_extensions", "autoload_known_extensions", "allow_community_extensions")
    for name in (*names, "python_enable_replacements"):
        assert ask(f"SELECT current_setting('{name}') AS value", {})["value"].tolist() == [False]
    assert ask("SELECT current_setting('temp_directory') AS value", {})["value"].tolist() == [""]
    for statement in ("SET autoinstall_known_extensions = true", "SET temp_directory = 'spilled'"):
        with pytest.raises(duckdb.InvalidInputException, match="locked"):
            ask(statement, {})


@pytest.mark.parametrize(
    "found", ["' OR 1=1 --", "$paths", "a'; COPY (SELECT 1) TO '/tmp/owned'; --", 'search", "cat', "%", "\\"]
)
def test_what_is_asked_for_is_never_part_of_a_statement(tmp_path: Path, found: str) -> None:
    write_file(write_run(tmp_path / "a"), "train-000001", [make_rollout("q1", answer="inside")])
    index = opened(tmp_path)
    for query in (
        EpisodeQuery(task_id=found),
        EpisodeQuery(tool=found),
        EpisodeQuery(outcome=found),
        EpisodeQuery(failure_class=found),
        EpisodeQuery(contains=found),
        EpisodeQuery(runs=(found,)),
        EpisodeQuery(file=found),
    ):
        assert index.episodes(query).total == 0
    assert index.episode("a", found) is None
