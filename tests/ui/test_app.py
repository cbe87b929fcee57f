"""Who is answered, what every answer forbids the browser, and answers that need no browser to be looked at."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("duckdb", reason="the extra agentrl[ui] is not installed")

from starlette.testclient import TestClient

from agentrl.ui.app import create_app
from agentrl.ui.index import RunsIndex
from agentrl.ui.links import name_of_value, run_key, run_name, run_value
from tests.ui.made_runs import Training, append, row, write_run

HERE = "http://127.0.0.1:8765"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """Of a directory with one run."""
    yield from asking(tmp_path_factory.mktemp("app") / "runs")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[TestClient]:
    """The same, of a directory that the test may change: `runs` in its folder."""
    yield from asking(tmp_path / "runs")


def asking(runs_dir: Path) -> Iterator[TestClient]:
    write_run(runs_dir / "first")
    with TestClient(create_app(runs_dir), base_url=HERE) as found:
        yield found


# --- who may ask


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "LOCALHOST:1", "[::1]:8765", "a.localhost"])
def test_this_machine_is_answered(client: TestClient, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.test", "127.0.0.1.evil.test", "192.168.0.7", "localhost@evil.test", ""])
def test_other_names_of_this_address_are_refused(client: TestClient, host: str) -> None:
    reply = client.get("/", headers={"Host": host})
    assert reply.status_code == 403
    assert "first" not in reply.text


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "http://127.0.0.1:9999", "null", "http://127.0.0.1:8765.evil.test", ""]
)
@pytest.mark.parametrize("path", ["/", "/runs/first/episodes/x/queue", "/static/style.css"])
def test_other_pages_change_nothing(client: TestClient, origin: str, path: str) -> None:
    headers = {"Origin": origin} if origin else {}
    assert client.post(path, headers=headers).status_code == 403


def test_pages_of_ours_may_change_things(client: TestClient) -> None:
    assert client.post("/", headers={"Origin": HERE}).status_code == 405  # answered: there is only nothing to change


def test_where_others_may_look_they_name_an_address_or_the_machine(tmp_path: Path) -> None:
    app = create_app(tmp_path, hosts=frozenset({"box"}))
    with TestClient(app, base_url="http://box:8765") as client:
        assert client.get("/").status_code == 200
        assert client.get("/", headers={"Host": "192.168.0.7:8765"}).status_code == 200
        assert client.get("/", headers={"Host": "evil.test"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/runs/first", "/runs/nope", "/static/live.js", "/static/nope", "/compare?x=z"])
def test_every_answer_forbids_what_is_not_ours(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    rules = dict(rule.split(" ", 1) for rule in headers["Content-Security-Policy"].split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["connect-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_pages_name_nothing_that_is_elsewhere(client: TestClient) -> None:
    for path in ("/", "/runs/first", "/report.css", "/static/style.css", "/static/live.js", "/static/charts.js"):
        text = client.get(path).text.replace("http://www.w3.org/2000/svg", "")
        assert "://" not in text, path


# --- answers


def test_what_is_not_there_is_said_in_a_page(client: TestClient) -> None:
    for path in (
        "/runs/nope",
        "/nope",
        "/compare?runs=first&runs=nope",
        "/runs/first/metrics.csv?plot=nope",
        "/runs/..~1..~1etc",
    ):
        reply = client.get(path)
        assert reply.status_code == 404, path
        assert "<h1>Error 404</h1>" in reply.text


def test_an_unchanged_run_is_not_told_twice(own: TestClient, tmp_path: Path) -> None:
    reply = own.get("/runs/first/live")
    again = {"If-None-Match": reply.headers["ETag"]}
    assert own.get("/runs/first/live", headers=again).status_code == 304
    append(tmp_path / "runs" / "first", row(7))
    changed = own.get("/runs/first/live", headers=again)
    assert changed.status_code == 200
    before, after = reply.json()["parts"], changed.json()["parts"]
    assert before.keys() == after.keys()
    different = {name for name in before if before[name]["digest"] != after[name]["digest"]}
    assert "section-0" in different
    assert not {"records", "evaluations"} & different


def test_a_running_run_is_live_with_its_progress(own: TestClient, tmp_path: Path) -> None:
    training = Training(tmp_path / "runs" / "now", planned=9)
    training.step()
    own.app.state.index.refresh()  # type: ignore[attr-defined]
    told = own.get("/runs/now/live").json()
    training.end()
    assert (told["is_live"], told["progress"]) == (True, "step 1 of 9")
    assert told["age_seconds"] < 60


def test_the_csv_of_a_run_is_its_metrics(own: TestClient, tmp_path: Path) -> None:
    lines = list(csv.DictReader(io.StringIO(own.get("/runs/first/metrics.csv").text)))
    recorded = [json.loads(line) for line in (tmp_path / "runs" / "first" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list("0123456")
    for told, row_ in zip(lines[1:], recorded, strict=True):
        assert {key: float(value) for key, value in told.items() if value} == pytest.approx(row_)


@pytest.mark.parametrize("damage", ["[]", "{", "null", "\x00\xff", '{"baseline": 3, "steps": "x", "holdout": []}'])
def test_damaged_files_cost_their_part_and_are_named(own: TestClient, tmp_path: Path, damage: str) -> None:
    run = tmp_path / "runs" / "first"
    for name in ("manifest.json", "summary.json", "stop.json", "warnings.jsonl", "config.yaml"):
        (run / name).write_bytes(damage.encode("latin-1"))
    (run / "evaluations" / "validation-000002.json").write_bytes(damage.encode("latin-1"))
    append(run, row(7))
    with (run / "metrics.jsonl").open("ab") as file:
        file.write(b"no row\n" + b'{"step": 8, "reward_train": 1e999, "x": [1]}\n{"step": 9, "tor')
    page = own.get("/runs/first")
    assert page.status_code == 200
    assert "plot-reward" in page.text
    assert own.get("/").status_code == 200
    assert own.get("/compare?runs=first").status_code == 200


def test_files_outside_of_the_run_are_not_shown(own: TestClient, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text('{"password": "hunter2"}')
    run = tmp_path / "runs" / "first"
    (run / "manifest.json").unlink()
    (run / "manifest.json").symlink_to(secret)
    own.app.state.index.refresh()  # type: ignore[attr-defined]
    assert "hunter2" not in own.get("/runs/first").text


def test_a_run_of_a_stage_has_its_plots_and_no_guards(own: TestClient, tmp_path: Path) -> None:
    run = write_run(tmp_path / "runs" / "sft", 0, is_finished=False)
    (run / "config.yaml").write_text("name: sft\nepochs: 1\n")
    append(run, {"step": 1, "train_loss": 2.0, "validation_loss": 2.5})
    own.app.state.index.refresh()  # type: ignore[attr-defined]
    text = own.get("/runs/sft").text
    assert 'id="plot-stage-loss"' in text
    assert "has no <code>ppo</code> section" in text


def test_the_directory_may_be_the_run(tmp_path: Path) -> None:
    write_run(tmp_path / "only")
    with TestClient(create_app(tmp_path / "only"), base_url=HERE) as client:
        assert 'href="/runs/~2"' in client.get("/").text
        assert client.get("/runs/~2").status_code == 200


@pytest.mark.parametrize(
    "name", ["a", "a/b", "a~b", "a~1b", "a/~0/~1", ".", "100%", "a b", "\u00fc/\u2603", "a\x1b?#&=+"]
)
def test_names_of_runs_survive_addresses(name: str) -> None:
    assert run_name(run_key(name)) == name
    assert "/" not in run_key(name)
    assert name_of_value(run_value(name)) == name


def test_what_the_index_lacks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path / "first")
    app = create_app(tmp_path)
    monkeypatch.setattr(RunsIndex, "unread", 1234)
    app.state.problem = "The index of episodes cannot be written: no <space>"
    text = TestClient(app, base_url=HERE).get("/").text  # not entered: nothing is looked for meanwhile
    assert "1,234 files of rollouts still to be read" in text
    assert "cannot be written: no &lt;space&gt;" in text


def test_a_hundred_runs_are_one_list(tmp_path: Path) -> None:
    for n in range(100):
        write_run(tmp_path / f"group-{n % 7}" / f"run-{n:03}", 1)
    with TestClient(create_app(tmp_path), base_url=HERE) as client:
        text = client.get("/?sort=name").text
    assert text.count('name="runs"') == 100
    found: list[Any] = [text.index(f"group-{n}/run-") for n in range(7)]
    assert found == sorted(found)
