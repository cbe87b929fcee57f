from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentrl.config import GradingConfig
from agentrl.evaluation.holdout import (
    HoldoutHistory,
    HoldoutReport,
    WatchedItem,
    change,
    describe_missing,
    holdout_score,
    watched,
)
from agentrl.types import Grade, Rollout
from tests.factories import make_rollout

CHECK = {"type": "string_check", "operation": "eq", "input": "{{ sample.output_text }}", "reference": "{{ item.a }}"}
JUDGE = {"type": "score_model", "model": "m", "range": [1.0, 5.0], "input": [{"role": "user", "content": "?"}]}


def grading(*names: str, **options: Any) -> GradingConfig:
    holdout = [{**(JUDGE if name == "judge" else CHECK), "name": name} for name in names]
    return GradingConfig.model_validate({**CHECK, "holdout": holdout, **options})


EXACT = grading("exact")


def seen(task: str, score: float, *, sample: int = 0, missing: str = "", **holdout: float) -> Rollout:
    rollout = make_rollout(task, sample)
    grade = Grade(score, holdout=holdout, holdout_missing={"exact": missing} if missing else {})
    return replace(rollout, grade=grade)


def test_every_item_has_one_vote_whatever_its_samples() -> None:
    rollouts = [seen("a", 1.0, exact=1.0), seen("a", 1.0, sample=1, exact=0.0), seen("b", 1.0, exact=0.0)]
    report = watched(rollouts, EXACT, step=3)
    assert report.items == (WatchedItem("a", 1.0, 0.5), WatchedItem("b", 1.0, 0.0))
    assert (report.step, report.score, report.gap, report.coverage) == (3, 0.25, 0.75, 1.0)


def test_what_a_hold_out_did_not_grade_neither_agrees_nor_disagrees() -> None:
    rollouts = [seen("a", 1.0, exact=1.0), seen("b", 1.0, missing="the judge refused"), seen("c", 0.0, exact=0.0)]
    report = watched(rollouts, EXACT, step=1)
    assert [item.task_id for item in report.items] == ["a", "c"]
    assert report.coverage == pytest.approx(2 / 3)
    assert report.gap == 0.0
    assert describe_missing(report, rollouts).endswith("exact: 1 x the judge refused")


def test_a_rollout_counts_only_where_all_hold_outs_graded_it() -> None:
    both = grading("exact", "strict")
    rollouts = [seen("a", 1.0, exact=1.0, strict=0.0), seen("b", 1.0, exact=0.5)]
    report = watched(rollouts, both, step=1)
    assert [item.holdout for item in report.items] == [0.5]
    assert report.by_name == {"exact": 0.75, "strict": 0.0}


def test_a_hold_out_with_a_scale_of_its_own_is_read_on_the_scale_of_the_score() -> None:
    assert holdout_score(seen("a", 1.0, judge=5.0), grading("judge")) == 1.0
    assert holdout_score(seen("a", 1.0, judge=2.0), grading("judge")) == 0.25
    wide = grading("judge", min_score=0.0, max_score=10.0)
    assert holdout_score(seen("a", 10.0, judge=3.0), wide) == 5.0
    assert holdout_score(seen("a", 1.0), EXACT) is None
    assert holdout_score(seen("a", 1.0), grading()) is None


def test_ungraded_rollouts_have_no_vote_here_either() -> None:
    assert watched([make_rollout("a", score=None)], EXACT, step=1).coverage == 0.0
    assert math.isnan(watched([], EXACT, step=1).score)


def report(step: int, *pairs: tuple[float, float], coverage: float = 1.0) -> HoldoutReport:
    items = tuple(WatchedItem(f"t{i}", score, holdout) for i, (score, holdout) in enumerate(pairs))
    return HoldoutReport(step, items, coverage, {"exact": 0.0})


def test_a_change_is_paired_by_item_and_so_is_its_standard_error() -> None:
    before = report(0, (0.0, 1.0), (0.0, 1.0), (0.0, 0.0), (0.0, 0.0))
    after = report(1, (1.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 0.0))
    found = change(before, after)
    assert found is not None
    differences = np.array([-1.0, 0.0, 0.0, 0.0])
    assert found.holdout == pytest.approx(-0.25)
    assert found.holdout_stderr == pytest.approx(differences.std(ddof=1) / 2)
    assert found.reward == pytest.approx(0.75)


def test_only_items_of_both_are_compared() -> None:
    found = change(report(0, (0.0, 0.4)), report(1, (1.0, 0.1), (0.0, 1.0)))
    assert found is not None
    assert (found.holdout, found.holdout_stderr) == (pytest.approx(-0.3), 0.0)
    assert change(report(0), report(1, (1.0, 1.0))) is None


def test_each_evaluation_is_compared_with_the_best_one_and_the_first() -> None:
    history = HoldoutHistory(0.9)
    assert "holdout_fall_validation" not in history.observe(report(0, (0.2, 0.2), (0.2, 0.2)))
    history.observe(report(1, (0.5, 0.6), (0.5, 0.6)))
    found = history.observe(report(2, (0.9, 0.3), (0.9, 0.3)))
    assert found["holdout_score_validation"] == pytest.approx(0.3)
    assert found["holdout_gap_validation"] == pytest.approx(0.6)
    assert found["holdout_fall_validation"] == pytest.approx(0.3)
    assert found["holdout_fall_reward_rise"] == pytest.approx(0.4)
    assert found["holdout_rise_validation"] == pytest.approx(0.1)
    assert found["holdout_score_of_exact"] == 0.0
    assert history.best is not None
    assert history.best.step == 1


def test_an_evaluation_with_too_little_coverage_has_no_figures_and_is_never_the_best() -> None:
    history = HoldoutHistory(0.9)
    history.observe(report(0, (0.2, 0.2)))
    assert history.observe(report(1, (1.0, 1.0), coverage=0.89)) == {"holdout_coverage_validation": 0.89}
    assert history.best is not None
    assert history.best.step == 0
    assert history.observe(report(2, coverage=1.0)) == {"holdout_coverage_validation": 1.0}


def test_a_history_goes_through_json() -> None:
    history, other = HoldoutHistory(0.9), HoldoutHistory(0.9)
    history.observe(report(0, (0.2, 0.2), (0.1, 0.9)))
    history.observe(report(1, (0.3, 0.7), (0.1, 0.9)))
    other.restore(json.loads(json.dumps(history.state())))
    assert (other.first, other.best) == (history.first, history.best)
    assert other.best is not None
    assert other.best.step == 1
    other.restore(HoldoutHistory(0.9).state())
    assert other.best is None
