"""The forecast of a probe is that of `agentrl plan`, from the probe's own episodes, with what they leave open."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentrl.evaluation.probe.planned import Plan, plan
from agentrl.sizing import ModelShape, forecast
from agentrl.types import Rollout, StopReason
from benchmarks.probe.worlds import LEARNABLE
from tests.factories import make_rollout

CONFIG = LEARNABLE.config()
SHAPE = ModelShape(vocabulary=100, layers=2, kv_heads=2, head_dim=8)


def planned(rollouts: list[Rollout], **options: Any) -> Plan:
    found = plan(CONFIG, SHAPE, rollouts, **{"seconds": 10.0, "validation": 50, "test": 0, **options})
    assert found is not None
    return found


ALIKE = [make_rollout(f"t{n}", i, tools=["look"] * 2, tokens=30) for n in range(10) for i in range(3)]
UNEVEN = [make_rollout(f"t{n}", i, tools=["look"] * (n % 4), tokens=30) for n in range(10) for i in range(3)]


def test_the_figures_are_those_of_the_arithmetic_of_plan() -> None:
    found = planned(UNEVEN)
    expected = forecast(CONFIG, found.assumptions, SHAPE, validation=50, test=0)
    assert [each.figure for each in found.figures] == list(expected.figures)
    calls = sum(n % 4 for n in range(10)) / 10
    assert found.assumptions.calls_per_episode.value == pytest.approx(calls)
    assert found["tool_calls"].figure.value == pytest.approx(calls * found["episodes"].figure.value)
    assert found.assumptions.sampled_tokens_per_second.value == pytest.approx(30 * 30 / 10)
    assert found.assumptions.prompt_tokens.value == 3


def test_intervals_hold_the_figure_and_are_points_where_episodes_are_alike() -> None:
    for each in planned(UNEVEN).figures:
        assert each.interval.low <= each.figure.value + 1e-9
        assert each.figure.value <= each.interval.high + 1e-9
    assert planned(UNEVEN)["tool_calls"].interval.low < planned(UNEVEN)["tool_calls"].interval.high
    exact = planned(ALIKE)["tool_calls"]
    assert exact.interval.low == pytest.approx(exact.figure.value) == pytest.approx(exact.interval.high)


def test_what_infrastructure_broke_tells_nothing_of_the_run() -> None:
    broken = [replace(each, stop_reason=StopReason.INFRASTRUCTURE) for each in UNEVEN]
    assert plan(CONFIG, SHAPE, broken, seconds=1.0, validation=50, test=0) is None
    both = planned([*ALIKE, *(replace(each, task=replace(each.task, id=f"x{each.task.id}")) for each in broken)])
    assert both.assumptions.calls_per_episode.value == 2


def test_prices_and_speeds_are_those_that_were_given() -> None:
    found = planned(ALIKE, usd_per_hour=4.0, trained_tokens_per_second=100.0)
    assert found["usd_machine"].figure.value == pytest.approx(4 * found["hours"].figure.value)
    assert found.assumptions.trained_tokens_per_second.source == "given"
    assert planned(ALIKE).assumptions.trained_tokens_per_second.source == "a default"
    assert planned(ALIKE)["hours"].figure.value < found["hours"].figure.value
