"""The index answers every question as going through all rollouts would."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.errors import ConfigError
from agentrl.types import FailureClass, Grade, Rollout, StopReason, Task
from agentrl.ui.index import EpisodeQuery, EpisodeRow, Order, RunsIndex
from agentrl.ui.index.database import database
from tests.factories import make_rollout
from tests.ui.index_runs import Directory, Known, answer, changes, write_file, write_run

RUNS = ("a", "b", "sweep/c'%d", "ü .x")
FILES = (
    "train-000001",
    "train-000002",
    "validation-baseline",
    "validation-000005",
    "validation-final",
    "test-baseline",
)
TOOLS = ("search", "cat", 'odd "tool"', "sear")
OUTPUTS = ("Revenue | 4,180.5", "net income 100%", "no_such 'page'", "日本語テキスト", "tab\there\nthere", "a" * 50, "")
ANSWERS = ("42", "İ don't know", "the Answer is 7.3", "\u202eעברית", "nul \x00 byte")
STOPS = (StopReason.FINAL, StopReason.FINAL, StopReason.TOOL_BUDGET, StopReason.INFRASTRUCTURE, StopReason.TIME_LIMIT)


def some_rollout(pick: random.Random, number: int) -> Rollout:
    stop = pick.choice(STOPS)
    tools = pick.choices(TOOLS, k=pick.randint(0, 4))
    task = f"q{pick.randint(0, 5)}"
    rollout = make_rollout(
        task, number, pick.choice([0.0, 0.25, 0.5, 1.0, None]), tools, tokens=pick.choice([10, 20, 30]),
        stop_reason=stop, seconds=pick.choice([0.5, 1.5, 9.0]), answer=pick.choice(ANSWERS),
        output=pick.choice(OUTPUTS),
    )  # fmt: skip
    messages = (
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": f"What is {task}, {pick.choice(ANSWERS)}?"},
    )
    broken = FailureClass.TOOL if stop is StopReason.INFRASTRUCTURE else None
    error = "connection refused" if broken else ""
    grade = rollout.grade if rollout.grade.score is not None else Grade(None, "the judge timed out")
    return replace(
        rollout, id=f"trace_{number:04d}", task=Task(task, messages), broken_by=broken, error=error, grade=grade
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Directory:
    pick = random.Random(5)
    root, known = tmp_path_factory.mktemp("runs"), []
    for age, name in enumerate(RUNS):
        run = write_run(root / name, **({"steps": 7, "best_step": 5} if age == 1 else {}))
        for number, file in enumerate(FILES):
            if pick.random() < 0.85:
                rollouts = [some_rollout(pick, 100 * number + line) for line in range(pick.randint(0, 14))]
                write_file(run, file, rollouts, age=(number + age) % 3)
                known += [Known(name, file, line, (number + age) % 3, each) for line, each in enumerate(rollouts)]
    return Directory(root, known)


@pytest.fixture(scope="module")
def index(runs: Directory) -> Iterator[RunsIndex]:
    index = RunsIndex(runs.root)
    index.refresh()
    yield index
    index.close()


def keys(rows: tuple[EpisodeRow, ...] | list[EpisodeRow]) -> list[tuple[str, str, int]]:
    return [(row.run, row.file, row.line) for row in rows]


def texts() -> st.SearchStrategy[str]:
    words = ["revenue", "NET income", "e", "4,180", "%", "'page'", "_", "語", "テキ", "a" * 40, "i̇ don", "refused",
             "brief", "judge timed", "\x00", "what is q1", "\there\n", "עברית", "\udcff", "?", "zebra"]  # fmt: skip
    return st.just("") | st.sampled_from(words)


QUERIES = st.builds(
    EpisodeQuery,
    runs=st.lists(st.sampled_from([*RUNS, "nowhere", "'; DROP TABLE files; --"]), max_size=2).map(tuple),
    split=st.sampled_from(["", "", "train", "validation", "dev"]),
    without_split=st.sampled_from(["", "", "validation", "dev"]),
    file=st.sampled_from(["", "", "", *FILES[:3]]),
    task_id=st.sampled_from(["", "", "", "q1", "q%"]),
    outcome=st.sampled_from(["", "", "completed", "infra_failed"]),
    failure_class=st.sampled_from(["", "", "", "tool", "grader", "time"]),
    tool=st.sampled_from(["", "", *TOOLS, '"', "odd"]),
    contains=texts(),
    min_score=st.sampled_from([None, None, 0.0, 0.3]),
    max_score=st.sampled_from([None, None, 0.5, -1.0]),
    order=st.sampled_from(Order),
    offset=st.sampled_from([0, 0, 3, 40, 10_000]),
    limit=st.sampled_from([0, 1, 7, 50]),
)


@settings(max_examples=150)
@given(query=QUERIES)
def test_any_question_is_answered_as_by_brute_force(runs: Directory, index: RunsIndex, query: EpisodeQuery) -> None:
    expected = answer(runs.known, query)
    page = index.episodes(query)
    assert page.total == len(expected)
    assert keys(page.rows) == [each.key for each in expected[query.offset : query.offset + query.limit]]


def test_a_row_says_what_its_rollout_was(runs: Directory, index: RunsIndex) -> None:
    changed = changes(runs.known)
    by_key = {each.key: each for each in runs.known}
    rows = index.episodes(EpisodeQuery(limit=10_000)).rows
    assert len(rows) == len(by_key)
    for row in rows:
        rollout = by_key[row.run, row.file, row.line].rollout
        assert (row.rollout_id, row.task_id, row.sample_index) == (rollout.id, rollout.task.id, rollout.sample_index)
        assert (row.score, row.outcome, row.stop_reason) == (rollout.grade.score, rollout.outcome, rollout.stop_reason)
        assert row.failure_class == (rollout.failure_class or "")
        assert row.tools == tuple(call.name for call in rollout.tool_calls)
        assert (row.tool_calls, row.output_tokens) == (len(row.tools), rollout.output_tokens)
        assert (row.seconds, row.cost_usd, row.answer) == (rollout.seconds, rollout.cost_usd, rollout.answer)
        assert row.question == rollout.task.messages[-1]["content"]
        if row.split == "validation" and (row.run, row.task_id) in changed:
            assert row.change == pytest.approx(float(changed[row.run, row.task_id]))
        elif row.split != "test":
            assert row.change is None


def test_some_items_changed(runs: Directory, index: RunsIndex) -> None:
    rows = index.episodes(EpisodeQuery(order=Order.LARGEST_CHANGE, limit=3)).rows
    assert [abs(row.change or 0) for row in rows] == sorted([abs(row.change or 0) for row in rows], reverse=True)
    assert abs(rows[0].change or 0) > 0


def test_the_neighbours_of_an_episode_are_those_in_the_list(index: RunsIndex) -> None:
    query = EpisodeQuery(split="train", contains="re", order=Order.LONGEST, limit=10_000)
    rows = index.episodes(query).rows
    assert len(rows) > 5
    walked, row = [rows[0]], index.neighbours(query, rows[0])[1]
    while row is not None:
        assert index.neighbours(query, row)[0] == walked[-1]
        walked.append(row)
        row = index.neighbours(query, row)[1]
    assert walked == list(rows)
    assert index.neighbours(query, rows[0])[0] is None
    assert index.neighbours(EpisodeQuery(contains="zebra"), rows[0]) == (None, None)


def test_siblings_are_an_item_s_episodes_in_evaluations(runs: Directory, index: RunsIndex) -> None:
    found = index.siblings("b", "q1")
    expected = [
        each.key for each in runs.known if each.run == "b" and each.rollout.task.id == "q1" and each.split != "train"
    ]
    assert sorted(keys(found)) == sorted(expected)
    assert [row.file for row in found] == sorted(row.file for row in found)
    assert index.siblings("nowhere", "q1") == index.siblings("b", "q77") == []


def test_an_episode_comes_with_its_whole_trace(runs: Directory, index: RunsIndex) -> None:
    each = runs.known[-1]
    found = index.episode(each.run, each.rollout.id)
    assert found is not None
    row, trace = found
    assert (row.run, trace["id"], len(trace["prompt_ids"])) == (each.run, each.rollout.id, 3)
    assert trace["turns"][0]["engine_logprobs"]
    for run, rollout_id in (
        ("nowhere", each.rollout.id),
        (each.run, "trace_none"),
        (each.run, "' OR 1=1 --"),
        ("..", "x"),
    ):
        assert index.episode(run, rollout_id) is None


def test_steps_come_from_the_file_s_name_or_the_summary(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", steps=20, best_step=15)
    for name in (
        "train-000003",
        "validation-000005",
        "validation-baseline",
        "test-best",
        "validation-final",
        "withheld",
    ):
        write_file(run, name, [make_rollout(name)])
    index = RunsIndex(tmp_path)
    index.refresh()
    rows = {row.file: (row.split, row.step) for row in index.episodes(EpisodeQuery()).rows}
    assert rows == {
        "train-000003": ("train", 3),
        "validation-000005": ("validation", 5),
        "validation-baseline": ("validation", 0),
        "validation-final": ("validation", 20),
        "test-best": ("test", 15),
        "withheld": ("train", None),
    }


@pytest.mark.parametrize(
    ("there", "last"),
    [
        (["000005", "000010", "final", "best"], "best"),
        (["000005", "final"], "final"),
        (["000005", "000010"], "000010"),
        ([], None),
    ],
)
def test_the_last_evaluation_is_the_best_then_the_final_then_the_newest(
    tmp_path: Path, there: list[str], last: str | None
) -> None:
    run = write_run(tmp_path / "r")
    write_file(run, "validation-baseline", [make_rollout("q", score=0.25), make_rollout("q", 1, score=0.75)])
    score = {"000005": 0.0, "000010": 0.125, "final": 0.75, "best": 1.0}
    for which in there:
        write_file(run, f"validation-{which}", [make_rollout("q", score=score[which])])
    index = RunsIndex(tmp_path)
    index.refresh()
    [first, *_] = index.siblings("r", "q")[::-1]
    assert first.change == (None if last is None else score[last] - 0.5)


def test_what_is_no_directory_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such directory"):
        RunsIndex(tmp_path / "missing")


def test_without_duckdb_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database.cache_clear()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ConfigError, match=r'pip install "agentrl\[ui\]"'):
        RunsIndex(tmp_path)


def test_opening_loads_nothing_of_what_trains() -> None:
    heavy = "{'torch', 'transformers', 'pydantic', 'httpx', 'duckdb'}"
    code = f"import sys; from agentrl.ui.index import RunsIndex; print(*({heavy} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "\n"
