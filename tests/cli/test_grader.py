"""`agentrl grader run`, `validate` and `compare`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.config import load_config, to_yaml
from agentrl.evaluation.recorded import read_recorded
from agentrl.grading.versions import grade_versions
from agentrl.runs import RunDirectory
from agentrl.types import Grade, Rollout
from tests.config.grader_mutations import CHECK
from tests.factories import make_rollout, make_task
from tests.grader_server import grader_server

TOY_SERVER = Path(__file__).parents[1] / "toy_server.py"
OLD, OTHER = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def grader(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["grader", *map(str, arguments)])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: grader.json, a config of a run, and its data."""
    monkeypatch.chdir(tmp_path)
    Path("grader.json").write_text(json.dumps(CHECK))
    run = {
        "workflow": {"target": "t", "baseline": "b"},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "grading": CHECK,
    }
    Path("run.yaml").write_text(yaml.safe_dump(run))
    for split in ("train", "validation"):
        rows = [
            {"messages": [{"role": "user", "content": f"{split} {n}?"}], "reference_answer": str(n)} for n in (1, 2)
        ]
        Path(f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def served() -> Path:
    """A config whose grader is a server that a run starts; it likes a `yes`."""
    serve = {"command": ["{python}", str(TOY_SERVER), "normal"], "env": {"TOY_TOKEN": "${random}"}}
    config = {
        "workflow": {"target": "t", "baseline": "b"},
        "data": {"train": "train.jsonl", "validation": "validation.jsonl"},
        "tools": {"serve": [serve], "endpoints": [{"name": "look", "server_url": "{serve}/look"}]},
        "grading": {"name": "toy", "url": "{serve}/grade", "headers": {"Authorization": "Bearer ${TOY_TOKEN}"}},
    }
    Path("served.yaml").write_text(yaml.safe_dump(config))
    return Path("served.yaml")


# run


def test_run_shows_the_grade() -> None:
    result = grader("run", "grader.json", "--answer", "42", "--item", '{"reference_answer": "42"}')
    lines = result.stdout.splitlines()
    assert (result.exit_code, lines[0]) == (0, "score        1, passed (from 0.75 on)")
    assert {line.split()[0] for line in lines[1:]} == {"explanation", "version", "seconds"}


def test_run_takes_the_item_of_a_row() -> None:
    for row, split, score in ((1, "train", 0.0), (2, "train", 1.0), (2, "validation", 1.0)):
        result = grader("run", "run.yaml", "--answer", "2", "--row", row, "--split", split, "--json")
        assert json.loads(result.stdout)["reward"] == score


def test_run_prints_the_reply_of_graders_run() -> None:
    result = grader("run", "grader.json", "--answer", "42", "--item", '{"reference_answer": "42"}', "--json")
    reply = json.loads(result.stdout)
    assert (reply["reward"], reply["metadata"]["name"], reply["metadata"]["type"]) == (1.0, "exact", "string_check")
    assert not any(reply["metadata"]["errors"].values())


def test_run_exits_1_where_there_is_no_score() -> None:
    result = grader("run", "grader.json", "--answer", "42")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[0] == "ungraded     {{ item.reference_answer }} is not there"
    assert "flags        invalid_variable_error" in result.stdout
    reply = json.loads(grader("run", "grader.json", "--answer", "42", "--json").stdout)
    assert (reply["reward"], reply["metadata"]["errors"]["invalid_variable_error"]) == (None, True)


def test_run_shows_the_parts_of_a_multi() -> None:
    multi = {"type": "multi", "graders": {"right": CHECK, "wrong": CHECK | {"operation": "ne"}}}
    Path("multi.json").write_text(json.dumps(multi | {"calculate_output": "right + 3 * wrong"}))
    result = grader("run", "multi.json", "--answer", "1", "--item", '{"reference_answer": "42"}')
    assert result.stdout.splitlines()[:3] == [
        "score        3, passed (from 3 on)",
        "sub-scores   right  0",
        "             wrong  1",
    ]


def test_run_grades_a_file_of_samples() -> None:
    item = {"reference_answer": "1"}
    lines = [{"model_sample": "1", "item": item}, {"sample": {"output_text": "2"}, "item": item}, {"answer": "3"}]
    Path("samples.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    result = grader("run", "grader.json", "--sample", "samples.jsonl")
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1] == "2 of 3 samples graded, mean score 0.500"
    printed = grader("run", "grader.json", "--sample", "samples.jsonl", "--json").stdout.splitlines()
    assert [json.loads(line)["reward"] for line in printed] == [1.0, 0.0, None]


def test_run_takes_no_mean_over_two_versions() -> None:
    """A server that says another `rubric_version` from the second answer on is another grader."""
    asked = iter(range(9))
    Path("samples.jsonl").write_text('{"answer": "1"}\n' * 3)
    with grader_server(lambda _: {"score": 0.5, "rubric_version": min(1, next(asked))}) as url:
        Path("new.yaml").write_text(yaml.safe_dump({"type": "endpoint", "url": url}))
        result = grader("run", "new.yaml", "--sample", "samples.jsonl")
    assert result.stdout.splitlines()[-1].startswith("3 of 3 samples graded, under 2 versions of the grader")


def test_run_starts_the_servers_of_its_config(served: Path) -> None:
    result = grader("run", served, "--answer", "yes", "--row", 1)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "score        1, passed (from 0.75 on)")


def test_run_strips_what_a_terminal_would_obey() -> None:
    result = grader("run", "grader.json", "--answer", "\x1b[2Jred", "--item", '{"reference_answer": "42"}')
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["grader.json"], "found nothing to grade; give --answer TEXT, or --sample FILE"),
        (["grader.json", "--answer", "x", "--item", "{"], "--item: found no JSON ("),
        (["grader.json", "--answer", "x", "--item", "[]"], "--item: found []; allowed: a JSON object"),
        (["grader.json", "--answer", "x", "--row", "1"], "--row: grader.json has no `data`"),
        (["run.yaml", "--answer", "x", "--row", "3"], "--row: found 3; allowed: 1 to 2, the train tasks of run.yaml"),
        (["run.yaml", "--answer", "x", "--row", "1", "--split", "tran"], "--split: found 'tran'; allowed: train, v"),
        (["run.yaml", "--answer", "x", "--row", "1", "--item", "{}"], "--row: found beside --item; allowed: one of"),
        (["grader.json", "--sample", "s", "--answer", "x"], "--sample: found beside --answer; allowed: one of them"),
        (["grader.json", "--sample", "nowhere"], "nowhere: cannot be read (No such file"),
        (["grader.json", "--sample", "bad.jsonl"], "bad.jsonl:2: found both model_sample and answer; allowed: one"),
        (["grader.json", "--sample", "empty.jsonl"], "--sample empty.jsonl: is empty"),
        (["nowhere.json", "--answer", "x"], "nowhere.json: no such file"),
        (["grader.json", "--answer", "x", "--set", "operation=is"], "operation: found the text 'is'; allowed: eq"),
    ],
)
def test_run_says_what_is_wrong_with_what_it_was_given(arguments: list[str], message: str) -> None:
    Path("bad.jsonl").write_text('{"answer": "1"}\n{"answer": "1", "model_sample": "2"}\n')
    Path("empty.jsonl").write_text("\n")
    result = grader("run", *arguments)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr


# validate


def test_validate_prints_the_long_form_which_loads_back() -> None:
    result = grader("validate", "grader.json", "--set", "pass_threshold=0.5")
    assert (result.exit_code, result.stderr) == (0, "")
    printed = yaml.safe_load(result.stdout)
    assert printed["grader"] == CHECK | {"pass_threshold": 0.5}
    assert (printed["pass_threshold"], printed["max_score"]) == (0.5, 1.0)
    Path("again.yaml").write_text(result.stdout)
    assert grader("validate", "again.yaml").stdout == result.stdout


def test_validate_tries_the_templates_on_the_data() -> None:
    rows = [{"messages": [{"role": "user", "content": f"{n}?"}], "answer": str(n)} for n in range(3)]
    Path("other.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert grader("validate", "run.yaml").stderr == ""
    result = grader("validate", "grader.json", "--rows", "other.jsonl")
    assert result.exit_code == 0
    assert result.stderr.startswith(
        "warning: grader.json: row 1 of other.jsonl and 2 more rows: no item.reference_answer, which grader exact reads"
    )
    result = grader("validate", "grader.json", "--rows", "other.jsonl", "--json")
    printed = json.loads(result.stdout)
    assert (list(printed), len(printed["warnings"])) == (["grader", "warnings"], 1)


def test_validate_names_a_mistake_with_its_line() -> None:
    Path("bad.json").write_text(json.dumps(CHECK | {"operation": "is"}, indent=1))
    result = grader("validate", "bad.json")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: bad.json:6: operation: found the text 'is'; allowed: eq, ne")


# compare


def rollout(number: int, score: float, *, version: str = OLD, sample: int = 0) -> Rollout:
    made = make_rollout(f"t{number}", sample, answer=str(number), grade=Grade(score, version=version))
    return replace(made, task=replace(make_task(f"t{number}"), item={"reference_answer": str(number)}))


@pytest.fixture
def run_dir() -> Path:
    """Ten validation rollouts whose old score rises with their number, two of training, one of test."""
    config = {"grading": {"min_score": 0.0, "max_score": 1.0, "pass_threshold": 0.5}}
    with RunDirectory.create(Path("runs/old"), config_yaml=yaml.safe_dump(config), manifest={}) as run:
        run.write_rollouts("validation-000005", [rollout(n, n / 10) for n in range(10)])
        run.write_rollouts("train-000001", [rollout(n, n / 10, sample=1) for n in (3, 4)])
        run.write_rollouts("test-best", [rollout(11, 1.0)])
    return Path("runs/old")


@pytest.fixture
def new_grader() -> Iterator[Path]:
    """A grader that scores a tenth of the answer's number, but nothing for 9."""

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        number = int(body["sample"]["output_text"])
        return {"score": number / 10 if number < 9 else 0.0}

    with grader_server(answer) as url:
        Path("new.yaml").write_text(yaml.safe_dump({"type": "endpoint", "url": url, "pass_threshold": 0.5}))
        yield Path("new.yaml")


def test_compare_re_grades_a_run_without_its_test(run_dir: Path, new_grader: Path) -> None:
    result = grader("compare", run_dir, "--grader", new_grader, "--out", "out.json", "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert json.loads(Path("out.json").read_text()) == found
    (only,) = found["comparisons"]
    assert (found["n_rollouts"], only["n"], found["against"], found["problem"]) == (12, 12, "old", "")
    assert only["old_version"] == OLD
    assert only["new_version"].startswith("sha256:")
    assert [each["file"] for each in only["files"]] == ["train-000001", "validation-000005"]
    assert (only["newly_failed"], only["newly_passed"]) == (pytest.approx(1 / 12), 0)
    assert [each["rollout_id"] for each in only["disagreements"]] == ["trace_t9-0"]
    assert 0.4 < only["agreement"]["spearman"] < 0.8
    assert json.loads(grader("compare", run_dir, "--grader", new_grader, "--test", "--json").stdout)["n_rollouts"] == 13


def test_compare_writes_the_rollouts_with_their_new_grades(run_dir: Path, new_grader: Path) -> None:
    """What was of two versions is of one, and can be put together again."""
    assert grader("compare", run_dir, "--grader", new_grader, "--regraded", "new.jsonl").exit_code == 0
    found = {each.id: each for each in read_recorded(Path("new.jsonl"))["new"]}
    assert (len(found), found["trace_t9-0"].grade.score, found["trace_t8-0"].grade.score) == (12, 0.0, 0.8)
    (version,) = grade_versions(found.values())
    assert version != OLD


def test_compare_is_read_by_people(run_dir: Path, new_grader: Path) -> None:
    result = grader("compare", run_dir, "--grader", new_grader)
    assert "12 rollouts\n" in result.stdout
    assert "old sha256:aaaaaaaaaaaa, new sha256:" in result.stdout
    assert "too low, 0.8 or more is asked for" in result.stdout
    assert "8.3%: 0.0% now pass, 8.3% no longer do" in result.stdout
    assert "0.9 -> 0  trace_t9-0 (task t9, validation-000005)" in result.stdout
    assert "12/12" in result.stderr


def test_compare_fails_below_the_correlation_that_is_asked_for(run_dir: Path, new_grader: Path) -> None:
    result = grader("compare", run_dir, "--grader", new_grader, "--min-spearman", 0.8)
    assert result.exit_code == 1
    assert "Spearman against old: found 0." in result.stderr
    assert grader("compare", run_dir, "--grader", new_grader, "--min-spearman", 0.3).exit_code == 0


def test_compare_holds_both_against_people(run_dir: Path, new_grader: Path) -> None:
    """People side with the new grader: 9 is worth nothing."""
    said = [(n, n / 10 if n < 9 else 0.0) for n in range(10)]
    labels = [{"rollout_id": f"trace_t{n}-0", "task_id": f"t{n}", "rater": "ana", "score": score} for n, score in said]
    Path("labels.jsonl").write_text("".join(json.dumps(label) + "\n" for label in labels))
    arguments = ("compare", run_dir, "--grader", new_grader, "--labels", "labels.jsonl")
    result = grader(*arguments, "--min-spearman", 0.9, "--json")
    assert result.exit_code == 0, result.stderr
    (only,) = json.loads(result.stdout)["comparisons"]
    assert (only["new_against_labels"]["n"], only["new_against_labels"]["spearman"]) == (10, pytest.approx(1))
    assert only["old_against_labels"]["spearman"] < 0.8
    assert grader(*arguments, "--min-spearman", 0.9, "--against", "old").exit_code == 1
    assert "new against labels" in grader(*arguments).stdout


def test_compare_keeps_old_versions_apart(run_dir: Path, new_grader: Path) -> None:
    with RunDirectory.create(Path("runs/mixed"), config_yaml="", manifest={}) as run:
        run.write_rollouts("train-000001", [rollout(n, n / 10) for n in range(4)])
        run.write_rollouts("train-000002", [rollout(n, 1 - n / 10, version=OTHER) for n in range(4, 8)])
    path = Path("runs/mixed/config.yaml")
    path.unlink()
    result = grader("compare", "runs/mixed", "--grader", new_grader, "--json")
    found = json.loads(result.stdout)["comparisons"]
    assert [(each["old_version"], each["n"], each["agreement"]["spearman"]) for each in found] == [
        (OLD, 4, pytest.approx(1)),
        (OTHER, 4, pytest.approx(-1)),
    ]
    shown = grader("compare", "runs/mixed", "--grader", new_grader).stdout
    assert "found grades of 2 pairs of versions" in shown
    assert grader("compare", "runs/mixed", "--grader", new_grader, "--min-spearman", 0.9).exit_code == 1


def test_compare_starts_the_servers_of_the_run_for_a_grader_alone(served: Path) -> None:
    config = load_config(served)
    with RunDirectory.create(Path("runs/toy"), config_yaml=to_yaml(config), manifest={}) as run:
        answers = {0: "yes", 1: "no", 2: "yes yes", 3: "maybe"}
        run.write_rollouts("train-000001", [replace(rollout(n, n % 2), answer=text) for n, text in answers.items()])
    assert config.grading is not None
    alone = config.grading.grader.model_dump(mode="json", exclude_none=True)
    Path("alone.yaml").write_text(yaml.safe_dump(alone))
    result = grader("compare", "runs/toy", "--grader", "alone.yaml", "--json")
    assert result.exit_code == 0, result.stderr
    (only,) = json.loads(result.stdout)["comparisons"]
    assert (only["n"], only["new_mean"], only["agreement"]["spearman"]) == (4, 0.5, pytest.approx(-1))


def test_compare_without_a_score_fails_and_says_why(run_dir: Path) -> None:
    with grader_server(lambda _: 400) as url:
        Path("broken.yaml").write_text(yaml.safe_dump({"type": "endpoint", "url": url}))
        result = grader("compare", run_dir, "--grader", "broken.yaml")
    assert result.exit_code == 1
    assert "12 without a new score" in result.stdout
    assert "12 x grader endpoint at http://127.0.0.1" in result.stdout
    assert "no rollout has both an old and a new score" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs/none"], "runs/none: no such file or folder"),
        (["runs/old", "--against", "people"], "--against: found 'people'; allowed: old, labels"),
        (["runs/old", "--against", "labels"], "--against labels: found no --labels FILE"),
        (["runs/old", "--labels", "none.jsonl"], "none.jsonl: cannot be read"),
        (["runs/old", "--out", "nowhere/out.json"], "--out nowhere/out.json: cannot be written"),
    ],
)
def test_compare_says_what_is_wrong_with_what_it_was_given(
    run_dir: Path, new_grader: Path, arguments: list[str], message: str
) -> None:
    result = grader("compare", *arguments, "--grader", new_grader)
    assert (result.exit_code, message in result.stderr) == (2, True), result.stderr
