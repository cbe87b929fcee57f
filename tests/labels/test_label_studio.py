"""Episodes go to Label Studio as tasks whose text is harmless, and its JSON export comes back as labels."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.errors import ConfigError
from agentrl.labels import AuditEntry, Preference, Rating, read_labels, write_audit_queue
from agentrl.labels.label_studio import PAIRWISE_CONFIG, RATING_CONFIG, pairwise_tasks, rating_tasks, read_export
from agentrl.runs import RunDirectory
from tests.factories import make_rollout

WHEN = "2026-11-20T10:00:00.123456Z"
META = {"rollout_id": "trace_q0-0", "task_id": "q0"}
PAIR = {"task_id": "q0", "left": "trace_q0-0", "right": "trace_q0-1"}


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def result(kind: str, **value: Any) -> dict[str, Any]:
    """As Label Studio writes what somebody chose."""
    return {"id": "Dx_aB91ISN", "from_name": "score", "to_name": "episode", "type": kind, "value": value}


def exported(meta: dict[str, str], *results: dict[str, Any], **annotation: Any) -> dict[str, Any]:
    """A task as the JSON export has it, with one annotation."""
    done = {
        "id": 11, "completed_by": 7, "result": list(results), "was_cancelled": False, "ground_truth": False,
        "created_at": "2026-11-20T09:59:00.000000Z", "updated_at": WHEN, "lead_time": 12.5, "task": 1, **annotation,
    }  # fmt: skip
    return {"id": 1, "data": {"episode": "<p>...</p>"}, "meta": meta, "annotations": [done], "predictions": []}


def written(folder: Path, *tasks: Any) -> Path:
    path = folder / "export.json"
    path.write_text(json.dumps(tasks))
    return path


@pytest.mark.parametrize(
    ("chosen", "score"),
    [
        (result("rating", rating=1), 0.0),
        (result("rating", rating=4), 0.75),
        (result("rating", rating=5), 1.0),
        (result("number", number=0.3), 0.3),
        (result("choices", choices=["Good"]), 1.0),
        (result("choices", choices=["fail"]), 0.0),
    ],
)
def test_what_people_chose_is_a_score_from_0_to_1(chosen: dict[str, Any], score: float, tmp_path: Path) -> None:
    note = result("textarea", text=["first line", "second line"])
    found = read_export(written(tmp_path, exported(META, chosen, note)))
    (rating,) = found.labels
    assert rating == Rating("trace_q0-0", "q0", "label-studio-7", score, "first line\nsecond line")
    assert rating.labelled_at == WHEN


@pytest.mark.parametrize(("side", "other"), [("left", "right"), ("right", "left")])
def test_the_better_of_two_is_a_preference(side: str, other: str, tmp_path: Path) -> None:
    found = read_export(written(tmp_path, exported(PAIR, result("pairwise", selected=side))))
    assert found.labels == (Preference("q0", PAIR[side], PAIR[other], "label-studio-7"),)


def test_raters_are_named_by_their_address_where_the_export_has_it(tmp_path: Path) -> None:
    person = {"id": 7, "email": "ana@example.com", "first_name": "Ana"}
    (rating,) = read_export(written(tmp_path, exported(META, result("rating", rating=2), completed_by=person))).labels
    assert rating.rater == "ana@example.com"


def test_what_is_no_label_is_passed_over_and_counted(tmp_path: Path) -> None:
    found = read_export(
        written(
            tmp_path,
            exported(META, was_cancelled=True),
            exported(META, result("textarea", text=["cannot tell"])),
            {**exported(META), "annotations": []},
        )
    )
    assert found.labels == ()
    assert found.passed_over == {"skipped by the annotator": 1, "nothing chosen": 1}


def test_other_scales_of_stars(tmp_path: Path) -> None:
    path = written(tmp_path, exported(META, result("rating", rating=10)))
    (rating,) = read_export(path, stars=10).labels
    assert isinstance(rating, Rating)
    assert rating.score == 1.0
    with pytest.raises(ConfigError, match=r"found rating 10; allowed: a whole number from 1 to 5 \(--stars\)"):
        read_export(path)


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"id": 1, "rating": 4, "annotator": 7}, "[0]: found no annotations; allowed: a task of the JSON export"),
        (exported(META, result("rating", rating=0)), "[0].annotations[0]: found rating 0; allowed"),
        (exported(META, result("number", number=4)), "[0].annotations[0]: found number 4; allowed: a number from 0"),
        (exported(META, result("number", number=10**400)), "[0].annotations[0]: found number 1000"),
        (exported(META, result("choices", choices=["maybe"])), "found choices ['maybe']; allowed: one of good"),
        (exported(PAIR, result("pairwise", selected="none")), "found selected 'none'; allowed: left, right"),
        (exported({}, result("rating", rating=3)), "found no rollout_id in the task's meta; allowed: tasks as"),
        (exported(META, result("rating", rating=3), completed_by=None), "found completed_by None; allowed"),
        (exported(META, result("rating", rating=3), updated_at="soon"), "found labelled_at 'soon'; allowed: a time"),
        ({**exported(META), "annotations": [3]}, "[0].annotations[0]: found no result; allowed"),
        (7, "[0]: found no annotations"),
    ],
)
def test_a_malformed_export_is_named(task: Any, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, task)
    with pytest.raises(ConfigError) as caught:
        read_export(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_what_is_no_export_at_all_is_named(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    for text, message in (("[{]", r"export\.json:1:3: not JSON"), ("{}", "found no list; allowed: Label Studio's")):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            read_export(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_export(tmp_path / "none.json")


def test_t17_no_text_of_a_model_or_a_tool_is_markup() -> None:
    evil = "<script>alert(1)</script>\x1b[2J</pre>"
    rollouts = [make_rollout("q0", n, answer=evil, output=evil) for n in range(2)]
    for task in (*rating_tasks(rollouts), *pairwise_tasks(rollouts, per_task=1)):
        for text in task["data"].values():
            tree = ElementTree.fromstring(f"<all>{text}</all>")  # well formed: nothing broke out
            assert {element.tag for element in tree.iter()} <= {"all", "p", "b", "pre"}
            assert "\x1b" not in text
    assert "&lt;script&gt;" in rating_tasks(rollouts)[0]["data"]["episode"]


@pytest.mark.parametrize(("config", "make"), [(RATING_CONFIG, rating_tasks), (PAIRWISE_CONFIG, pairwise_tasks)])
def test_the_interface_shows_what_the_tasks_hold(config: str, make: Callable[..., Any]) -> None:
    rollouts = [make_rollout("q0", n) for n in range(2)]
    task = make(rollouts, per_task=1)[0] if make is pairwise_tasks else make(rollouts)[0]
    tree = ElementTree.fromstring(config)
    shown = {value[1:] for element in tree.iter() if (value := element.get("value", "")).startswith("$")}
    assert shown == set(task["data"])
    names = {element.get("name") for element in tree.iter()}
    asked = {name for element in tree.iter() for name in (element.get("toName") or "").split(",") if name}
    assert asked <= names


def test_pairs_are_of_one_task_and_their_sides_are_drawn() -> None:
    rollouts = [make_rollout(f"q{task}", n) for task in range(12) for n in range(3)]
    tasks = pairwise_tasks(rollouts, per_task=2)
    assert len(tasks) == 24
    assert all(meta["left"] != meta["right"] for meta in (task["meta"] for task in tasks))
    sides = [(task["meta"]["left"] < task["meta"]["right"]) for task in tasks]
    assert 0 < sum(sides) < len(sides)
    assert tasks == pairwise_tasks(rollouts, per_task=2)


def test_there_and_back(tmp_path: Path) -> None:
    rollouts = [make_rollout("q0", 0), make_rollout("q0", 1), make_rollout("q1", 0), make_rollout("q1", 1, None)]
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as directory:
        directory.write_rollouts("validation-final", rollouts)
    write_audit_queue(tmp_path / "run", "validation-final", [AuditEntry("trace_q1-0", "q1", "random", 1.0)])
    done = run("labels", "export", tmp_path / "run", "--out", tmp_path / "queued.json")
    assert done.output == f"1 tasks in {tmp_path / 'queued.json'}\n"
    traces = tmp_path / "run" / "rollouts" / "validation-final.jsonl.gz"
    done = run("labels", "export", traces, "--out", tmp_path / "of_a_file.json")
    assert done.output == f"3 tasks in {tmp_path / 'of_a_file.json'}\n"
    for name, option, count in (("all", [], 3), ("pairs", ["--pairs", "3"], 1)):
        tasks_file, interface = tmp_path / f"{name}.json", tmp_path / f"{name}.xml"
        arguments = ["--evaluation", "validation-final", "--out", tasks_file, "--interface", interface, *option]
        done = run("labels", "export", tmp_path / "run", *arguments)
        assert done.exit_code == 0, done.output
        tasks = json.loads(tasks_file.read_text())
        assert len(tasks) == count
        assert interface.read_text() == (PAIRWISE_CONFIG if option else RATING_CONFIG)
        chosen = result("pairwise", selected="left") if option else result("rating", rating=5)
        answered = [{**task, "annotations": exported({}, chosen)["annotations"]} for task in tasks]
        for expected in ("0 known", f"{count} known"):  # a second time nothing is new
            back = run("labels", "import", written(tmp_path, *answered), "--out", tmp_path / "labels.jsonl")
            assert back.exit_code == 0, back.output
            assert expected in back.output
    found = read_labels(tmp_path / "labels.jsonl")
    assert [(each.rollout_id, each.score) for each in found.ratings] == [
        ("trace_q0-0", 1.0), ("trace_q0-1", 1.0), ("trace_q1-0", 1.0)
    ]  # fmt: skip
    (preference,) = found.preferences
    assert {preference.chosen, preference.rejected} == {"trace_q0-0", "trace_q0-1"}


def test_what_cannot_be_exported_is_said(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as directory:
        directory.write_rollouts("validation-final", [make_rollout("q0")])
    for arguments, message in (
        ([tmp_path / "none"], "no such file or folder"),
        ([tmp_path / "run"], "no episode was put aside; name an --evaluation"),
        ([tmp_path / "run", "--evaluation", "test-best"], "test-best.jsonl.gz: no such file or folder"),
        ([tmp_path / "run", "--evaluation", "validation-final", "--pairs", "1"], "no task has two episodes here"),
    ):
        refused = run("labels", "export", *arguments, "--out", tmp_path / "tasks.json")
        assert refused.exit_code == 2
        assert message in refused.output
