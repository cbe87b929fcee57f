from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random

import pytest

from agentrl.evaluation import EvalReport, compare, evaluate_rollouts, evaluation_summary
from agentrl.runs.files import to_json
from tests.factories import make_rollout


def report(*rows: tuple[str, float | None, int], name: str = "") -> EvalReport:
    """Rows are (task id, score, calls); every call is a search and costs ten tokens, like the answer."""
    rollouts = [
        make_rollout(task_id, index, score, ("search",) * calls, 10 * (calls + 1))
        for index, (task_id, score, calls) in enumerate(rows)
    ]
    return evaluate_rollouts(rollouts, pass_threshold=0.75, name=name)


def noisy(gain: float, seed: int) -> EvalReport:
    random = Random(seed)
    rows = []
    for item in range(100):
        difficulty = Random(item).random()
        rows.append((f"t{item}", min(1.0, max(0.0, difficulty + gain + random.gauss(0, 0.05))), random.randint(3, 6)))
    return report(*rows)


def test_items_of_one_side_only_are_left_out_and_named() -> None:
    comparison = compare(report(("a", 0.0, 2), ("b", 1.0, 9)), report(("a", 1.0, 1), ("c", 0.0, 9), ("d", None, 1)))
    assert (comparison.n_items, comparison.left_out, comparison.ungraded) == (1, ("b", "c"), 1)
    reward = comparison.differences["reward"]
    assert (reward.baseline, reward.candidate, reward.change) == (0.0, 1.0, 1.0)


def test_every_item_falls_into_one_quadrant() -> None:
    before = report(*[(task_id, 0.5, 3) for task_id in "abcdef"])
    after = report(("a", 1.0, 1), ("b", 1.0, 5), ("c", 0.0, 1), ("d", 0.0, 5), ("e", 0.5, 3), ("f", 0.5, 2))
    comparison = compare(before, after)
    counted = {quadrant: count for quadrant, count in comparison.quadrants.items() if count}
    assert counted == {
        "better_fewer": 1,
        "better_more": 1,
        "worse_fewer": 1,
        "worse_more": 1,
        "equal_equal": 1,
        "equal_fewer": 1,
    }
    assert comparison.worse_more_fraction == pytest.approx(1 / 6)


def test_the_order_of_rollouts_changes_nothing() -> None:
    rows = [("a", 1.0, 2), ("b", 0.5, 3), ("c", 0.0, 4)]
    other = report(("a", 0.5, 1), ("b", 0.5, 1), ("c", 1.0, 1))
    assert compare(report(*rows), other) == compare(report(*reversed(rows)), other)


def test_an_unchanged_policy_shows_no_difference() -> None:
    comparison = compare(noisy(0.0, 1), noisy(0.0, 1))
    assert all(difference.change == 0 for difference in comparison.differences.values())
    assert comparison.differences["reward"].change_interval == (0.0, 0.0)
    assert comparison.quadrants["equal_equal"] == 100


def test_pairing_finds_a_gain_smaller_than_the_spread_of_items() -> None:
    reward = compare(noisy(0.0, 1), noisy(0.05, 2)).differences["reward"]
    assert reward.change_interval is not None
    assert reward.change_interval.low > 0
    assert reward.change_interval == pytest.approx(reward.change_interval_t, abs=0.005)
    assert reward.change_interval.low < reward.change < reward.change_interval.high


def test_swapping_the_sides_turns_the_signs() -> None:
    forth, back = compare(noisy(0, 1), noisy(0.1, 2)), compare(noisy(0.1, 2), noisy(0, 1))
    assert forth.differences["reward"].change == pytest.approx(-back.differences["reward"].change)
    assert forth.quadrants["better_fewer"] == back.quadrants["worse_more"]


def test_relative_changes_are_of_the_baseline_mean() -> None:
    comparison = compare(report(("a", 1.0, 4), ("b", 1.0, 8)), report(("a", 1.0, 2), ("b", 1.0, 4)))
    calls = comparison.differences["tool_calls"]
    assert (calls.relative, calls.relative_interval) == (-0.5, (-0.5, -0.5))
    assert comparison.differences["tool_calls_search"].relative == -0.5
    assert comparison.differences["repeats_per_call"].baseline == pytest.approx(10 / 12)


def test_a_baseline_without_calls_has_no_relative_change() -> None:
    comparison = compare(report(("a", 1.0, 0), ("b", 1.0, 0)), report(("a", 1.0, 2), ("b", 1.0, 2)))
    calls = comparison.differences["tool_calls"]
    assert (calls.change, calls.relative, calls.relative_interval) == (2.0, None, None)


@pytest.mark.parametrize("rows", [[], [("z", 1.0, 1)]])
def test_no_common_item_gives_nothing_to_show_but_no_failure(rows: Sequence[tuple[str, float, int]]) -> None:
    comparison = compare(report(("a", 1.0, 2)), report(*rows))
    assert comparison.n_items == 0
    assert json.loads(to_json(comparison.as_dict()))["differences"]["reward"]["change"] is None


def test_the_summary_names_all_sections_and_is_json() -> None:
    baseline, best = noisy(0.0, 1), noisy(0.1, 2)
    summary = json.loads(to_json(evaluation_summary(baseline=baseline, final=best, best=best)))
    assert summary["best"]["reward"] > summary["baseline"]["reward"]
    assert summary["test"] == {"baseline": None, "best": None}
    assert sum(summary["quadrants"].values()) == 100
    assert summary["same_tool_repeats"].keys() == {"baseline", "final", "best"}
    assert summary["comparison"]["validation"]["differences"]["reward"]["change_interval"][0] > 0
    assert summary["comparison"]["test"] is None
