"""The pages of episodes without a browser: what is refused, what is downloaded, and traces that are old or odd."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("duckdb", reason="the extra agentrl[ui] is not installed")
from starlette.datastructures import QueryParams
from starlette.testclient import TestClient

from agentrl.labels import labels_path, read_audit_queue
from agentrl.ui.app import create_app
from agentrl.ui.pages.filters import EpisodeFilter, read_filter
from tests.ui.episode_runs import nasty_rollout, write_demo, write_old_run, write_run

OURS = {"Origin": "http://127.0.0.1"}


@pytest.fixture(scope="module")
def runs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    write_demo(path / "demo")
    write_old_run(path / "old")
    write_run(path / "empty")
    return path


@pytest.fixture(scope="module")
def client(runs_dir: Path) -> Iterator[TestClient]:
    with TestClient(create_app(runs_dir), base_url="http://127.0.0.1", follow_redirects=False) as client:
        yield client


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("outcome=infra_failed", "1"),
        ("failure=tool", "1"),
        ("tool=calculate&file=validation-baseline", "20"),
        ("task=q07", "3"),
        ("min_score=0.9&split=validation", "29"),
        ("min_score=0,2&max_score=0.3", "16"),
        ("split=train", "8"),
    ],
)
def test_filters_leave_out_what_does_not_match(client: TestClient, query: str, expected: str) -> None:
    assert f"<b>{expected}</b> episode" in client.get(f"/runs/demo/episodes?{query}").text


def test_the_record_is_downloaded_as_it_was_written(client: TestClient) -> None:
    answer = client.get("/runs/demo/episodes/trace_base_q01-0/trace.json")
    assert answer.json()["task_id"] == "q01"
    assert answer.headers["content-disposition"] == 'attachment; filename="trace_base_q01-0.json"'
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/demo/episodes/trace_unheard-of",
        "/runs/nowhere/episodes",
        "/runs/demo/items/unheard-of",
        "/runs/demo/episodes/trace_base_q01-0/tokens?turn=99",
        "/runs/..%2F..%2Fetc/episodes",
        "/runs/demo/episodes/..%2F..%2Fmanifest.json",
    ],
)
def test_what_is_not_there_is_a_page_that_says_so(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "Error 404" in answer.text


@pytest.mark.parametrize("rollout_id", ["trace_q1-0", "trace_q2-0"])
def test_old_and_odd_traces_are_shown_as_far_as_they_go(client: TestClient, rollout_id: str) -> None:
    base = f"/runs/old/episodes/{rollout_id}"
    for path in ("/runs/old/episodes?contains=some", base, f"{base}/tokens?turn=1", f"{base}/trace.json"):
        assert client.get(path).status_code == 200, path
    assert client.get("/runs/old/items/q1").status_code == 200


def test_a_run_without_episodes_says_what_will_come(client: TestClient) -> None:
    assert "No episodes are recorded here yet." in client.get("/runs/empty/episodes").text


def test_files_that_cannot_be_read_are_named_above_the_list(tmp_path: Path) -> None:
    run = write_run(tmp_path / "demo", validation_best=[nasty_rollout()])
    (run / "rollouts" / "train-000001.jsonl.gz").write_bytes(b"<b>no gzip</b>")
    with TestClient(create_app(tmp_path), base_url="http://127.0.0.1") as client:
        shown = client.get("/runs/demo/episodes").text
    assert "1 file could not be read whole" in shown
    assert "train-000001" in shown
    assert "<b>1</b> episode" in shown


def test_what_an_address_asks_for_is_still_asked_for_when_the_form_is_sent(client: TestClient) -> None:
    shown = client.get("/episodes?run=demo&run=old&file=validation-baseline").text
    for field in (
        'name="run" value="demo" checked',
        'name="run" value="old" checked',
        'name="file" value="validation-b',
    ):
        assert field in shown


def test_other_pages_can_label_nothing(client: TestClient, runs_dir: Path) -> None:
    path = "/runs/demo/episodes/trace_base_q01-0/queue"
    for headers in ({}, {"Origin": "http://evil.test"}, {"Origin": "null"}):
        assert client.post(path, data={"action": "pick"}, headers=headers).status_code == 403
    assert client.get(path).status_code in (404, 405)  # looking changes nothing
    assert not (runs_dir / "demo" / "audit").exists()


@pytest.mark.parametrize(
    ("rollout_id", "why"),
    [("trace_base_q30-0", "It has no score that counts"), ("trace_test_t1-0", "test split are not labelled")],
)
def test_what_cannot_be_audited_is_refused(client: TestClient, runs_dir: Path, rollout_id: str, why: str) -> None:
    path = f"/runs/demo/episodes/{rollout_id}"
    assert why in client.get(path).text
    for form in ({"action": "pick"}, {"score": "1", "rater": "ana"}):
        answer = client.post(f"{path}/{'queue' if 'action' in form else 'rating'}", data=form, headers=OURS)
        assert answer.status_code == 422
        assert why in answer.text
    assert not (runs_dir / "demo" / "audit").exists()


@pytest.mark.parametrize(
    ("form", "said"),
    [
        ({"score": "1.5", "rater": "ana"}, "found score 1.5; allowed"),
        ({"score": "nan", "rater": "ana"}, "found score nan; allowed"),
        ({"score": "1", "rater": " "}, "found rater"),
        ({"score": "", "rater": "ana"}, "found score"),
    ],
)
def test_a_rating_that_is_none_leaves_everything_as_it_was(
    client: TestClient, runs_dir: Path, form: dict[str, str], said: str
) -> None:
    answer = client.post("/runs/demo/episodes/trace_base_q01-0/rating", data=form, headers=OURS)
    assert answer.status_code == 422
    assert said in answer.text
    assert not (runs_dir / "demo" / "audit").exists()
    unknown = {"action": "delete", "score": "1", "rater": "ana"}
    for what in ("queue", "rating"):
        path = f"/runs/demo/episodes/trace_base_q01-0/{what}"
        assert client.post(path, data=unknown, headers=OURS).status_code == 422
    long = {"score": "1", "rater": "ana", "note": "x" * 3000}
    assert client.post("/runs/demo/episodes/trace_base_q01-0/rating", data=long, headers=OURS).status_code == 422


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "demo", validation_best=[nasty_rollout()])
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    victim = elsewhere / "labels.jsonl"
    victim.write_text("mine\n")
    (run / "audit").symlink_to(elsewhere)
    with TestClient(create_app(tmp_path / "runs"), base_url="http://127.0.0.1") as client:
        base = "/runs/demo/episodes/trace_nasty-0"
        assert client.get(base).status_code == 200
        for path, form in ((f"{base}/queue", {"action": "pick"}), (f"{base}/rating", {"score": "1", "rater": "a"})):
            assert client.post(path, data=form, headers=OURS).status_code == 422
    assert victim.read_text() == "mine\n"
    assert [path.name for path in elsewhere.iterdir()] == ["labels.jsonl"]


def test_a_run_in_a_folder_and_a_run_alone_are_labelled_too(tmp_path: Path) -> None:
    run = write_run(tmp_path / "sweep" / "a~b", train_000001=[nasty_rollout()])
    for root, name in ((tmp_path, "sweep~1a~0b"), (run, "~2")):
        with TestClient(create_app(root), base_url="http://127.0.0.1", follow_redirects=False) as client:
            answer = client.post(
                f"/runs/{name}/episodes/trace_nasty-0/queue?order=longest",
                data={"action": "pick", "note": "x"},
                headers=OURS,
            )
            assert answer.status_code == 303
            assert answer.headers["location"] == f"/runs/{name}/episodes/trace_nasty-0?order=longest#label"
    assert [entry.note for entry in read_audit_queue(run, "train-000001")] == ["x"]
    assert not labels_path(run).exists()


def test_a_damaged_audit_is_told_on_the_page(tmp_path: Path) -> None:
    run = write_run(tmp_path / "demo", validation_best=[nasty_rollout()])
    (run / "audit").mkdir()
    labels_path(run).write_text("{broken\n")
    with TestClient(create_app(tmp_path), base_url="http://127.0.0.1") as client:
        answer = client.get("/runs/demo/episodes/trace_nasty-0")
    assert answer.status_code == 200
    assert "labels.jsonl:1: found no JSON" in answer.text


@pytest.mark.parametrize(
    ("query", "is_shown"),
    [("", False), ("contains=q", False), ("split=validation", False)]
    + [(query, True) for query in ("split=test", "split=all", "file=test-best")],
)
def test_test_episodes_are_shown_to_those_who_ask(client: TestClient, query: str, is_shown: bool) -> None:
    said = client.get(f"/runs/demo/episodes?{query}").text
    assert ("/episodes/trace_test" in said) is is_shown
    assert ("the test split is left out" in said) is (not is_shown and "split" not in query)


@pytest.mark.parametrize("address", ["", "split=all", "split=test", "file=test-best", "task=t1", "task=t1&split=all"])
def test_links_of_a_list_keep_which_splits_it_shows(address: str) -> None:
    asked = read_filter(QueryParams(address))
    assert read_filter(QueryParams(asked.list_url().partition("?")[2])) == asked


def test_an_address_and_its_filter_are_each_others_inverse() -> None:
    address = "run=a&run=b&split=train&contains=x%26y&min_score=0.0&order=longest&page=3"
    asked = read_filter(QueryParams(address))
    assert read_filter(QueryParams(asked.list_url().partition("?")[2])) == asked
    assert (asked.query.offset, asked.page, asked.query.min_score) == (100, 3, 0.0)
    assert "page" not in asked.parameters(split="test")
    assert read_filter(QueryParams("")) == EpisodeFilter(read_filter(QueryParams("")).query)


@pytest.mark.parametrize(
    "address", ["order=best", "split=x", "min_score=nan", "max_score=1e999", "page=0", "page=x", "page=" + "9" * 5000]
)
def test_what_an_address_does_not_mean_is_said(address: str) -> None:
    asked = read_filter(QueryParams(address))
    assert len(asked.problems) == 1
    assert asked.page == 1
    assert json.dumps(asked.problems)
