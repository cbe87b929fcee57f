"""Wherever scores of several rollouts, files or runs come together, those of different grader versions are refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.config import PotentialConfig, ProcessRewardsConfig, RunConfig
from agentrl.errors import ConfigError
from agentrl.evaluation import EvalReport, compare, evaluate_rollouts, evaluation_summary, write_report
from agentrl.evaluation.discrimination import discriminate, logged_groups, passed_signals, to_record
from agentrl.grading.build import build_grader
from agentrl.grading.holdout import HoldoutGraders
from agentrl.rollout.process_rewards import build_signals
from agentrl.runs import RunDirectory
from agentrl.runs.trace_files import trace_files
from agentrl.stages.episodes import read_episodes
from agentrl.stages.pairs import Episode, build_pairs
from agentrl.types import Grade, Rollout
from tests.factories import make_rollout

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"
BOTH = r"sha256:aaaaaaaaaaaa in .+ and sha256:bbbbbbbbbbbb in "


def agentrl(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def graded(task: str, score: float | None, version: str, sample: int = 0, tools: tuple[str, ...] = ()) -> Rollout:
    return make_rollout(task, sample, tools=tools, grade=Grade(score, version=version))


def report(name: str, version: str, score: float = 1.0) -> EvalReport:
    rollouts = [graded(task, score, version) for task in "abc"] + [graded("d", None, "sha256:other")]
    return evaluate_rollouts(rollouts, pass_threshold=0.75, name=name)


def write_run(folder: Path, **files: list[Rollout]) -> Path:
    config = {"workflow": {"baseline": str(folder / "baseline")}, "grading": {"pass_threshold": 0.75}}
    with RunDirectory.create(folder, config_yaml=yaml.safe_dump(config), manifest={}) as run:
        for name, rollouts in files.items():
            run.write_rollouts(name.replace("_", "-"), rollouts)
    return folder


def test_evaluations_under_two_graders_are_not_compared() -> None:
    with pytest.raises(ConfigError, match=f"^baseline against best: found grades of different .*{BOTH}best"):
        compare(report("baseline", A), report("best", B))
    assert compare(report("baseline", A, 0.5), report("best", A)).differences["reward"].change == 0.5


def test_an_evaluation_that_two_graders_graded_is_compared_with_nothing() -> None:
    mixed = evaluate_rollouts([graded("a", 1.0, A), graded("b", 1.0, B)], pass_threshold=0.75, name="mixed")
    for pair in ((mixed, report("best", A)), (report("baseline", A), mixed), (mixed, mixed)):
        with pytest.raises(ConfigError, match=BOTH):
            compare(*pair)


def test_an_unrecorded_version_is_another_one() -> None:
    with pytest.raises(ConfigError, match="an unrecorded version in old and sha256:aaaaaaaaaaaa in new"):
        compare(report("old", ""), report("new", A))
    assert compare(report("old", ""), report("older", "")).n_items == 3


def test_a_run_goes_without_a_comparison_and_says_why(tmp_path: Path) -> None:
    """Its validation is of one grader, its test of two."""
    summary = evaluation_summary(
        baseline=report("validation-baseline", A),
        best=report("validation-best", A),
        test_baseline=report("test-baseline", A),
        test_best=report("test-best", B),
    )
    assert summary["comparison"]["validation"]["n_items"] == 3
    assert summary["comparison"]["test"] is None
    assert list(summary["not_compared"]) == ["test"]
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        run.write_summary(summary)
        run.append_metrics({"step": 1, "reward_train": 0.5})
        page = write_report(run.path).read_text()
    assert "Nothing is compared on test: test-baseline against test-best: found grades of different grader" in page
    assert "Reward on test" not in page
    assert "<caption>validation: 3 items x 1 sample</caption>" in page
    assert "<caption>test" not in page


def test_pairs_are_of_one_grader() -> None:
    def episode(name: str, score: float | None, version: str) -> Episode:
        return Episode(name, "t", score, (1,), (((len(name),), ()),), version)

    episodes = [episode("a", 1.0, A), episode("bb", 0.0, A)]
    assert len(build_pairs(episodes, pass_threshold=0.75, min_gap=0.5).pairs) == 1
    assert len(build_pairs([*episodes, episode("c", None, B)], pass_threshold=0.75, min_gap=0.5).pairs) == 1
    with pytest.raises(ConfigError, match=f"^pairs: .*{BOTH}episode ccc"):
        build_pairs([*episodes, episode("ccc", 0.0, B)], pass_threshold=0.75, min_gap=0.5)


def test_pairs_of_two_runs_under_two_graders_are_refused(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", train_000001=[graded("t", 1.0, A), graded("t", 0.0, A, 1, ("search",))])
    two = write_run(tmp_path / "two", train_000001=[graded("t", 0.0, B, 2, ("cat",))])
    files = [file for source in (one, two) for file in trace_files(source)]
    with pytest.raises(ConfigError) as error:
        build_pairs((each for file in files for each in read_episodes(file)), pass_threshold=0.75, min_gap=0.5)
    assert f"sha256:aaaaaaaaaaaa in {files[0]} and sha256:bbbbbbbbbbbb in {files[1]}" in str(error.value)
    assert len(build_pairs(read_episodes(files[0]), pass_threshold=0.75, min_gap=0.5).pairs) == 1


def test_a_reward_model_learns_from_one_grader(tmp_path: Path) -> None:
    one = write_run(tmp_path / "one", train_000001=[graded(f"t{n}", 1.0, A) for n in range(4)])
    two = write_run(tmp_path / "two", train_000001=[graded(f"t{n}", 0.0, B, 1, ("cat",)) for n in range(4)])
    options = ("--output", tmp_path / "train.jsonl", "--validation", tmp_path / "validation.jsonl")
    result = agentrl("reward-model", "pairs", one, two, *options)
    assert result.exit_code == 2
    assert "reward-model comparisons: found grades of different grader versions" in result.stderr


def test_process_rewards_are_tried_on_one_grader(tmp_path: Path) -> None:
    mixed = write_run(tmp_path / "mixed", train_000001=[graded("t", 1.0, A)], train_000002=[graded("t", 0.0, B)])
    with pytest.raises(ConfigError, match=f"process rewards: .*{BOTH}train-000002"):
        logged_groups(mixed)
    alone = write_run(tmp_path / "alone", train_000001=[graded("t", 1.0, A)], test_best=[graded("t", 0.0, B)])
    assert logged_groups(alone)[0] == ["train-000001"]


def test_a_report_on_process_rewards_holds_for_the_grader_it_was_made_with(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    process = ProcessRewardsConfig(report=str(path), potentials=(PotentialConfig(name="reads", tool_called="cat"),))
    run = RunConfig.model_validate(
        {
            "workflow": {"target": "t", "baseline": "b"},
            "data": {"train": "a", "validation": "b"},
            "tools": {"endpoints": [{"name": "cat", "server_url": "http://localhost/cat"}]},
            "grading": {"type": "string_check", "name": "g", "input": "x", "reference": "y", "operation": "eq"},
        }
    )
    config = run.model_copy(update={"ppo": run.ppo.model_copy(update={"process_rewards": process})})
    assert run.grading is not None
    ours = {
        **build_grader(run.grading, "http://localhost").versions,
        **HoldoutGraders.from_config(run.grading, "http://localhost").versions,
    }
    groups = [
        [graded(f"t{n}", float(i < 2), ours["g"], i, ("cat",) if i < 2 else ("ls",)) for i in range(4)]
        for n in range(10)
    ]
    found = [discriminate(groups, signal, pass_threshold=0.75) for signal in build_signals(process, "g")]
    path.write_text(json.dumps(to_record(found, ["train-000001"], groups)))
    assert [signal.name for signal in passed_signals(config, ours)] == ["reads"]
    with pytest.raises(ConfigError, match=r"is of grades by sha256:.{12}, and the grader of this run is sha256:a{12}"):
        passed_signals(config, {"g": A})
    told = [[replace(each, grade=replace(each.grade, version=f"{ours['g']} version=2")) for each in g] for g in groups]
    path.write_text(json.dumps(to_record(found, ["train-000001"], told)))
    assert passed_signals(config, ours)  # what the server tells of itself is known only when it has been asked
