from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import PotentialConfig, ProcessRewardsConfig, RunConfig
from agentrl.errors import CheckpointError, ConfigError
from agentrl.evaluation.discrimination import discriminate, logged_groups, passed_signals, to_record
from agentrl.rollout.process_rewards import Signal, build_signals
from agentrl.runs import RunDirectory
from agentrl.types import Rollout
from tests.factories import make_rollout

SCORES = (1.0, 1.0, 0.0, 0.0)


def scored_by(value: Callable[[Rollout], float], weight: float = 0.1, *, is_potential: bool = False) -> Signal:
    return Signal("s", weight, is_potential, value, "sha256:s")


def group(task: str, tools: Sequence[Sequence[str]], scores: Sequence[float] = SCORES) -> list[Rollout]:
    return [
        make_rollout(task, i, score, tuple(each)) for i, (score, each) in enumerate(zip(scores, tools, strict=True))
    ]


def found(groups: Sequence[Sequence[Rollout]], signal: Signal) -> Any:
    return discriminate(groups, signal, pass_threshold=0.75)


def has(tool: str) -> Callable[[Rollout], float]:
    return lambda rollout: float(any(call.name == tool for call in rollout.tool_calls))


CAT, OTHER = ("cat",), ("search",)


def test_a_signal_that_goes_with_success_passes() -> None:
    report = found([group(f"t{i}", (CAT, CAT, OTHER, OTHER)) for i in range(10)], scored_by(has("cat")))
    assert (report.auc, report.correlation, report.problem) == (1.0, pytest.approx(1.0), "")


def test_a_signal_is_refused_where_it_is_chance_or_says_the_opposite() -> None:
    chance = found([group(f"t{i}", (CAT, OTHER, CAT, OTHER)) for i in range(10)], scored_by(has("cat")))
    assert (chance.auc, chance.correlation) == (0.5, pytest.approx(0.0))
    assert chance.problem == "AUC 0.500 is below 0.55"
    opposite = found([group(f"t{i}", (OTHER, OTHER, CAT, CAT)) for i in range(10)], scored_by(has("cat")))
    assert (opposite.auc, opposite.correlation) == (0.0, pytest.approx(-1.0))
    assert "below" in opposite.problem


def test_a_difference_between_tasks_is_no_evidence() -> None:
    easy = [group(f"easy{i}", (CAT,) * 4, (1.0, 1.0, 1.0, 0.0)) for i in range(10)]
    hard = [group(f"hard{i}", (OTHER,) * 4, (1.0, 0.0, 0.0, 0.0)) for i in range(10)]
    report = found(easy + hard, scored_by(has("cat")))  # all in all, cat goes with success: easy tasks need it
    assert (report.auc, report.correlation) == (0.5, None)
    assert report.problem


def test_only_tasks_with_good_and_bad_samples_count_and_a_few_are_not_enough() -> None:
    mixed = [group(f"t{i}", (CAT, CAT, OTHER, OTHER)) for i in range(9)]
    solved = [group(f"s{i}", (CAT,) * 4, (1.0,) * 4) for i in range(50)]
    report = found(mixed + solved, scored_by(has("cat")))
    assert (report.n_tasks, report.auc) == (9, 1.0)
    assert report.problem == "9 tasks have both good and bad samples; 10 are needed"
    assert found(solved, scored_by(has("cat"))).problem.startswith("0 tasks")


def test_what_has_no_grade_is_no_failure() -> None:
    lost = [make_rollout(f"t{i}", 9, None, CAT) for i in range(10)]
    groups = [[*group(f"t{i}", (CAT, CAT, OTHER, OTHER)), lost[i]] for i in range(10)]
    assert found(groups, scored_by(has("cat"))).auc == 1.0


def test_steps_that_the_signal_would_turn_around_are_counted() -> None:
    groups = [group("t", ((), (), CAT, CAT), SCORES)]  # one turn when right, two when wrong
    liked = scored_by(has("cat"), weight=0.1)
    assert found(groups, liked).contradicting_steps == 0.0  # 0.1 does not outweigh the 0.5 of the score
    assert found(groups, replace(liked, weight=4.0)).contradicting_steps == 1.0
    assert found(groups, replace(liked, weight=2.0)).contradicting_steps == pytest.approx(2 / 6)  # the good ones'


def config(report: Path, **potential: Any) -> RunConfig:
    process = ProcessRewardsConfig(
        report=str(report), potentials=(PotentialConfig(name="reads", **({"tool_called": "cat"} | potential)),)
    )
    run = RunConfig.model_validate(
        {
            "workflow": {"target": "t", "baseline": "b"},
            "data": {"train": "a", "validation": "b"},
            "tools": {"endpoints": [{"name": "cat", "server_url": "http://localhost/cat"}]},
            "grading": {"name": "g", "url": "http://localhost/grade"},
        }
    )
    return run.model_copy(update={"ppo": run.ppo.model_copy(update={"process_rewards": process})})


def write_report(path: Path, settings: RunConfig, tools: Sequence[Sequence[str]]) -> None:
    assert settings.ppo.process_rewards is not None
    groups = [group(f"t{i}", tools) for i in range(10)]
    reports = [found(groups, signal) for signal in build_signals(settings.ppo.process_rewards, "g")]
    path.write_text(json.dumps(to_record(reports, ["train-000001"])))


def test_training_takes_signals_whose_report_passed(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, config(path), (CAT, CAT, OTHER, OTHER))
    assert [signal.name for signal in passed_signals(config(path))] == ["reads"]
    assert [signal.weight for signal in passed_signals(config(path, weight=0.3))] == [0.3]  # of the same signal


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tool_called": "search"}, "does not know 'reads' as it is defined now; run `agentrl doctor rewards"),
        ({"tool_called": None, "no_malformed_calls": True}, "does not know 'reads'"),
    ],
)
def test_a_changed_signal_needs_a_new_report(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(path, config(path), (CAT, CAT, OTHER, OTHER))
    with pytest.raises(ConfigError, match=message):
        passed_signals(config(path, **change))


def test_training_does_not_start_without_a_passing_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    with pytest.raises(ConfigError, match=r"no such file; run `agentrl doctor rewards CONFIG RUN_DIR`"):
        passed_signals(config(path))
    path.write_text("[]")
    with pytest.raises(ConfigError, match="is no such report"):
        passed_signals(config(path))
    write_report(path, config(path), (CAT, OTHER, CAT, OTHER))
    with pytest.raises(ConfigError, match=r"'reads' must not be trained on: AUC 0.500 is below 0.55"):
        passed_signals(config(path))


def test_without_process_rewards_there_is_nothing_to_pass() -> None:
    settings = config(Path("unread"))
    assert passed_signals(settings.model_copy(update={"ppo": type(settings.ppo)()})) == []


def test_logged_rollouts_are_grouped_by_task_and_policy_and_tests_stay_unread(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        for name in ("train-000001", "train-000002", "validation-baseline", "test-baseline"):
            run.write_rollouts(name, [*group("a", (CAT, CAT, OTHER, OTHER)), make_rollout("b")])
    names, groups = logged_groups(tmp_path / "run")
    assert names == ["train-000001", "train-000002", "validation-baseline"]
    assert [(each[0].task.id, len(each)) for each in groups] == [("a", 4), ("b", 1)] * 3
    with pytest.raises(CheckpointError, match="no rollouts of training or validation"):
        logged_groups(tmp_path)


def test_a_trace_that_is_read_back_is_the_rollout_that_was_written(tmp_path: Path) -> None:
    written = make_rollout(tools=("cat", "search"), output="x")
    written = replace(written, grade=replace(written.grade, sub_scores={"a": 0.5}, turn_scores=(1.0, 0.0, 0.25)))
    with RunDirectory.create(tmp_path / "run", config_yaml="", manifest={}) as run:
        run.write_rollouts("train-000001", [written])
    _, [[read]] = logged_groups(tmp_path / "run")
    assert replace(read, turns=()) == replace(written, turns=())
    for one, other in zip(read.turns, written.turns, strict=True):
        assert one.engine_logprobs == pytest.approx(other.engine_logprobs, abs=1e-6)
        assert replace(one, engine_logprobs=()) == replace(other, engine_logprobs=())
