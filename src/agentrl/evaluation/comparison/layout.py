"""In which order the figures of a comparison are shown, what they are called, and their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

from agentrl.evaluation.comparison.figures import Figure
from agentrl.evaluation.comparison.policies import PolicyComparison
from agentrl.evaluation.table import Row, format_change, table_row


class Shown(NamedTuple):
    """One metric; a name that ends with * stands for all that start so, as details of the one above."""

    metric: str
    label: str
    unit: str
    good: int
    """The sign of a change for the better; 0 where there is none."""


GROUPS: Mapping[str, tuple[Shown, ...]] = {
    "Outcome": (
        Shown("reward", "reward", "score", +1),
        Shown("score_part_*", "", "score", 0),
        Shown("success_rate", "success rate", "share", +1),
        Shown("pass_at_k", "pass@", "share", +1),
        Shown("pass_hat_k", "pass^", "share", +1),
        Shown("holdout_score_of_*", "hold-out ", "score", +1),
    ),
    "Effort": (
        Shown("tool_calls", "tool calls", "count", -1),
        Shown("tool_calls_*", "", "count", 0),
        Shown("turns", "turns", "count", 0),
        Shown("output_tokens", "output tokens", "tokens", -1),
        Shown("reasoning_tokens", "reasoning tokens", "tokens", -1),
        Shown("output_tokens_per_success", "output tokens per success", "tokens", -1),
    ),
    "Time and cost": (
        Shown("latency_seconds", "latency, seconds", "count", -1),
        Shown("latency_p50_seconds", "latency p50, seconds", "count", -1),
        Shown("latency_p95_seconds", "latency p95, seconds", "count", -1),
        Shown("cost_usd", "cost", "usd", -1),
        Shown("cost_per_success_usd", "cost per success", "usd", -1),
    ),
    "Conduct": (
        Shown("same_tool_repeats", "same-tool repeats", "count", -1),
        Shown("repeats_per_call", "repeats per call", "count", -1),
        Shown("repeated_calls", "identical calls again", "count", -1),
        Shown("repeated_calls_fraction", "episodes with such a call", "share", -1),
        Shown("loop_fraction", "episodes with a loop", "share", -1),
        Shown("longest_loop", "longest loop, calls", "count", -1),
        Shown("tool_errors", "tool errors", "count", -1),
        Shown("malformed_calls", "malformed calls", "count", -1),
        Shown("repeated_ngram_fraction", "repeated text, 4-grams", "share", -1),
    ),
    "How episodes ended": (
        Shown("stopped_by_*", "", "share", 0),
        Shown("infra_failed_fraction", "without a vote", "share", 0),
        Shown("infra_failed_*", "lost to ", "share", 0),
    ),
}
BRIEF = (
    "reward",
    "success_rate",
    "holdout_score_of_*",
    "tool_calls",
    "tool_calls_*",
    "output_tokens",
    "reasoning_tokens",
    "latency_seconds",
    "latency_p95_seconds",
    "cost_per_success_usd",
    "same_tool_repeats",
    "repeats_per_call",
    "loop_fraction",
)
"""What a summary shows."""


class Line(NamedTuple):
    """A figure and its row."""

    row: Row
    figure: Figure
    unit: str


def lines(comparison: PolicyComparison) -> dict[str, list[Line]]:
    """Every figure, by group."""
    return {
        group: [line for each in shown for line in _of(comparison, each) if not _is_unused(each, line)]
        for group, shown in GROUPS.items()
    }


def brief(comparison: PolicyComparison) -> list[Row]:
    """The rows of a summary."""
    every = [each for shown in GROUPS.values() for each in shown]
    return [
        line.row
        for each in every
        if each.metric in BRIEF
        for line in _of(comparison, each)
        if not _is_unused(each, line)
    ]


def _is_unused(shown: Shown, line: Line) -> bool:
    """Policies that do not think have no thoughts to count."""
    return shown.metric == "reasoning_tokens" and not line.figure.baseline and not line.figure.candidate


def _of(comparison: PolicyComparison, shown: Shown) -> list[Line]:
    differences = comparison.differences
    if shown.metric in comparison.pass_at_k:
        by_k = comparison.pass_at_k[shown.metric]
        return [_line(f"{shown.label}{k}", figure, shown, is_detail=True) for k, figure in by_k.items() if k > 1]
    if not shown.metric.endswith("*"):
        found = differences.get(shown.metric)
        return [] if found is None else [_line(shown.label, found, shown)]
    prefix = shown.metric.removesuffix("*")
    others = {each.metric for group in GROUPS.values() for each in group}
    is_detail = shown.good == 0 and prefix != "stopped_by_"
    return [
        _line(f"{shown.label}{name.removeprefix(prefix)}", figure, shown, is_detail=is_detail)
        for name, figure in sorted(differences.items())
        if name.startswith(prefix) and name not in others
    ]


def _line(label: str, figure: Figure, shown: Shown, *, is_detail: bool = False) -> Line:
    return Line(table_row(label, asdict(figure), shown.unit, shown.good, is_detail=is_detail), figure, shown.unit)


def verdict(comparison: PolicyComparison) -> tuple[str, str]:
    """better, worse or empty; and the sentence that says it."""
    reward, calls = comparison.differences["reward"], comparison.differences["tool_calls"]
    row = table_row("reward", asdict(reward), "score", +1)
    went = {"better": "rose", "worse": "fell"}.get(row.verdict, "shows no clear change:")
    sentence = f"Reward {went} from {row.baseline} to {row.candidate} ({row.change}"
    sentence += f", 95 % interval {row.interval})" if row.interval != "n/a" else ", one item, so no interval)"
    of_calls = table_row("calls", asdict(calls), "count", -1)
    sentence += f"; tool calls from {of_calls.baseline} to {of_calls.candidate}"
    if calls.relative is not None:
        sentence += f" ({format_change(calls.relative, 'relative')})"
    return row.verdict, f"{sentence}, on {comparison.n_items} item{'s' * (comparison.n_items != 1)}."


def p_value(value: float) -> str:
    """0.032, or that it is below 0.001."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
