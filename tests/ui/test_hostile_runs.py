"""Runs whose files hold what no trainer writes: every page still answers, and every other run is still shown."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="the extra agentrl[ui] is not installed")

from starlette.testclient import TestClient

from agentrl.labels import labels_path
from agentrl.runs.traces import to_trace
from agentrl.ui.app import create_app
from agentrl.ui.csv_text import to_csv
from agentrl.ui.figures import Metrics, compared_figure
from agentrl.ui.traces import episode
from agentrl.ui.traces.episode import episode_view
from tests.factories import make_rollout
from tests.ui import made_runs
from tests.ui.episode_runs import named, write_run

HERE = "http://127.0.0.1:8765"
BEYOND = 10**400
"""A whole number that no float holds; JSON takes it."""
PAGES = ("/", "/runs.live", "/runs/bad", "/runs/bad/live", "/runs/bad/metrics.csv", "/compare.live?runs=bad&runs=good")


@pytest.fixture
def runs_dir(tmp_path: Path) -> Path:
    made_runs.write_run(tmp_path / "good")
    made_runs.write_run(tmp_path / "bad")
    return tmp_path


@pytest.fixture
def client(runs_dir: Path) -> Iterator[TestClient]:
    with TestClient(create_app(runs_dir), base_url=HERE, follow_redirects=False) as client:
        yield client


def changed(path: Path, *keys: Any, value: Any) -> None:
    """The JSON file with another value in one place."""
    record = place = json.loads(path.read_text())
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("wall_seconds",), BEYOND),
        (("baseline",), -1),
        (("baseline",), "<script>"),
        (("baseline", "reward"), BEYOND),
        (("best",), [1]),
        (("best_step",), 1e308),
        (("holdout",), "none"),
        (("comparison",), [[]]),
        (("test",), 3),
        (("steps",), {"a": {}}),
    ],
)
def test_an_odd_summary_is_no_end_of_any_page(
    client: TestClient, runs_dir: Path, keys: tuple[Any, ...], value: Any
) -> None:
    path = runs_dir / "bad" / "summary.json"
    record = {**json.loads(path.read_text()), "holdout": {}, "comparison": {}, "test": {}}
    path.write_text(json.dumps(record))
    changed(path, *keys, value=value)
    assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)


@pytest.mark.parametrize("key", ["step", "reward_validation", "kl_per_token", "seconds_rollout", "own"])
def test_an_odd_number_is_no_end_of_any_page(client: TestClient, runs_dir: Path, key: str) -> None:
    for value in (BEYOND, 1e308, -1e308, float("nan"), "x", None, [1]):
        made_runs.append(runs_dir / "bad", made_runs.row(7) | {key: value})
        assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)


CONFIGS = {
    "laughs": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(
        f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
    ),
    "itself": "a: &a {b: *a}\n",
    "keys": "1: 2\nnull: 3\n2020-01-01: 4\na: 5\n",
    "nested": "[" * 3000,
    "digits": f"ppo:\n  steps: {'9' * 5000}\n",
    "beyond": f"ppo: {{}}\ngrading: {{max_score: {BEYOND}}}\n",
}


@pytest.mark.parametrize("text", CONFIGS.values(), ids=CONFIGS)
def test_a_config_that_grows_when_it_is_read_hangs_nothing(client: TestClient, runs_dir: Path, text: str) -> None:
    (runs_dir / "bad" / "config.yaml").write_text(text)
    assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)


@pytest.mark.parametrize(
    "name", ["summary.json", "metrics.jsonl", "config.yaml", "evaluations/validation-baseline.json"]
)
def test_a_pipe_or_a_folder_in_the_place_of_a_file_hangs_nothing(client: TestClient, runs_dir: Path, name: str) -> None:
    path = runs_dir / "bad" / name
    path.unlink()
    os.mkfifo(path)
    assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)
    path.unlink()
    path.mkdir()
    assert {page: client.get(page).status_code for page in PAGES} == dict.fromkeys(PAGES, 200)


# --- episodes


@pytest.fixture
def shown(tmp_path: Path) -> Iterator[TestClient]:
    """Of a run with one episode that was trained on, and its token facts."""
    run = write_run(tmp_path / "demo", train_000001=[named("t", task_id="q1")])
    (run / "tokens").mkdir()
    with TestClient(create_app(tmp_path), base_url=HERE, follow_redirects=False) as client:
        yield client


EPISODE = "/runs/demo/episodes/trace_t_q1-0"


def packed(record: object) -> bytes:
    return gzip.compress(json.dumps(record).encode() + b"\n")


FACTS: dict[str, object] = {
    "rollout_id": "trace_t_q1-0",
    "advantages": [],
    "values": None,
    "logprobs": [],
    "ref_logprobs": [],
    "is_trusted": True,
}


@pytest.mark.parametrize(
    "damage",
    [
        packed(FACTS)[:-9] + b"\xff" * 9,
        packed(FACTS)[:12] + b"\xff" * 40,
        packed({**FACTS, "advantages": 5}),
        packed({**FACTS, "values": {"a": 1}}),
        packed({**FACTS, "logprobs": [1, 2]}),
        gzip.compress(b'{"rollout_id": "trace_t_q1-0", "advantages": ' + b"[" * 100_000),
    ],
    ids=["torn end", "torn", "a number", "an object", "no lists", "deeply nested"],
)
def test_damaged_token_facts_are_told(shown: TestClient, tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "demo" / "tokens" / "train-000001.jsonl.gz").write_bytes(damage)
    answer = shown.get(f"{EPISODE}/tokens")
    assert (answer.status_code, "is damaged" in answer.text) == (200, True)


def test_a_pipe_hangs_no_page_of_an_episode(shown: TestClient, tmp_path: Path) -> None:
    run = tmp_path / "demo"
    (run / "config.yaml").unlink()
    (run / "audit").mkdir(exist_ok=True)
    tokenizer = run / "checkpoints" / "best" / "tokenizer.json"
    tokenizer.parent.mkdir(parents=True)
    for path in (run / "config.yaml", labels_path(run), run / "tokens" / "train-000001.jsonl.gz", tokenizer):
        os.mkfifo(path)
    assert shown.get(f"{EPISODE}/tokens").status_code == 200
    assert "is no ordinary file" in shown.get(EPISODE).text
    said = {"score": "1", "rater": "me"}
    assert shown.post(f"{EPISODE}/rating", data=said, headers={"Origin": HERE}).status_code == 422


def test_labels_behind_a_link_are_neither_read_nor_written(shown: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text('"hunter2"\n')
    (tmp_path / "demo" / "audit").mkdir(exist_ok=True)
    labels_path(tmp_path / "demo").symlink_to(secret)
    assert "hunter2" not in shown.get(EPISODE).text
    shown.post(f"{EPISODE}/rating", data={"score": "1", "rater": "me"}, headers={"Origin": HERE})
    assert secret.read_text() == '"hunter2"\n'


@pytest.mark.parametrize("baseline", ["'a\\0b'", "/dev", "'" + "x" * 5000 + "'", "3", "null"])
def test_a_config_that_names_no_tokenizer_shows_ids(shown: TestClient, tmp_path: Path, baseline: str) -> None:
    (tmp_path / "demo" / "config.yaml").write_text(
        f"workflow: {{baseline: {baseline}}}\n".replace("'a\\0b'", '"a\\0b"')
    )
    assert "ids are shown" in shown.get(f"{EPISODE}/tokens").text


def test_of_endless_turns_and_calls_the_first_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(episode, "MAX_TURNS", 10)
    monkeypatch.setattr(episode, "MAX_CALLS", 10)
    trace = to_trace(make_rollout())
    trace["turns"][0]["tool_calls"] *= 1000
    trace["turns"] *= 1000
    view = episode_view(trace)
    assert (len(view.turns), len(view.turns[0].calls)) == (10, 10)
    assert "of 2,000 turns" in view.problems[0] or "turns are shown" in view.problems[0]


# --- who asks, and what leaves


@pytest.mark.parametrize("origin", ["http://[", "http://[::1", "//x:y@z:99999999", "\x7f", "http://127.0.0.1:8765, x"])
def test_an_origin_that_is_none_is_refused(client: TestClient, origin: str) -> None:
    assert client.post("/", headers={"Origin": origin}).status_code == 403


def test_two_origins_are_refused(client: TestClient) -> None:
    assert client.post("/", headers=[("Origin", HERE), ("Origin", "http://evil.test")]).status_code == 403


@pytest.mark.parametrize(
    "name", ["=1+1", "\n=1+1", "\uff1d1+1", "\uff0b1", "\uff20SUM(1)", "a;=1+1", 'a";=1+1', "a\t=1+1"]
)
def test_no_heading_of_a_csv_begins_a_formula(name: str) -> None:
    metrics = Metrics([{"step": 1, "kl": 0.5}])
    heading = to_csv(compared_figure("kl", {name: metrics})).rpartition("\r\n1,")[0]
    for delimiter in ",;\t":  # whatever a spreadsheet takes for one
        quoted = False
        before = delimiter
        for char in heading:
            assert quoted or before not in (delimiter, "\n") or char not in "=+-@\uff1d\uff0b\uff0d\uff20"
            quoted ^= char == '"'
            before = char
    assert f'"{name}' not in heading or not name.startswith(("=", "\n", "\uff1d", "\uff0b", "\uff20"))


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_other_pages_load_nothing_and_may_lead_here(client: TestClient, site: str) -> None:
    for mode, status in (("no-cors", 403), ("cors", 403), ("navigate", 200)):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode}
        assert client.get("/episodes?contains=x", headers=headers).status_code == status
    ours = {"Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "cors"}
    assert client.get("/runs.live", headers=ours).status_code == 200


def test_an_endless_search_is_cut(client: TestClient) -> None:
    shown = client.get("/episodes", params={"contains": "word " * 5000}).text
    assert "found 25,000 characters" in shown
    assert shown.count("word") < 10_000
