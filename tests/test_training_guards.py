"""What a run does when a guard speaks, and where its time and memory go: whole runs of a toy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import GuardsConfig, load_config, to_yaml
from agentrl.ppo import checks
from agentrl.ppo.guards import judge
from agentrl.ppo.rules import rules
from agentrl.runs import read_metrics
from agentrl.training import TrainingResult, setup, train
from agentrl.training.memory import CLEAR_REFS, ProcessMemory, peak_rss_bytes
from agentrl.training.profile import PARTS, format_profile, profile_of
from tests.toy_run import toy_run

SLOW = {"ppo": {"learning_rate": 1.0e-3, "critic_warmup_steps": 2, "guards": {"max_kl_per_token": 100.0}}}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory, baseline: Path) -> TrainingResult:
    """A healthy run of four steps."""
    folder = tmp_path_factory.mktemp("profiled")
    return train(toy_run(folder, baseline, **SLOW), run_dir=folder / "run", profile=True)


def config_with(folder: Path, baseline: Path, **ppo: Any) -> Any:
    return toy_run(folder, baseline, ppo={**SLOW["ppo"], **ppo}, inference={"deterministic": True})


def warnings_of(run: Path) -> list[dict[str, Any]]:
    path = run / "warnings.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def stop_of(run: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((run / "stop.json").read_text())
    return record


def steps_saved(run: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (run / "checkpoints").glob("step-*"))


def test_a_healthy_run_is_neither_stopped_nor_are_its_steps_judged_differently_later(profiled: TrainingResult) -> None:
    rows = read_metrics(profiled.run_dir)
    table = rules(toy_config_of(profiled.run_dir))
    assert profiled.stopped_by is None
    assert not (profiled.run_dir / "stop.json").exists()
    assert not [finding for n in range(1, 5) for finding in judge(rows[:n], table) if finding.is_stop]


def test_a_grader_that_is_replaced_under_way_stops_the_run_before_it_is_learned_from(
    tmp_path: Path, baseline: Path
) -> None:
    config = toy_run(tmp_path, baseline, **SLOW)
    server = config.tools.serve[0]  # type: ignore[union-attr]
    replaced = server.model_copy(update={"command": (*server.command[:-1], "replaced")})
    tools = config.tools.model_copy(update={"serve": (replaced,)})  # type: ignore[union-attr]
    result = train(config.model_copy(update={"tools": tools}), run_dir=tmp_path / "run")
    assert (result.stopped_by, result.summary["steps"]) == ("grader_changed", 1)
    message = stop_of(tmp_path / "run")["message"]
    assert "found scores of 2 graders (ppo.guards.max_grader_versions): sha256:" in message
    assert "version=1 first in train-000000" in message
    assert "version=2 first in train-000002" in message


def toy_config_of(run: Path) -> Any:
    return load_config(run / "config.yaml").ppo


def test_a_profile_adds_up_to_the_steps_it_is_of(profiled: TrainingResult) -> None:
    rows = read_metrics(profiled.run_dir)
    for row in rows:
        parts = {part: row[f"seconds_{part}"] for part in PARTS}
        assert sum(parts.values()) == pytest.approx(row["seconds_step"], rel=1e-9)
        assert row["seconds_rollout"] <= parts["generation"] + parts["tools"] + parts["grading"] + parts["other"]
        assert row["seconds_update"] >= sum(parts[each] for each in ("old_logprobs", "reference", "backward"))
        assert min(parts.values()) >= 0
        assert all(parts[each] > 0 for each in ("generation", "backward", "reference", "checkpoint", "sync"))
    assert [row["seconds_evaluation"] > 0 for row in rows] == [False, True, False, True]
    assert sum(row["seconds_step"] for row in rows) <= profiled.summary["wall_seconds"]
    profile = json.loads((profiled.run_dir / "profile.json").read_text())
    assert profile == json.loads(json.dumps(profile_of(rows)))
    assert sum(part["share"] for part in profile["parts"].values()) == pytest.approx(1)


def test_a_profile_is_a_table(profiled: TrainingResult) -> None:
    table = format_profile(profile_of(read_metrics(profiled.run_dir)))
    assert [line.split()[0] for line in table.splitlines()] == ["part", *PARTS, "step"]
    assert format_profile(profile_of([])) == "no step was profiled"


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the high-water mark is Linux'")
def test_the_memory_of_each_phase_is_measured(profiled: TrainingResult) -> None:
    for row in read_metrics(profiled.run_dir):
        for phase in ("rollout", "logprobs", "update"):
            assert 50e6 < row[f"memory_{phase}_bytes"] <= profiled.summary["peak_rss_bytes"]


@pytest.mark.skipif(not CLEAR_REFS.exists(), reason="the high-water mark is Linux'")
def test_setting_the_high_water_mark_back_forgets_no_peak() -> None:
    memory, size = ProcessMemory(), 64 * 2**20
    memory.reset()
    block = bytearray(b"\1" * size)
    high = memory.peak_bytes()
    del block
    memory.reset()
    assert memory.peak_bytes() <= high - size // 2
    assert peak_rss_bytes() >= high


def test_a_stop_says_why_and_the_run_goes_on_from_before_its_policy_went_bad(tmp_path: Path, baseline: Path) -> None:
    """Entropy that is out of bounds at all steps after the first stops at the fourth; no step before it was good."""
    run, guards = tmp_path / "run", {"max_kl_per_token": 100.0, "patience_steps": 3, "min_entropy_fraction": 1.0}
    guards["max_entropy_fraction"] = 1.0000001
    config = config_with(tmp_path, baseline, guards=guards, steps=6)
    result = train(config, run_dir=run)
    stop = stop_of(run)
    assert result.stopped_by == stop["rule"]
    assert stop["rule"] in ("entropy_collapse", "entropy_blow_up")
    values = [point["value"] for point in stop["values"]]
    assert [point["step"] for point in stop["values"]] == list(range(2, stop["step"] + 1))
    assert values == pytest.approx([row["entropy"] / read_metrics(run)[0]["entropy"] for row in read_metrics(run)[1:]])
    assert stop["rollouts"]["file"] == f"train-{stop['step']:06d}"
    assert len(stop["rollouts"]["ids"]) == 32
    first_bad = stop["step"] - 2
    assert stop["last_good_step"] == first_bad - 2
    assert stop["checkpoint"] == f"checkpoints/step-{first_bad - 2:06d}"  # kept, though only the last two are
    assert steps_saved(run) == [first_bad - 2, stop["step"] - 1, stop["step"]]

    told: list[str] = []
    resumed = train(config, run_dir=run, resume=True, allow_change=["ppo"], reporter=Telling(told))
    assert f"going back to step {first_bad - 2}, from before {stop['rule']} stopped the run" in told
    assert (resumed.stopped_by, stop_of(run)) == (stop["rule"], stop | {"rollouts": stop_of(run)["rollouts"]})
    assert (run / f"stop-{stop['step']:06d}.json").exists()


class Telling:
    """Notes the messages of a run."""

    def __init__(self, told: list[str]) -> None:
        self.told = told

    def phase(self, text: str) -> None: ...

    def step(self, step: int, total: int, metrics: dict[str, float]) -> None: ...

    def message(self, text: str) -> None:
        self.told.append(text)

    def close(self) -> None: ...


def test_warnings_are_told_once_and_a_resumed_run_has_those_of_an_uninterrupted_one(
    tmp_path: Path, baseline: Path
) -> None:
    guards = {"max_kl_per_token": 100.0, "warn_update_kl": 1.0e-12, "warn_clip_fraction": 0.0}
    config = config_with(tmp_path, baseline, guards=guards)
    told: list[str] = []
    train(config, run_dir=tmp_path / "whole", reporter=Telling(told))
    warned = warnings_of(tmp_path / "whole")
    assert [warning["rule"] for warning in warned].count("approx_kl") == 1
    assert sum(text.startswith("warning: approx_kl: approx_kl is above 1e-12") for text in told) == 1
    half = config.model_copy(update={"ppo": config.ppo.model_copy(update={"steps": 2})})
    train(half, run_dir=tmp_path / "parts")
    train(config, run_dir=tmp_path / "parts", resume=True)
    assert warnings_of(tmp_path / "parts") == warned


def test_the_command_line_shows_a_stop_and_how_to_go_on(tmp_path: Path, baseline: Path) -> None:
    config = config_with(tmp_path, baseline, guards={"max_grad_norm": 1.0e-9}, steps=2)
    path = tmp_path / "stops.yaml"
    path.write_text(to_yaml(config))
    shown = CliRunner().invoke(app, ["train", str(path), "--run-dir", str(tmp_path / "run"), "--profile"])
    assert shown.exit_code == 1
    assert "stopped by grad_norm after step 1: grad_norm is above 1e-09; last values: " in shown.output
    assert "batch       rollouts/train-000001.jsonl.gz" in shown.output
    assert "go back to  checkpoints/step-000000" in shown.output
    assert "--resume --set ppo.learning_rate=5.00e-04 --allow-change ppo.learning_rate" in shown.output
    assert "generation" in shown.output


def test_who_deletes_the_record_goes_on_from_the_newest_checkpoint(tmp_path: Path, baseline: Path) -> None:
    config = config_with(tmp_path, baseline, guards={"max_grad_norm": 1.0e-9}, steps=2)
    train(config, run_dir=tmp_path / "run")
    (tmp_path / "run" / "stop.json").unlink()
    mended = config.model_copy(
        update={"ppo": config.ppo.model_copy(update={"guards": GuardsConfig(max_kl_per_token=100.0)})}
    )
    told: list[str] = []
    result = train(mended, run_dir=tmp_path / "run", resume=True, allow_change=["ppo.guards"], reporter=Telling(told))
    assert "resuming after step 1" in told
    assert result.stopped_by is None


def test_a_parameter_that_is_not_trained_stops_the_run_and_its_step_is_taken_back(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(tmp_path, baseline, steps=2)
    monkeypatch.setattr(checks, "untrained", lambda *_: ["model.sinks: it has no gradient"])
    result = train(config, run_dir=tmp_path / "run")
    assert result.stopped_by == "untrained_parameters"
    stop = stop_of(tmp_path / "run")
    assert (stop["step"], stop["last_good_step"], stop["checkpoint"]) == (1, 0, "checkpoints/step-000000")
    assert "model.sinks" in stop["message"]
    monkeypatch.undo()
    told: list[str] = []
    result = train(config, run_dir=tmp_path / "run", resume=True, reporter=Telling(told))
    assert "going back to step 0, from before untrained_parameters stopped the run" in told
    assert (result.stopped_by, result.summary["steps"]) == (None, 2)


def test_an_engine_that_samples_from_another_distribution_gets_no_update(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_with(tmp_path, baseline, steps=2)
    load = setup.load_policy

    def load_at_another_temperature(config: Any) -> Any:
        policy = load(config)
        policy.temperature = 3.0
        return policy

    monkeypatch.setattr(setup, "load_policy", load_at_another_temperature)
    result = train(config, run_dir=tmp_path / "run")
    assert (result.stopped_by, result.summary["steps"]) == ("mismatch_probe", 0)
    assert stop_of(tmp_path / "run")["rollouts"]["file"] == "train-000001"
