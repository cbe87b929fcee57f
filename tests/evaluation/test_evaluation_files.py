"""Evaluations as files, and those that a run has recorded."""

from __future__ import annotations

import gzip
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrl.errors import ConfigError
from agentrl.evaluation.evaluation_files import Evaluation, read_evaluation, rollouts_beside, write_evaluation
from agentrl.evaluation.run_evaluations import find_evaluation, recorded_name, step_of
from agentrl.runs import RunDirectory
from agentrl.types import FailureClass, StopReason
from tests.factories import make_rollout

ROLLOUTS = (
    make_rollout("a", 0, 1.0),
    make_rollout("a", 1, 0.0, ("search",)),
    replace(make_rollout("b", 0, None), stop_reason=StopReason.INFRASTRUCTURE, broken_by=FailureClass.TOOL),
)
EVALUATION = Evaluation(
    name="first",
    policy={"kind": "api", "model": "m"},
    conditions={"tasks": "sha256:0", "rollout": {"max_turns": 3}, "rubric": None},
    pass_threshold=0.5,
    tools=("search", "cat"),
    rollouts=ROLLOUTS,
    created_at="2026-01-02T03:04:05+00:00",
    selection={"split": "validation"},
)


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "one.json", EVALUATION)
    found = read_evaluation(path)
    assert replace(found, rollouts=()) == replace(EVALUATION, rollouts=())
    assert found.report == EVALUATION.report
    assert write_evaluation(tmp_path / "two.json", found).read_text() == path.read_text().replace("one.", "two.")
    assert json.loads(path.read_text())["figures"]["reward"] == 0.5


def test_the_same_evaluation_makes_the_same_bytes(tmp_path: Path) -> None:
    first, second = (write_evaluation(tmp_path / name / "e.json", EVALUATION) for name in _folders(tmp_path))
    assert first.read_bytes() == second.read_bytes()
    assert rollouts_beside(first).read_bytes() == rollouts_beside(second).read_bytes()


def _folders(tmp_path: Path) -> list[str]:
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
    return ["x", "y"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is no evaluation file"),
        ("[]", "found format 'list'"),
        ("{}", "found format None"),
        ('{"format": "agentrl-evaluation/9"}', "agentrl-evaluation/9"),
        ('{"format": "agentrl-evaluation/1"}', "rollouts"),
        ("\x00\xff", "is no evaluation file"),
    ],
)
def test_what_is_no_evaluation_is_said_to_be_none(content: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text(content, "latin-1")
    with pytest.raises(ConfigError, match=says) as raised:
        find_evaluation(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("key", ["name", "policy", "conditions", "pass_threshold", "tools", "rollouts", "created_at"])
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "e.json", EVALUATION)
    record = json.loads(path.read_text())
    del record[key]
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=key):
        read_evaluation(path)


@pytest.mark.parametrize(
    "change", [{"policy": []}, {"conditions": "x"}, {"selection": 3}, {"pass_threshold": "high"}, {"tools": 3}]
)
def test_a_value_of_another_kind_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "e.json", EVALUATION)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ConfigError, match=str(path)):
        read_evaluation(path)


def test_rollouts_that_are_missing_changed_or_elsewhere_are_refused(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "e.json", EVALUATION)
    rollouts = rollouts_beside(path)
    packed = rollouts.read_bytes()
    rollouts.write_bytes(packed[:-9])
    with pytest.raises(ConfigError, match="digest"):
        read_evaluation(path)
    rollouts.unlink()
    with pytest.raises(ConfigError, match="not beside it"):
        read_evaluation(path)
    outside = tmp_path.parent / rollouts.name
    outside.write_bytes(packed)
    path.write_text(path.read_text().replace(f'"{rollouts.name}"', f'"../{rollouts.name}"'))
    with pytest.raises(ConfigError, match=str(path)):
        read_evaluation(path)


def test_a_damaged_trace_is_named_by_file_and_line(tmp_path: Path) -> None:
    path = write_evaluation(tmp_path / "e.json", EVALUATION)
    rollouts = rollouts_beside(path)
    lines = gzip.decompress(rollouts.read_bytes()).splitlines()
    rollouts.write_bytes(gzip.compress(lines[0] + b"\n" + b'{"id": 3}\n'))
    record = json.loads(path.read_text())
    from agentrl.disk import file_digest

    path.write_text(json.dumps({**record, "rollouts_digest": file_digest(rollouts)}))
    with pytest.raises(ConfigError, match=r"rollouts\.jsonl\.gz:2: found no rollout"):
        read_evaluation(path)


def a_run(path: Path, names: dict[str, int], summary: dict[str, Any] | None) -> Path:
    """A run with evaluations: name to the step whose weights sampled it."""
    config = {"grading": {"pass_threshold": 0.75}, "rollout": {"max_turns": 4}, "tools": {}, "inference": {}}
    versions = {"tools": {"search": None}, "graders": {"g": "sha256:1"}}
    manifest = {"started_at": "2026-01-01T00:00:00+00:00", "versions": versions}
    with RunDirectory.create(path, config_yaml=yaml.safe_dump(config), manifest=manifest) as run:
        for name, step in names.items():
            run.write_rollouts(name, [make_rollout("a", policy_version=step), make_rollout("b", policy_version=step)])
        if summary is not None:
            run.write_summary(summary)
    return path


WHOLE = {
    "validation-baseline": 0,
    "validation-000002": 2,
    "validation-000004": 4,
    "validation-best": 2,
    "validation-final": 4,
    "test-baseline": 0,
    "test-best": 2,
    "train-000001": 0,
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, to be looked at only."""
    return a_run(tmp_path_factory.mktemp("whole") / "run", WHOLE, {"steps": 4, "best_step": 2})


@pytest.fixture
def run(whole: Path, tmp_path: Path) -> Path:
    """A copy, to do with as one likes."""
    return shutil.copytree(whole, tmp_path / "run")


@pytest.mark.parametrize(
    ("which", "name", "step"),
    [
        ("baseline", "validation-baseline", 0),
        ("0", "validation-baseline", 0),
        ("best", "validation-best", 2),
        ("final", "validation-final", 4),
        ("2", "validation-000002", 2),
        ("000004", "validation-000004", 4),
        ("test-best", "test-best", 2),
        ("test-baseline", "test-baseline", 0),
        ("train-000001", "train-000001", None),
    ],
)
def test_a_name_means_one_evaluation_of_the_run(which: str, name: str, step: int | None, whole: Path) -> None:
    found = find_evaluation(f"{whole}@{which}")
    assert recorded_name(whole, which) == name
    assert step_of(whole, name) == step
    assert found.policy == {"kind": "run", "run": str(whole), "evaluation": name, "step": step}
    assert (found.name, found.pass_threshold, found.tools) == (f"{whole}@{which}", 0.75, ("search",))
    assert found.conditions["rollout"] == {"max_turns": 4}
    assert found.report.n_items == 2


def test_policies_that_are_one_were_measured_once(tmp_path: Path) -> None:
    last = a_run(tmp_path / "last", {"validation-baseline": 0, "validation-final": 4}, {"steps": 4, "best_step": 4})
    assert recorded_name(last, "best") == recorded_name(last, "final") == recorded_name(last, "4") == "validation-final"
    nothing = a_run(tmp_path / "none", {"validation-baseline": 0, "validation-final": 4}, {"steps": 4, "best_step": 0})
    assert recorded_name(nothing, "best") == "validation-baseline"
    stopped = a_run(tmp_path / "zero", {"validation-baseline": 0}, {"steps": 0, "best_step": 0})
    assert recorded_name(stopped, "final") == "validation-baseline"


def test_a_run_that_has_not_ended_has_no_last_policy(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"validation-baseline": 0, "validation-000002": 2}, None)
    for which in ("final", "best"):
        with pytest.raises(ConfigError, match=r"once it has ended.*validation-000002, validation-baseline"):
            find_evaluation(f"{run}@{which}")


def test_an_interrupted_run_was_measured_on_the_way(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"validation-baseline": 0, "validation-000002": 2}, {"steps": 3, "best_step": 2})
    assert recorded_name(run, "best") == "validation-000002"
    with pytest.raises(ConfigError, match="no such evaluation"):
        recorded_name(run, "final")


def test_an_evaluation_from_before_the_run_was_resumed_is_not_taken_for_its_end(tmp_path: Path) -> None:
    run = a_run(tmp_path / "run", {"validation-final": 4}, {"steps": 6, "best_step": 6})
    with pytest.raises(ConfigError, match="sampled at step 4, and the run's summary says 6"):
        find_evaluation(f"{run}@final")


@pytest.mark.parametrize("which", ["", "7", "²", "٣", "../secret", "/etc", ".hidden", "validation-000009", "a/b"])
def test_what_a_run_lacks_is_listed_beside_what_it_has(which: str, whole: Path) -> None:
    with pytest.raises(ConfigError, match="test-baseline, test-best, validation-000002") as raised:
        find_evaluation(f"{whole}@{which}")
    assert "train-" not in str(raised.value)


def test_no_run_and_no_file_is_told_with_the_repair(tmp_path: Path, whole: Path) -> None:
    with pytest.raises(ConfigError, match=f"say which evaluation: {whole}@best"):
        find_evaluation(whole)
    with pytest.raises(ConfigError, match="holds no run"):
        find_evaluation(f"{tmp_path}@best")
    with pytest.raises(ConfigError, match="no such evaluation file"):
        find_evaluation(tmp_path / "none.json")
    with pytest.raises(ConfigError, match="@validation-best"):
        find_evaluation(whole / "rollouts" / "validation-best.jsonl.gz")
    with pytest.raises(ConfigError, match="too long"):
        find_evaluation("x" * 5000)


DAMAGED = [
    (name, content)
    for name in ("config.yaml", "manifest.json", "summary.json", "rollouts/validation-best.jsonl.gz")
    for content in (b"", b"[1]", b"{", b"\x1f\x8b\xff\xfe")
    if (name, content) != ("rollouts/validation-best.jsonl.gz", b"")  # no rollouts: nothing is damaged
]


@pytest.mark.parametrize(("name", "content"), DAMAGED)
def test_a_damaged_run_is_told_by_its_file(name: str, content: bytes, run: Path) -> None:
    (run / name).write_bytes(content)
    with pytest.raises(ConfigError, match=str(run)):
        find_evaluation(f"{run}@best")


def test_a_run_from_before_graders_had_versions_is_read(run: Path) -> None:
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "versions": {"model": "sha256:1"}}))
    found = find_evaluation(f"{run}@best")
    assert (found.tools, found.conditions["graders"]) == ((), {"version": None})


def test_each_evaluation_of_a_resumed_run_has_the_conditions_that_it_was_made_under(run: Path) -> None:
    """It was taken up again on 2 January with other limits and a newer tool; the baseline is from the day before."""
    resumed = {
        "started_at": "2026-01-02T00:00:00+00:00",
        "versions": {"tools": {"search": "new"}, "graders": {"g": "sha256:1"}},
        "changes": [
            {"key": "rollout.max_turns", "before": 9, "after": 4},
            {"key": "rollout.gone[3].away", "before": 1, "after": None},
            {"key": "versions.tools.search", "before": None, "after": "new"},
        ],
    }
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "resumed": [resumed]}))
    day = 1767225600  # 2026-01-01T00:00:00Z
    os.utime(run / "rollouts/validation-baseline.jsonl.gz", (day + 60, day + 60))
    os.utime(run / "rollouts/validation-best.jsonl.gz", (day + 90_000, day + 90_000))
    before, after = (find_evaluation(f"{run}@{which}").conditions for which in ("baseline", "best"))
    assert (before["rollout"]["max_turns"], before["tools"]["versions"]["search"]) == (9, None)
    assert (after["rollout"]["max_turns"], after["tools"]["versions"]["search"]) == (4, "new")
