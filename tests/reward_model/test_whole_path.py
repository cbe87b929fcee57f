"""From the rollouts of one run to a reward model, and from it to the reward of another run; all by commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import load_config
from agentrl.runs.files import read_rollouts, to_json
from agentrl.runs.traces import to_trace
from agentrl.training import train
from agentrl.types import Grade, Task
from tests.factories import make_rollout
from tests.toy_run import toy_run


def invoke(*words: object, code: int = 0) -> Any:
    result = CliRunner().invoke(app, list(map(str, words)))
    assert result.exit_code == code, result.output
    return result


def labelled(path: Path) -> Path:
    """Episodes in which yes is right and no is wrong, of 60 tasks about 30 documents."""
    lines = []
    for index in range(60):
        task = Task(
            f"q{index}", ({"role": "user", "content": f"{index * 7919 % 10007}?"},), {"page": f"d{index // 2}/x"}
        )
        for said in ("yes", "no"):
            rollout = make_rollout(f"q{index}", tools=[], answer=said, tokens=1 + index % 3)
            rollout = replace(rollout, id=f"trace_{index}-{said}", task=task, grade=Grade(float(said == "yes")))
            lines.append(to_json(to_trace(rollout)) + "\n")
    path.write_text("".join(lines))
    return path


@pytest.fixture(scope="module")
def learned(tmp_path_factory: pytest.TempPathFactory, baseline: Path) -> dict[str, Any]:
    """What `agentrl reward-model train` says of a model that learned from such episodes."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("learned")
    rollouts = labelled(folder / "rollouts.jsonl")
    files = {"train": folder / "train.jsonl", "validation": folder / "validation.jsonl"}
    made = json.loads(
        invoke(
            "reward-model", "pairs", rollouts, "-o", files["train"], "--validation", files["validation"],
            "--document", "page", "--levels", 1, "--holdout", 0.3, "--json",
        ).stdout
    )  # fmt: skip
    assert made["train"]["comparisons"] + made["validation"]["comparisons"] == 60
    section = {
        "model": str(baseline), "output": str(folder / "model"), "batch_size": 8, "epochs": 4, "threads": 1,
        "learning_rate": 3e-3, "max_length": 300, "gate": {"min_comparisons": 10},
        **{name: str(path) for name, path in files.items()},
    }  # fmt: skip
    config = folder / "rm.yaml"
    config.write_text(yaml.safe_dump({"reward_model": section}))
    found: dict[str, Any] = json.loads(
        invoke("reward-model", "train", config, "--run-dir", folder / "rm", "--json").stdout
    )
    return found


def test_a_report_says_what_the_hold_out_showed(learned: dict[str, Any]) -> None:
    assert (learned["accuracy"], learned["gate_failures"]) == (1, [])
    shown = invoke("reward-model", "report", learned["output"]).stdout
    assert "The gate lets it grade." in shown
    assert "ECE, equal mass" in shown
    assert json.loads(invoke("reward-model", "report", learned["output"], "--json").stdout)["comparisons"]["n"] > 10


@pytest.mark.parametrize("kind", ["alone", "mixed"])
def test_a_reward_model_trains_a_policy(tmp_path: Path, baseline: Path, learned: dict[str, Any], kind: str) -> None:
    model = {"type": "reward_model", "path": learned["output"], "digest": learned["digest"]}
    endpoint = {"url": "{serve}/grade", "headers": {"Authorization": "Bearer ${TOY_TOKEN}"}}
    parts = {"right": endpoint, "learned": model}
    grader = model if kind == "alone" else {"type": "multi", "graders": parts, "calculate_output": "(right+learned)/2"}
    toy_run(tmp_path, baseline, ppo={"steps": 1})
    file = tmp_path / "toy.yaml"
    run = yaml.safe_load(file.read_text())
    run["grading"] = {"grader": grader, "holdout": [{"name": "gold", **endpoint}]}
    file.write_text(yaml.safe_dump(run))
    result = train(load_config(file), run_dir=tmp_path / "run")
    assert result.stopped_by is None
    traces = read_rollouts(tmp_path / "run", "train-000001")
    scores = {said: {t["grade"]["score"] for t in traces if t["answer"] == said} for said in ("yes", "no")}
    assert min(scores["yes"]) > max(scores["no"])
    assert 0 <= min(scores["no"]) <= max(scores["yes"]) <= 1
    assert {f"{'learned.' * (kind == 'mixed')}reward"} <= traces[0]["grade"]["sub_scores"].keys()


def test_a_gate_that_fails_ends_with_3(tmp_path: Path, baseline: Path) -> None:
    rollouts = labelled(tmp_path / "rollouts.jsonl")
    files = {name: tmp_path / f"{name}.jsonl" for name in ("train", "validation")}
    invoke("reward-model", "pairs", rollouts, "-o", files["train"], "--validation", files["validation"])
    section = {"model": str(baseline), "output": str(tmp_path / "model"), "epochs": 0.2, "max_length": 300}
    config = tmp_path / "rm.yaml"
    config.write_text(yaml.safe_dump({"reward_model": section | {name: str(path) for name, path in files.items()}}))
    result = invoke("reward-model", "train", config, "--run-dir", tmp_path / "rm", code=3)
    assert "the gate refuses this reward model" in result.output
    assert "The gate refuses it" in invoke("reward-model", "report", tmp_path / "model", code=3).output


def test_what_makes_no_comparison_exits_with_1(tmp_path: Path) -> None:
    lines = [to_json(to_trace(make_rollout(f"q{n}"))) + "\n" for n in range(20)]
    (tmp_path / "r.jsonl").write_text("".join(lines))
    result = invoke(
        "reward-model", "pairs", tmp_path / "r.jsonl", "-o", tmp_path / "a", "--validation", tmp_path / "b", code=1
    )
    assert "tasks with one kind of episode only" in result.output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--by", "mood"], "--by: found 'mood'; allowed: outcome, score, labels"),
        (["--by", "labels"], "found no --labels FILE"),
        (["--document", "page"], "no task's row has that key"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, words: list[str], says: str) -> None:
    (tmp_path / "r.jsonl").write_text(to_json(to_trace(make_rollout())) + "\n")
    place = ["-o", tmp_path / "a", "--validation", tmp_path / "b"]
    assert says in invoke("reward-model", "pairs", tmp_path / "r.jsonl", *place, *words, code=2).output
