"""Whole runs of the toy with a hold-out grader: who watches, who chooses, and what is left where the two part."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from agentrl.config import RunConfig
from agentrl.evaluation.measure import HOLDOUT_MISSING
from agentrl.evaluation.selection import Ranked
from agentrl.grading.grader import ungraded
from agentrl.grading.holdout import HoldoutGraders
from agentrl.grading.submission import Submission
from agentrl.labels import read_audit_queue
from agentrl.runs import read_rollouts
from agentrl.training import TrainingResult, train
from agentrl.types import Grade
from tests.same_runs import metrics_of
from tests.toy_run import metrics, toy_run

NO = {"name": "says_no", "type": "string_check", "operation": "like", "input": "{{ sample.output_text }}"}
LIKES_NO = [{**NO, "reference": "no"}]
"""The toy's grader wants a yes and no `no`: this one wants the opposite."""


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def toy(folder: Path, baseline: Path, *, holdout: Any = LIKES_NO, **sections: dict[str, Any]) -> RunConfig:
    ppo = {
        "steps": 4,
        "tasks_per_step": 4,
        "learning_rate": 1e-3,
        "guards": {"max_kl_per_token": None, "max_update_kl": None},
        **sections.pop("ppo", {}),
    }
    changes: dict[str, dict[str, Any]] = {"inference": {"deterministic": True}, "evaluation": {"run_test": False}}
    return toy_run(folder, baseline, grading={"holdout": holdout}, ppo=ppo, **{**changes, **sections})


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, baseline: Path) -> TrainingResult:
    """Four steps, evaluated at every second one."""
    folder = tmp_path_factory.mktemp("watched")
    torch.set_num_threads(1)
    return train(toy(folder, baseline), run_dir=folder / "run")


def test_hold_outs_grade_evaluations_and_no_training(watched: TrainingResult) -> None:
    for trace in read_rollouts(watched.run_dir, "validation-000002"):
        assert trace["grade"]["holdout"] == {"says_no": float("no" in trace["answer"])}
    assert all(not trace["grade"]["holdout"] for trace in read_rollouts(watched.run_dir, "train-000001"))


def test_hold_outs_change_no_reward(watched: TrainingResult, tmp_path: Path, baseline: Path) -> None:
    alone = train(toy(tmp_path, baseline, holdout=[], ppo={"steps": 2}), run_dir=tmp_path / "run")
    for row, other in zip(metrics_of(alone.run_dir), metrics_of(watched.run_dir), strict=False):
        assert {k: v for k, v in other.items() if not k.startswith(("holdout", "sqrt_kl"))} == row


def test_every_evaluation_has_its_gap_and_its_distance(watched: TrainingResult) -> None:
    rows = metrics(watched.run_dir)
    assert [("holdout_score_validation" in row, "sqrt_kl" in row) for row in rows] == [(False, False), (True, True)] * 2
    for row in rows[1::2]:
        gap = row["reward_validation"] - row["holdout_score_validation"]
        assert row["holdout_gap_validation"] == pytest.approx(gap)
        assert row["holdout_score_of_says_no"] == row["holdout_score_validation"]
        assert row["holdout_coverage_validation"] == 1.0
        assert row["sqrt_kl"] >= 0.0
        assert {"holdout_fall_validation_stderr", "holdout_rise_validation_stderr"} <= row.keys()


def test_the_best_is_the_hold_out_s_best_and_not_the_score_s(watched: TrainingResult) -> None:
    rows = metrics(watched.run_dir)
    measured = {row["step"]: row["holdout_score_validation"] for row in rows[1::2]}
    first = json.loads((watched.run_dir / "checkpoints/step-000004/state.json").read_text())["parts"]["measurement"]
    ranked = [Ranked(*each) for each in first["best"]]
    measured[0] = next(each.holdout for each in ranked if each.step == 0)
    assert ranked == sorted(ranked, key=lambda each: (-(each.holdout or 0.0), each.step))
    assert watched.summary["best_step"] == max(sorted(measured), key=lambda step: measured[step])
    assert watched.summary["best_chosen_by"] == "holdout"
    assert watched.summary["holdout"]["names"] == ["says_no"]
    assert (watched.run_dir / "checkpoints" / "best").readlink().name == f"policy-{watched.summary['best_step']:06d}"


def test_an_audit_queue_is_left_of_every_evaluation(watched: TrainingResult) -> None:
    for name in ("validation-baseline", "validation-000002", "validation-000004", "validation-final"):
        ids = {trace["id"] for trace in read_rollouts(watched.run_dir, name)}
        queue = read_audit_queue(watched.run_dir, name)
        assert queue
        assert {entry.rollout_id for entry in queue} <= ids


def test_the_report_shows_the_gap_and_the_manifest_the_version(watched: TrainingResult) -> None:
    page = (watched.run_dir / "report.html").read_text()
    assert "Against gaming" in page
    assert "says_no" in page
    manifest = json.loads((watched.run_dir / "manifest.json").read_text())
    assert manifest["versions"]["graders"]["says_no"].startswith("sha256:")


def test_a_resumed_run_is_watched_as_the_uninterrupted_one(
    watched: TrainingResult, tmp_path: Path, baseline: Path
) -> None:
    train(toy(tmp_path, baseline, ppo={"steps": 2}), run_dir=tmp_path / "run")
    resumed = train(toy(tmp_path, baseline), run_dir=tmp_path / "run", resume=True)
    assert metrics_of(resumed.run_dir) == metrics_of(watched.run_dir)
    states = [
        json.loads((run / "checkpoints/step-000004/state.json").read_text())["parts"]["measurement"]
        for run in (resumed.run_dir, watched.run_dir)
    ]
    assert [states[0][key] for key in ("best", "holdouts")] == [states[1][key] for key in ("best", "holdouts")]
    assert resumed.summary["best_step"] == watched.summary["best_step"]


def refuse(monkeypatch: pytest.MonkeyPatch, *, first: int, every: int) -> None:
    """From the `first` submission on, every so many are not graded by the hold-outs."""
    grade, asked = HoldoutGraders._grade, [0]

    async def refused(self: HoldoutGraders, name: str, submission: Submission) -> Grade:
        asked[0] += 1
        if asked[0] >= first and asked[0] % every == 0:
            return ungraded("the judge is out", "other_error")
        return await grade(self, name, submission)

    monkeypatch.setattr(HoldoutGraders, "_grade", refused)


def test_a_hold_out_that_cannot_grade_the_baseline_ends_the_run_before_it_begins(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, first=0, every=1)
    result = train(toy(tmp_path, baseline), run_dir=tmp_path / "run")
    assert (result.stopped_by, result.summary["steps"]) == (HOLDOUT_MISSING, 0)
    stop = json.loads((tmp_path / "run" / "stop.json").read_text())
    message = "hold-outs graded 0% of the baseline's rollouts: says_no: 8 x the judge is out"
    assert stop["message"] == message


def test_a_hold_out_that_fails_later_blocks_nothing_and_chooses_nothing(
    tmp_path: Path, baseline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse(monkeypatch, first=17, every=2)  # after the 16 of the baseline, half of them
    result = train(toy(tmp_path, baseline, ppo={"steps": 2}), run_dir=tmp_path / "run")
    row = metrics(tmp_path / "run")[-1]
    assert result.stopped_by is None
    assert row["holdout_coverage_validation"] == 0.5
    assert "holdout_score_validation" not in row
    assert result.summary["best_step"] == 0
    warnings = [json.loads(line) for line in (tmp_path / "run" / "warnings.jsonl").read_text().splitlines()]
    assert "holdout_coverage" in {warning["rule"] for warning in warnings}
    missing = [trace["grade"]["holdout_missing"] for trace in read_rollouts(tmp_path / "run", "validation-000002")]
    assert missing.count({"says_no": "the judge is out"}) == 4


def test_other_graders_than_before_choose_the_best_anew(tmp_path: Path, baseline: Path) -> None:
    train(toy(tmp_path, baseline, ppo={"steps": 2}), run_dir=tmp_path / "run")
    changed = toy(tmp_path, baseline, holdout=[{**NO, "reference": "yes"}])
    result = train(changed, run_dir=tmp_path / "run", resume=True, allow_change=["grading", "versions"])
    state = json.loads((tmp_path / "run/checkpoints/step-000004/state.json").read_text())["parts"]["measurement"]
    assert [step for step, *_ in state["best"]] == [4]
    assert state["holdouts"]["first"]["step"] == 4
    assert "holdout_fall_validation" not in metrics(tmp_path / "run")[-1]
    assert result.summary["best_step"] == 4
    assert result.summary["comparison"]["validation"] is not None  # the baseline was measured again
