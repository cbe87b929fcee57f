"""compare.json against the raw rollouts: every number, recomputed by code that shares nothing with ours."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from math import comb
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agentrl.errors import ConfigError
from agentrl.evaluation.comparison import compare
from agentrl.evaluation.evaluation_files import Evaluation, write_evaluation
from agentrl.types import FailureClass, Grade, Rollout, StopReason
from tests.evaluation import recompute
from tests.evaluation.recompute import Recomputed
from tests.factories import make_rollout

TOOLS = ("search", "cat", "list")
THRESHOLD = 0.75
LOST = (FailureClass.TOOL, FailureClass.ENGINE, FailureClass.GRADER)


def episode(side: str, task: int, sample: int, facts: dict[str, Any]) -> Rollout:
    """One rollout; `tools` may name one that there is not."""
    rollout = make_rollout(f"t{task}", sample, facts["score"], facts["tools"], len(facts["tools"]) * 5 + 7)
    if facts["score"] is None and facts["lost"] is not FailureClass.GRADER:
        rollout = replace(rollout, stop_reason=StopReason.INFRASTRUCTURE, broken_by=facts["lost"])
    elif facts["score"] is not None:
        grade = Grade(facts["score"], holdout=facts["holdout"], sub_scores={"style": facts["score"] / 2})
        rollout = replace(rollout, grade=grade, stop_reason=facts["stop"])
    turns = tuple(
        replace(
            turn,
            tool_calls=tuple(replace(call, arguments=facts["arguments"]) for call in turn.tool_calls),
            reasoning_tokens=facts["thoughts"],
            **({"token_ids": (), "engine_logprobs": (), "unseen_tokens": 7} if facts["is_api"] else {}),
        )
        for turn in rollout.turns
    )
    item = {"tags": [["hard", "easy"][task % 2]]} if task % 3 else {}
    return replace(
        rollout,
        id=f"trace_{side}-{task}-{sample}",
        task=replace(rollout.task, item=item),
        turns=turns,
        seconds=facts["seconds"],
        cost_usd=facts["cost"],
    )


FACTS = st.fixed_dictionaries(
    {
        "score": st.sampled_from([None, 0.0, 0.5, 1.0, 1.0]),
        "tools": st.lists(st.sampled_from([*TOOLS, "made_up"]), max_size=9),
        "lost": st.sampled_from(LOST),
        "stop": st.sampled_from([StopReason.FINAL, StopReason.TOOL_BUDGET, StopReason.TIME_LIMIT]),
        "holdout": st.sampled_from([{}, {"gold": 0.25}, {"gold": 1.0}]),
        "arguments": st.sampled_from(['{"a": 1, "b": 2}', '{"b": 2, "a": 1}', '{"a": 3}']),
        "seconds": st.sampled_from([0.5, 1.25, 3.0, 8.0]),
        "cost": st.sampled_from([0.0, 0.001, 0.25]),
        "thoughts": st.integers(0, 2),
        "is_api": st.booleans(),
    }
)
SIDE = st.dictionaries(st.integers(0, 9), st.lists(FACTS, min_size=1, max_size=3), min_size=2, max_size=10)


def evaluation(side: str, items: dict[int, list[dict[str, Any]]]) -> Evaluation:
    rollouts = tuple(episode(side, task, n, each) for task, samples in items.items() for n, each in enumerate(samples))
    return Evaluation(side, {"kind": "baseline"}, {}, THRESHOLD, TOOLS, rollouts)


def agree(ours: Any, theirs: Any, where: str) -> None:
    if theirs is None or ours is None:
        assert ours is None, where
        assert theirs is None, where
    else:
        assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9), where


def agree_figure(ours: dict[str, Any], theirs: dict[str, Any], where: str) -> None:
    keys = theirs.keys() - {"first_draws"}
    assert {"baseline", "candidate"} <= keys
    for key in keys:
        agree(ours[key], theirs[key], f"{where}.{key}")
    for key in ("change_interval", "relative_interval", "baseline_interval", "candidate_interval"):
        if key not in keys and "first_draws" not in theirs:
            assert ours[key] is None, f"{where}.{key}"


def check(folder: Path, first: Evaluation, second: Evaluation) -> dict[str, Any]:
    """Write, compare, and hold every number against the files of rollouts."""
    write_evaluation(folder / "a.json", first)
    write_evaluation(folder / "b.json", second)
    compare(folder / "a.json", folder / "b.json").write(folder)
    ours: dict[str, Any] = json.loads((folder / "compare.json").read_text())
    theirs = Recomputed(folder / "a.rollouts.jsonl.gz", folder / "b.rollouts.jsonl.gz", THRESHOLD, set(TOOLS))

    assert [item["task_id"] for item in ours["items"]] == theirs.shared
    assert ours["n_items"] == len(theirs.shared) == sum(ours["quadrants"].values())
    assert {name: n for name, n in ours["quadrants"].items() if n} == dict(theirs.quadrants())
    everything = theirs.all[0].keys() | theirs.all[1].keys()
    assert ours["left_out"].keys() == everything - set(theirs.shared)

    figures = theirs.figures()
    assert ours["differences"].keys() == figures.keys()
    for name, figure in figures.items():
        agree_figure(ours["differences"][name], figure, name)
    for name, by_k in theirs.pass_k().items():
        assert ours[name].keys() == by_k.keys()
        for k, figure in by_k.items():
            agree_figure(ours[name][k], figure, f"{name} {k}")
    for kind, rows in theirs.patterns().items():
        found = {tuple(row["tools"]): row for row in ours["patterns"][kind]["rows"]}
        assert found.keys() == rows.keys(), kind
        assert ours["patterns"][kind]["looks"] == len(rows)
        for tools, row in rows.items():
            agree_figure(found[tools]["per_episode"], row["figure"], f"{kind} {tools}")
            agree([*found[tools]["counts"]], row["counts"], f"{kind} {tools}")
            agree([found[tools]["p_value"], found[tools]["p_holm"]], [row["p"], row["holm"]], f"{kind} {tools} p")
    tags = {row["tag"]: row for row in ours["tags"]["rows"]}
    assert tags.keys() == theirs.tags().keys()
    for tag, row in theirs.tags().items():
        agree_figure(tags[tag]["reward"], row["figure"], tag)
        agree([tags[tag]["p_value"], tags[tag]["p_holm"]], [row["p"], row["holm"]], f"{tag} p")
    for side, name in enumerate("ab"):
        for key, value in recompute.losses(theirs, side).items():
            agree(ours["losses"][name][key], value, f"losses.{name}.{key}")
    _check_tests(ours, theirs)
    return ours


def _check_tests(ours: dict[str, Any], theirs: Recomputed) -> None:
    """Wins and McNemar's test, and the quantiles' resamples."""
    quadrants = theirs.quadrants()
    win, tie, loss = (
        sum(n for name, n in quadrants.items() if name.startswith(w)) for w in ("better", "equal", "worse")
    )
    assert (ours["wins"]["win"], ours["wins"]["tie"], ours["wins"]["loss"]) == (win, tie, loss)
    agree(ours["wins"]["p_value"], coin(win, loss), "wins")
    success = theirs.pairs(theirs.success)
    is_single = all(len(side[task]) == 1 for side in theirs.valid for task in theirs.shared)
    gained, lost = (int(((success == pair).all(axis=1)).sum()) for pair in ((0.0, 1.0), (1.0, 0.0)))
    assert (ours["mcnemar"]["gained"], ours["mcnemar"]["lost"]) == (gained, lost)
    agree(ours["mcnemar"]["p_value"], coin(gained, lost) if is_single else None, "mcnemar")


def coin(some: int, others: int) -> float:
    n = some + others
    return min(1.0, sum(comb(n, k) for k in range(n + 1) if comb(n, k) <= comb(n, some)) / 2**n)


@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # a smaller example would take minutes to find
)
@given(first=SIDE, second=SIDE)
def test_every_number_is_that_of_the_rollouts(
    first: dict[int, list[dict[str, Any]]], second: dict[int, list[dict[str, Any]]], tmp_path_factory: Any
) -> None:
    a, b = evaluation("a", first), evaluation("b", second)
    graded = [{each.task.id for each in side.rollouts if each.is_valid} for side in (a, b)]
    if graded[0] & graded[1]:
        check(tmp_path_factory.mktemp("pair"), a, b)
    else:
        with pytest.raises(ConfigError, match=r"no item in common|has a grade"):
            compare(a, b)


def toy(side: str, *, gain: float, samples: int, seed: int) -> Evaluation:
    """Thirty items of all difficulties, some rollouts lost, one item missing, one tool made up."""
    random = Random(seed)
    items: dict[int, list[dict[str, Any]]] = {}
    for task in range(30 if side == "a" else 29):
        difficulty = Random(task).random()
        items[task] = [
            {
                "score": None if random.random() < 0.08 else float(random.random() < difficulty + gain),
                "tools": [random.choice([*TOOLS, "made_up"]) for _ in range(random.randint(0, 8 - int(9 * gain)))],
                "lost": random.choice(LOST),
                "stop": StopReason.TIME_LIMIT if task == 7 and sample == 0 else StopReason.FINAL,
                "holdout": {"gold": random.random()},
                "arguments": json.dumps({"q": random.randint(0, 1)}),
                "seconds": random.expovariate(0.2),
                "cost": random.random() / 100,
                "thoughts": random.randint(0, 3),
                "is_api": side == "b",
            }
            for sample in range(samples)
        ]
    return evaluation(side, items)


@pytest.mark.parametrize("samples", [1, 3])
def test_every_number_of_a_larger_pair(samples: int, tmp_path: Path) -> None:
    ours = check(tmp_path, toy("a", gain=0.0, samples=samples, seed=1), toy("b", gain=0.3, samples=samples, seed=2))
    assert ours["differences"]["reward"]["change_interval"][0] > 0
    assert ours["patterns"]["tool_2grams"]["looks"] >= 10
    assert "tool_calls_unknown" in ours["differences"]
    assert "made_up" not in json.dumps(ours)
    assert (ours["mcnemar"]["p_value"] is None) == (samples > 1)
    quantile = Recomputed(tmp_path / "a.rollouts.jsonl.gz", tmp_path / "b.rollouts.jsonl.gz", THRESHOLD, set(TOOLS))
    drawn = quantile.quantile(95)["first_draws"]
    low, high = ours["differences"]["latency_p95_seconds"]["baseline_interval"]
    inside = ((drawn[:, 0] >= low) & (drawn[:, 0] <= high)).mean()
    assert 0.88 <= inside <= 1  # the interval is of 10,000 such draws


def test_the_other_computation_is_another_one() -> None:
    tree = ast.parse(Path(recompute.__file__).read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) if node.module}
    assert not {name for name in modules if name.startswith(("agentrl", "tests"))}
