"""`agentrl doctor rewards`, and the run that its report allows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.runs import RunDirectory, read_metrics, read_rollouts
from tests.factories import make_rollout


def agentrl(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


@pytest.fixture
def logged(tmp_path: Path) -> Path:
    """Rollouts of 12 tasks in which those that looked were right."""
    with RunDirectory.create(tmp_path / "logged", config_yaml="", manifest={}) as run:
        samples = [
            make_rollout(f"t{n}", i, float(i < 2), ("look",) if i < 2 else ()) for n in range(12) for i in range(4)
        ]
        run.write_rollouts("train-000001", samples)
    return tmp_path / "logged"


def with_process_rewards(toy: Path, **sections: Any) -> None:
    config = yaml.safe_load((toy / "toy.yaml").read_text())
    potential = {"name": "looks", "tool_called": "look", "weight": 0.1}
    config["ppo"] |= {"process_rewards": {"report": "reports/rewards.json", "potentials": [potential]}, **sections}
    (toy / "toy.yaml").write_text(yaml.safe_dump(config))


def test_a_report_is_printed_and_written_and_names_what_failed(toy: Path, logged: Path) -> None:
    with_process_rewards(toy)
    result = agentrl("doctor", "rewards", "toy.yaml", logged)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split() == ["looks", "12", "1.000", "+1.000", "0.0%", "passed"]
    [signal] = json.loads((toy / "reports/rewards.json").read_text())["signals"]
    assert (signal["name"], signal["auc"], signal["n_tasks"], signal["problem"]) == ("looks", 1.0, 12, "")

    config = (toy / "toy.yaml").read_text().replace("tool_called: look", "no_malformed_calls: true")
    (toy / "toy.yaml").write_text(config)
    result = agentrl("doctor", "rewards", "toy.yaml", logged, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["signals"][0]["problem"] == "AUC 0.500 is below 0.55"


def test_without_process_rewards_there_is_nothing_to_look_at(toy: Path, logged: Path) -> None:
    result = agentrl("doctor", "rewards", "toy.yaml", logged)
    assert result.exit_code == 2
    assert "found no ppo.process_rewards" in result.stderr


def test_training_asks_for_the_report_before_it_makes_a_run_directory(toy: Path) -> None:
    with_process_rewards(toy)
    result = agentrl("train", "toy.yaml", "--run-dir", "out")
    assert result.exit_code == 2
    assert "reports/rewards.json: no such file; run `agentrl doctor rewards" in result.stderr
    assert not Path("out").exists()


def test_a_run_trains_on_process_rewards_and_replaces_uniform_groups(toy: Path, logged: Path) -> None:
    with_process_rewards(toy, dynamic_sampling={"max_rounds": 1}, tool_efficiency={"smoothing": 4.0}, tasks_per_step=2)
    assert agentrl("doctor", "rewards", "toy.yaml", logged).exit_code == 0
    result = agentrl("train", "toy.yaml", "--run-dir", "out", "--set", "ppo.samples_per_task=2")
    assert result.exit_code == 0, result.output
    rows = read_metrics(Path("out"))
    assert len(rows) == 2
    assert all({"resampled_groups", "resampling_rounds", "resampling_rollouts"} <= row.keys() for row in rows)
    again = [row["step"] for row in rows if row["resampling_rounds"]]
    assert again, "with two samples a task some group must be uniform; the test needs another seed"
    for step in again:
        assert len(read_rollouts(Path("out"), f"train-{step:06d}-again-1")) == rows[step - 1]["resampling_rollouts"]
