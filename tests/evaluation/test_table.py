from __future__ import annotations

import json

from agentrl.evaluation import EvalReport, before_after_table, compare, evaluate_rollouts
from agentrl.evaluation.table import table_rows
from agentrl.runs.files import to_json
from tests.factories import make_rollout


def report(score: float, tools: tuple[str, ...], items: int = 20) -> EvalReport:
    return evaluate_rollouts(
        [make_rollout(f"t{item}", 0, score if item % 4 else 0.0, tools, 20) for item in range(items)],
        pass_threshold=0.75,
    )


BEFORE = report(0.5, ("search", "search", "cat", "list"))
AFTER = report(1.0, ("search", "cat"))


def test_the_table_shows_both_splits_with_change_and_interval() -> None:
    text = before_after_table(BEFORE, AFTER, test_baseline=BEFORE, test_best=AFTER)
    assert "validation: 20 items x 1 sample\n" in text
    assert "test: 20 items x 1 sample\n" in text
    line = next(line for line in text.splitlines() if line.startswith("tool calls"))
    assert line.split() == ["tool", "calls", "4.00", "2.00", "-50.0", "%", "[-50.0", "%,", "-50.0", "%]"]
    assert "paired percentile bootstrap" in text
    assert "0 worse with more (0.0 %)" in text


def test_columns_are_aligned_and_lines_fit_a_terminal() -> None:
    lines = before_after_table(BEFORE, AFTER).splitlines()
    rows = [line for line in lines if line.startswith(("reward  ", "tool calls", "  search", "output tokens"))]
    assert len({len(line) for line in rows}) == 1
    assert max(len(line) for line in lines) <= 80


def test_a_tool_that_is_no_longer_called_has_a_row() -> None:
    rows = {row.label: row for row in table_rows(compare(BEFORE, AFTER).as_dict())}
    assert (rows["list"].baseline, rows["list"].candidate, rows["list"].change) == ("1.00", "0.00", "-100.0 %")
    assert rows["list"].is_detail


def test_a_verdict_needs_an_interval_without_zero() -> None:
    rows = {row.label: row.verdict for row in table_rows(compare(BEFORE, AFTER).as_dict())}
    assert (rows["reward"], rows["tool calls"], rows["output tokens"]) == ("better", "better", "")
    rows = {row.label: row.verdict for row in table_rows(compare(AFTER, BEFORE).as_dict())}
    assert (rows["reward"], rows["tool calls"]) == ("worse", "worse")


def test_rows_are_the_same_after_a_way_through_json() -> None:
    comparison = compare(BEFORE, AFTER).as_dict()
    assert table_rows(json.loads(to_json(comparison))) == table_rows(comparison)


def test_missing_figures_are_marked_and_never_fail() -> None:
    nothing = evaluate_rollouts([], pass_threshold=0.75)
    text = before_after_table(nothing, nothing)
    assert next(line for line in text.splitlines() if line.startswith("reward ")).split() == ["reward", *["n/a"] * 4]
    one = report(1.0, ("cat",), items=1)
    assert "n/a" in before_after_table(one, one)


def test_ungraded_rollouts_are_mentioned() -> None:
    some = evaluate_rollouts([make_rollout("a"), make_rollout("b", score=None)], pass_threshold=0.75)
    full = evaluate_rollouts([make_rollout("a"), make_rollout("b")], pass_threshold=0.75)
    text = before_after_table(some, full)
    assert "1 rollouts ungraded" in text
    assert "1 items left out" in text
