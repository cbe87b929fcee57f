"""The demonstration of docs/gaming.md, as it is: a hole that a policy finds, and a run that a rule stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from agentrl.labels import read_audit_queue
from agentrl.ppo.rules import GAMING_RULES
from agentrl.runs import read_rollouts
from agentrl.training import TrainingResult
from agentrl.training.stopping import describe_stop
from examples.reward_hacking.__main__ import evaluations, tell


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingResult, TrainingResult, str]:
    torch.set_num_threads(1)
    out, said = tmp_path_factory.mktemp("story"), list[str]()
    gamed, honest = tell(out, said.append)
    return out, gamed, honest, "\n".join(said)


def test_a_rule_stops_the_run_whose_grader_has_a_hole(
    story: tuple[Path, TrainingResult, TrainingResult, str],
) -> None:
    _, gamed, _, said = story
    assert gamed.stopped_by in GAMING_RULES
    rows = evaluations(gamed)
    first, last = rows[0], rows[-1]
    assert last["reward_validation"] > first["reward_validation"] + 0.1
    assert last["holdout_score_validation"] < first["holdout_score_validation"]
    assert f"stopped by {gamed.stopped_by} after step {gamed.summary['steps']}" in said


def test_the_same_run_without_the_hole_is_not_stopped_and_learns(
    story: tuple[Path, TrainingResult, TrainingResult, str],
) -> None:
    _, _, honest, _ = story
    assert honest.stopped_by is None
    assert not (honest.run_dir / "stop.json").exists()
    assert honest.summary["best"]["reward"] > honest.summary["baseline"]["reward"]


def test_the_stop_names_the_episodes_that_game_the_grader(
    story: tuple[Path, TrainingResult, TrainingResult, str],
) -> None:
    _, gamed, _, said = story
    record = json.loads((gamed.run_dir / "stop.json").read_text())
    rollouts = {trace["id"]: trace for trace in read_rollouts(gamed.run_dir, record["samples"][0]["file"])}
    assert len(record["samples"]) == 5
    for sample in record["samples"]:
        trace = rollouts[sample["rollout_id"]]
        assert (sample["score"], sample["holdout"]) == (1.0, 0.0)
        assert sample["answer"] == trace["answer"] != trace["item"]["door"]
        assert trace["item"]["door"] in sample["answer"]
    assert all(sample["rollout_id"] in said for sample in record["samples"][:3])
    shown = describe_stop(record, "agentrl train")
    assert all(sample["rollout_id"] in shown for sample in record["samples"][:3])
    assert "1 2 3 4" in shown


def test_the_policy_that_is_kept_is_from_before_the_hold_out_fell(
    story: tuple[Path, TrainingResult, TrainingResult, str],
) -> None:
    _, gamed, _, _ = story
    rows = evaluations(gamed)
    best = max(rows, key=lambda row: (row["holdout_score_validation"], -row["step"]))
    assert gamed.summary["best_step"] == best["step"] < rows[-1]["step"]
    assert max(rows, key=lambda row: row["reward_validation"])["step"] != best["step"]


def test_what_a_person_should_look_at_holds_the_hack(
    story: tuple[Path, TrainingResult, TrainingResult, str],
) -> None:
    _, gamed, _, _ = story
    queue = read_audit_queue(gamed.run_dir, f"validation-{gamed.summary['steps']:06d}")
    worst = [entry for entry in queue if "largest_gap" in entry.why]
    assert len(worst) == 3
    assert all((entry.score, entry.holdout["exact"]) == (1.0, 0.0) for entry in worst)


def test_the_report_and_the_plot_show_it(story: tuple[Path, TrainingResult, TrainingResult, str]) -> None:
    out, gamed, _, _ = story
    page = (gamed.run_dir / "report.html").read_text()
    assert f"{gamed.stopped_by} stopped the run" in page
    assert "1 2 3 4" in page
    assert "best</text>" in (out / "goodhart.svg").read_text()
