"""The verdict is right on tasks whose answer is known, says why, and is withheld where nobody can know."""

from __future__ import annotations

import random
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentrl.errors import ConfigError
from agentrl.evaluation.intervals import Interval
from agentrl.evaluation.probe.best_of import best_of, estimate
from agentrl.evaluation.probe.collect import ProbeOptions, choose
from agentrl.evaluation.probe.groups import groups
from agentrl.evaluation.probe.leaks import Leak, ToolLeaks
from agentrl.evaluation.probe.measure import Probed, measure
from agentrl.evaluation.probe.power import smallest_effect
from agentrl.evaluation.probe.repeatability import repeatability
from agentrl.evaluation.probe.twins import Twins
from agentrl.evaluation.probe.verdict import Evidence, exit_code, judge
from agentrl.types import Rollout, StopReason
from benchmarks.probe.truths import Draw, Truth, evenly, same, some, verdict_of
from benchmarks.probe.worlds import LEARNABLE, WORLDS, World, probed
from tests.factories import make_rollout

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_the_verdict_is_right_on_a_task_whose_answer_is_known(world: World) -> None:
    report = probed(world, 1)
    assert report.verdict == world.verdict
    assert world.code in {reason.code for reason in report.reasons}
    assert report.conduct.rollouts == 300
    assert report.conduct.calls_per_episode == 1
    assert report.conduct.tool_errors == 0
    assert report.conduct.tool_error_interval is not None
    assert 0.01 < report.conduct.tool_error_interval.high < 0.06  # none was seen, which is not that there are none


@pytest.mark.parametrize(
    ("truth", "verdict", "code"),
    [
        (Truth("", evenly(0.1, 0.9)), "trainable", ""),
        (Truth("", same(0.0)), "not", "everything_fails"),
        (Truth("", same(1.0)), "not", "saturated"),
        (Truth("", lambda _, n: (np.arange(n) % 2).astype(float)), "not", "nothing_varies"),
        (Truth("", same(0.97)), "weak", "nearly_saturated"),
        (Truth("", some(0.08, 0.5)), "weak", "few_items_vary"),
        (Truth("", same(0.0), n_items=20), "unmeasured", "too_few_items"),
        (Truth("", evenly(0.1, 0.9), noise=0.6), "not", "ambiguous_grader"),
        (Truth("", evenly(0.1, 0.9), noise=0.237), "weak", "noisy_grader"),
        (Truth("", evenly(0.1, 0.9), noise=0.1), "trainable", "grader_flaps"),
    ],
)
def test_each_rule_fires_at_its_truth(truth: Truth, verdict: str, code: str) -> None:
    found, codes = verdict_of(truth.items(0))
    assert found == verdict
    assert not code or code in codes


@pytest.mark.parametrize("seed", range(4))
def test_a_rule_is_hardly_ever_wrong_far_from_its_threshold(seed: int) -> None:
    truths: list[tuple[Draw, str]] = [(evenly(0.1, 0.9), "trainable"), (same(0.002), "not"), (same(0.3), "trainable")]
    found = [verdict_of(Truth("", rates).items(seed))[0] for rates, _ in truths]
    assert found[0] == found[2] == "trainable"
    assert found[1] in ("not", "weak")  # of 300 answers, one was right: that is not nothing


@cache
def plain_evidence() -> Evidence:
    items = Truth("", evenly(0.1, 0.9)).items(0)
    return Evidence(
        rollouts=300,
        lost=0,
        max_lost=0.1,
        first_loss="",
        mean=estimate([item.mean for item in items]),
        best_of=best_of(items),
        groups=groups(items),
        samples=3,
        repeatability=repeatability(items, 0.75),
        unrepeated="",
        split_gap=Interval(-0.05, 0.05),
        effect=smallest_effect(items, n_items=100, samples=3),
        tools=ToolLeaks(8, 32, (), (), {}),
        twins=Twins((), 100),
        first_output=None,
    )


def evidence(**changes: Any) -> Evidence:
    return replace(plain_evidence(), **changes)


LEAK = ToolLeaks(8, 32, (), (Leak("look", "t1", "answer", is_strong=True, is_read=True),), {})


@pytest.mark.parametrize(
    ("changes", "verdict", "code"),
    [
        ({}, "trainable", "learnable"),
        ({"lost": 31, "first_loss": "tool search: answered 503"}, "unmeasured", "infrastructure"),
        ({"lost": 30}, "trainable", "infrastructure_losses"),
        ({"lost": 5}, "trainable", "learnable"),
        ({"mean": None, "best_of": None}, "unmeasured", "infrastructure"),
        ({"best_of": None}, "unmeasured", "too_few_items"),
        ({"tools": LEAK}, "not", "leaking_tool"),
        ({"tools": LEAK, "lost": 200}, "not", "leaking_tool"),
        ({"tools": replace(LEAK, leaks=(replace(LEAK.leaks[0], is_read=False),))}, "weak", "answer_unasked"),
        (
            {"tools": replace(LEAK, leaks=(replace(LEAK.leaks[0], is_read=False, is_strong=False),))},
            "trainable",
            "learnable",
        ),
        ({"tools": ToolLeaks(8, 9, (), (), {"look": ("answer",)})}, "trainable", "answer_sent"),
        ({"tools": None, "twins": None, "effect": None, "split_gap": None}, "trainable", "learnable"),
        ({"twins": Twins((("v1", "t1"), ("v2", "t2")), 100)}, "weak", "similar_splits"),
        ({"twins": Twins((("v1", "t1"),), 100)}, "trainable", "similar_splits"),
        ({"split_gap": Interval(0.11, 0.3)}, "weak", "splits_differ"),
        ({"split_gap": Interval(-0.3, -0.11)}, "weak", "splits_differ"),
        ({"split_gap": Interval(0.05, 0.3)}, "trainable", "learnable"),
        ({"repeatability": None, "unrepeated": "--grades 1"}, "trainable", "grader_not_repeated"),
        ({"first_output": estimate([1.0] * 50)}, "trainable", "answer_at_once"),
    ],
)
def test_what_else_bears_on_the_verdict(changes: dict[str, Any], verdict: str, code: str) -> None:
    found, reasons = judge(evidence(**changes))
    assert (found, code in {reason.code for reason in reasons}) == (verdict, True)
    weights = [reason.weight for reason in reasons]
    assert weights == sorted(weights, key=("trainable", "not", "unmeasured", "weak", "note").index)
    assert found == weights[0]


def test_a_validation_set_that_can_show_nothing_makes_it_weak() -> None:
    small = smallest_effect(Truth("", evenly(0.1, 0.9)).items(0), n_items=8, samples=1)
    found, reasons = judge(evidence(effect=small))
    assert (found, reasons[0].code) == ("weak", "validation_too_small")
    assert "8 validation items x 1 show no gain below" in reasons[0].text


def test_exit_codes_are_those_of_gates() -> None:
    assert [exit_code(each) for each in ("trainable", "weak", "not", "unmeasured")] == [0, 0, 3, 4]


def rollouts() -> list[Rollout]:
    draw = random.Random(3)
    found = [make_rollout(f"t{n}", i, float(draw.random() < 0.5)) for n in range(30) for i in range(3)]
    return [replace(each, grade=replace(each.grade, seconds=0.01)) for each in found]


def probe_of(found: list[Rollout], **changes: Any) -> Probed:
    options: dict[str, Any] = {
        "name": "n", "policy": "p", "splits": {"train": found}, "samples": 3, "min_score": 0.0, "max_score": 1.0,
        "pass_threshold": 0.75, "max_lost": 0.1, "planned_samples": 4, "validation_items": 30, "validation_samples": 3,
    }  # fmt: skip
    return Probed(**(options | changes))


def test_the_same_rollouts_in_any_order_give_the_same_report() -> None:
    found = rollouts()
    first = measure(probe_of(found)).as_dict()
    random.Random(1).shuffle(found)
    assert measure(probe_of(found)).as_dict() == first


def test_what_has_no_score_is_missing_and_never_zero() -> None:
    found = rollouts()
    whole = measure(probe_of(found))
    lost = [
        replace(each, stop_reason=StopReason.INFRASTRUCTURE, error="ToolError: down")
        if each.sample_index == 2
        else each
        for each in found[:24]
    ] + found[24:]
    seen = measure(probe_of(lost))
    assert seen.conduct.lost == 8
    assert seen.conduct.failure_classes == {"grader": 8}
    assert seen.groups.n_items == 22  # the others lack a sample
    assert whole.mean is not None
    assert seen.mean is not None
    assert seen.mean.value == pytest.approx(sum(item.mean for item in seen.items) / 30)
    assert all(len(item.grades) == 2 for item in seen.items if item.task_id in {each.task.id for each in lost[:24]})
    nothing = measure(probe_of([replace(each, stop_reason=StopReason.INFRASTRUCTURE) for each in found]))
    assert (nothing.verdict, nothing.mean, nothing.shares, nothing.advice) == ("unmeasured", None, {}, None)


@pytest.mark.parametrize(
    "options", [{"samples": 1}, {"grades": 0}, {"items": -1}, {"train_items": -1}, {"items": 0, "train_items": 0}]
)
def test_a_probe_of_too_little_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))}.*: found .*; allowed: at least"):
        ProbeOptions(**options)


def test_items_are_drawn_by_the_seed_from_what_the_run_would_use() -> None:
    splits = LEARNABLE.splits(0)
    options = ProbeOptions(items=5, train_items=80)
    found = choose(splits, options, 10, seed=1)
    assert found["train"] == splits.train  # there are 60
    assert len(found["validation"]) == 5
    assert all(task in splits.validation[:10] for task in found["validation"])
    assert found == choose(splits, options, 10, seed=1)
    assert found != choose(splits, options, 10, seed=2)


def test_the_page_about_probes_names_every_reason() -> None:
    text = (ROOT / "docs/probe.md").read_text("utf-8")
    codes = re.findall(r'Reason\(\s*"(\w+)"', (ROOT / "src/agentrl/evaluation/probe/verdict.py").read_text("utf-8"))
    assert len(set(codes)) > 15
    assert [code for code in codes if f"`{code}`" not in text] == []
