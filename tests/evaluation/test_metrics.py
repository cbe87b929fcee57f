from __future__ import annotations

import json
import math

import pytest

from agentrl.evaluation import evaluate_rollouts
from agentrl.evaluation.intervals import percentile_interval, resampled_means, t_interval, t_quantile
from agentrl.evaluation.metrics import same_tool_repeats
from agentrl.types import StopReason
from tests.factories import make_rollout

ISSUE_KEYS = {
    "reward",
    "success_rate",
    "tool_calls",
    "output_tokens",
    "latency_seconds",
    "n_items",
    "samples_per_item",
}


def test_every_item_has_one_vote_however_many_samples_it_kept() -> None:
    report = evaluate_rollouts(
        [make_rollout("a", 0, 1.0), make_rollout("a", 1, 1.0), make_rollout("a", 2, 1.0), make_rollout("b", 0, 0.0)],
        pass_threshold=0.75,
    )
    assert (report.reward, report.n_items, report.samples_per_item) == (0.5, 2, 3)


def test_a_score_at_the_threshold_is_a_success() -> None:
    rollouts = [make_rollout("a", index, score) for index, score in enumerate((0.74, 0.75, 1.0, 0.0))]
    assert evaluate_rollouts(rollouts, pass_threshold=0.75).mean("success_rate") == 0.5


def test_ungraded_and_broken_rollouts_vote_nowhere_and_are_counted() -> None:
    good = [make_rollout("a", 0, 1.0, ("cat",), 8, seconds=2.0)]
    bad = [
        make_rollout("a", 1, None, ("search",) * 9, 500, seconds=99.0),
        make_rollout("a", 2, 0.0, ("search",) * 9, 500, StopReason.INFRASTRUCTURE, seconds=99.0),
        make_rollout("b", 0, None),
    ]
    report, alone = (evaluate_rollouts(rollouts, pass_threshold=0.75) for rollouts in (good + bad, good))
    assert report.items == alone.items
    assert (report.ungraded, report.n_items_ungraded, report.n_items, report.samples_per_item) == (3, 1, 1, 3)
    assert report.stop_reasons == {"final": 3, "infrastructure": 1}
    assert report.tools == ("cat",)


def test_repeats_are_calls_of_the_tool_called_just_before() -> None:
    tools = ("search", "search", "cat", "search", "search", "search")
    assert same_tool_repeats(make_rollout(tools=tools)) == 3
    assert same_tool_repeats(make_rollout(tools=())) == 0
    report = evaluate_rollouts(
        [make_rollout("a", tools=tools), make_rollout("b", tools=("cat", "cat"))], pass_threshold=1
    )
    assert report.mean("same_tool_repeats") == 2.0
    assert report.repeats_per_call == 0.5  # 4 repeats in 8 calls


def test_calls_are_counted_by_tool() -> None:
    rollouts = [make_rollout("a", 0, tools=("search", "cat", "search")), make_rollout("a", 1, tools=("cat",))]
    report = evaluate_rollouts(rollouts, pass_threshold=0.75)
    assert report.as_dict()["tool_calls_by_tool"] == {"cat": 1.0, "search": 1.0}
    assert report.mean("tool_calls_list") == 0.0


def test_the_summary_has_the_keys_of_the_issue() -> None:
    figures = evaluate_rollouts([make_rollout("a"), make_rollout("b", score=0.0)], pass_threshold=0.75).as_dict()
    assert figures.keys() >= ISSUE_KEYS
    assert figures["reward_low"] <= figures["reward"] <= figures["reward_high"]
    json.dumps(figures, allow_nan=False)


@pytest.mark.parametrize("rollouts", [[], [make_rollout(score=None)]])
def test_nothing_graded_gives_no_figures_rather_than_zero(rollouts: list) -> None:
    report = evaluate_rollouts(rollouts, pass_threshold=0.75)
    assert math.isnan(report.reward)
    assert report.as_dict()["reward"] is None
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("degrees", "expected", "tolerance"),
    [(1, 12.7062, 1e-5), (2, 4.30265, 1e-5), (3, 3.18245, 2e-3), (6, 2.44691, 1e-4), (30, 2.04227, 1e-5)],
)
def test_t_quantiles_agree_with_the_tables(degrees: int, expected: float, tolerance: float) -> None:
    assert t_quantile(0.975, degrees) == pytest.approx(expected, rel=tolerance)


def test_the_bootstrap_agrees_with_t_and_repeats_itself() -> None:
    values = [0.0, 1.0, 0.5, 1.0, 0.25] * 20
    draws = resampled_means([[value] for value in values])[:, 0]
    assert percentile_interval(draws) == pytest.approx(t_interval(values), abs=0.01)
    assert percentile_interval(draws) == percentile_interval(resampled_means([[value] for value in values])[:, 0])


def test_one_item_has_no_interval() -> None:
    assert t_interval([1.0]) is None
    assert evaluate_rollouts([make_rollout()], pass_threshold=0.75).reward_interval is None


def test_a_tool_that_the_policy_made_up_is_counted_as_unknown() -> None:
    rollouts = [make_rollout("a", tools=("search", "audited")), make_rollout("b", tools=("093",))]
    report = evaluate_rollouts(rollouts, pass_threshold=0.75, tools=("search", "cat"))
    assert report.tools == ("search", "unknown")
    assert report.mean("tool_calls_unknown") == 1.0
    assert report.mean("tool_calls") == 1.5
