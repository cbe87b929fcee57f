"""The comparisons with trl measure what they say; how fast anything is decides no test."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.curves import Point, plot, seconds_to
from benchmarks.step import Spent, measure, parse

CURVE = [Point(0, 0.0, 0.5), Point(128, 10.0, 0.54), Point(256, 20.0, 0.52), Point(384, 30.0, 0.62)]


def test_a_curve_reaches_a_reward_between_two_points() -> None:
    assert seconds_to(CURVE, 0.57) == pytest.approx(25.0)
    assert seconds_to(CURVE, 0.54) == pytest.approx(10.0)
    assert seconds_to(CURVE, 0.63) is None


def test_the_plot_shows_both_curves_over_minutes() -> None:
    drawing = ElementTree.fromstring(plot({"agentrl": CURVE, "trl 128:2e-4": CURVE[:2]}, 0.6))
    names = {each.text for each in drawing.iter() if each.tag.endswith("text")}
    assert {"agentrl", "trl 128:2e-4", "minutes of training", "validation reward"} <= names
    assert sum(each.tag.endswith("circle") for each in drawing.iter()) == len(CURVE) + 2


def test_time_is_counted_once_and_from_the_last_look_on() -> None:
    spent = Spent()
    work = spent.of(lambda: time.sleep(0.001))
    work()
    assert spent.taken() >= 0.001
    assert spent.taken() == 0


@pytest.mark.slow
def test_both_systems_take_whole_steps_in_turn(tmp_path: Path) -> None:
    options = parse(["--quick", "--repeats", "1", "--model-dir", str(tmp_path), "--tool-seconds", "0.001"])
    results = measure(options)
    steps = results["steps"]
    assert len(steps["agentrl"]) == len(steps["trl"]) == 2
    for step in (*steps["agentrl"], *steps["trl"]):
        parts = step["rollout"] + step["reference"] + step["loss_and_backward"]
        assert step["seconds"] == pytest.approx(parts)
        assert min(step.values()) >= 0
        assert step["sampled_tokens"] > 0
    assert results["step_vs_trl"] > 0
