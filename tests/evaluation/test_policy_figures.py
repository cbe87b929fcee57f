"""The figures of one policy: those of a comparison's side, recomputed here from the rollouts."""

from __future__ import annotations

import random
from dataclasses import replace
from math import comb
from statistics import fmean

import pytest

from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.policy_figures import Level, policy_figures
from agentrl.types import FailureClass, Rollout, StopReason
from tests.factories import make_rollout


def evaluation(rollouts: list[Rollout], looked_at: int = 0) -> Evaluation:
    return Evaluation(
        name="p",
        policy={},
        conditions={},
        pass_threshold=0.5,
        tools=("search", "cat"),
        rollouts=tuple(rollouts),
        selection={"tags_looked_at": looked_at},
    )


def some_rollouts(n_items: int = 12, samples: int = 4) -> list[Rollout]:
    rng = random.Random(3)
    found = []
    for item in range(n_items):
        for sample in range(samples):
            tools = rng.choices(["search", "cat", "made_up"], k=rng.randrange(4))
            rollout = make_rollout(
                f"t{item}", sample, score=rng.choice([0.0, 0.25, 1.0]), tools=tools, tokens=20 + item
            )
            task = replace(
                rollout.task, item={"tags": ["odd" if item % 2 else "even", *(["rare"] if item == 3 else [])]}
            )
            found.append(replace(rollout, task=task, seconds=rng.random(), cost_usd=0.01 * rng.random()))
    lost = replace(found[5], grade=replace(found[5].grade, score=None), stop_reason=StopReason.INFRASTRUCTURE)
    found[5] = replace(lost, broken_by=FailureClass.ENGINE)
    return found


def test_figures_equal_those_recomputed_from_the_rollouts() -> None:
    rollouts = some_rollouts()
    figures = policy_figures(evaluation(rollouts))
    assert figures is not None
    items: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        if rollout.is_valid:
            items.setdefault(rollout.task.id, []).append(rollout)

    def over_items(value) -> float:  # type: ignore[no-untyped-def]
        return fmean(fmean(value(rollout) for rollout in group) for group in items.values())

    def found(name: str) -> Level:
        return figures.figures[name]

    passed = {task: sum((each.grade.score or 0) >= 0.5 for each in group) for task, group in items.items()}
    assert found("reward").value == pytest.approx(over_items(lambda each: each.grade.score))
    assert found("success_rate").value == pytest.approx(fmean(passed[task] / len(items[task]) for task in items))
    assert found("tool_calls").value == pytest.approx(over_items(lambda each: len(each.tool_calls)))
    assert found("tool_calls_unknown").value == pytest.approx(
        over_items(lambda each: sum(call.name == "made_up" for call in each.tool_calls))
    )
    cost = over_items(lambda each: each.cost_usd) / fmean(passed[task] / len(items[task]) for task in items)
    assert found("cost_per_success_usd").value == pytest.approx(cost)
    assert found("infra_failed_engine").value == pytest.approx(1 / len(rollouts))
    whole = [(len(items[task]), passed[task]) for task in items if len(items[task]) >= 4]
    assert figures.pass_at_k[4].value == pytest.approx(fmean(1 - comb(n - c, 4) / comb(n, 4) for n, c in whole))
    assert figures.pass_hat_k[2].value == pytest.approx(
        fmean(comb(passed[task], 2) / comb(len(items[task]), 2) for task in items)
    )
    for name, level in figures.figures.items():
        assert level.interval is None or level.interval.low <= level.value <= level.interval.high, name
    assert found("reward").interval == evaluation(rollouts).report.reward_interval


def test_intervals_of_subsets_allow_for_all_that_were_looked_at() -> None:
    rollouts = some_rollouts()
    few, many = policy_figures(evaluation(rollouts)), policy_figures(evaluation(rollouts, looked_at=40))
    assert few is not None
    assert many is not None
    assert (few.tags_looked_at, [each.tag for each in few.tags]) == (3, ["even", "odd", "rare"])
    assert few.tags_level == pytest.approx(1 - 0.05 / 3)
    assert many.tags_looked_at == 40  # those of the whole set, where only some were rolled out
    for narrow, wide in zip(few.tags, many.tags, strict=True):
        assert narrow.reward.value == wide.reward.value
        if narrow.reward.interval is not None and wide.reward.interval is not None:
            assert wide.reward.interval.low <= narrow.reward.interval.low
            assert wide.reward.interval.high >= narrow.reward.interval.high
    assert few.tags[2].reward.interval is None  # of one item


def test_without_a_grade_there_are_no_figures_and_without_prices_no_cost() -> None:
    assert policy_figures(evaluation([make_rollout(score=None)])) is None
    free = policy_figures(evaluation([make_rollout("a"), make_rollout("b")]))
    assert free is not None
    assert "cost_usd" not in free.figures
    hopeless = policy_figures(evaluation([make_rollout(name, score=0.0, cost_usd=0.1) for name in "ab"]))
    assert hopeless is not None
    assert hopeless.figures["cost_per_success_usd"].value is None
