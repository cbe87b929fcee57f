"""The before/after table: aligned plain text for the terminal, and the rows that report.html shows as well."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.evaluation.compare import compare
from agentrl.evaluation.intervals import RESAMPLES, SEED
from agentrl.evaluation.metrics import EvalReport

HEAD = ("", "baseline", "best", "change", "95 % interval")
NOTE = (
    f"95 % intervals: paired percentile bootstrap over items ({RESAMPLES:,} resamples, seed {SEED});"
    " reward and success rate (pp: percentage points) in absolute terms, the rest in % of the baseline."
)

# metric, label, unit, and the sign of a change for the better
_ROWS = (
    ("reward", "reward", "score", +1),
    ("success_rate", "success rate", "share", +1),
    ("tool_calls", "tool calls", "count", -1),
    ("output_tokens", "output tokens", "tokens", -1),
    ("latency_seconds", "latency, seconds", "count", -1),
    ("same_tool_repeats", "same-tool repeats", "count", -1),
    ("repeats_per_call", "repeats per call", "count", -1),
)


@dataclass(frozen=True)
class Row:
    """One line of the table, formatted."""

    label: str
    baseline: str
    candidate: str
    change: str
    interval: str
    verdict: str
    """better or worse where the interval excludes 0, else empty."""
    is_detail: bool = False
    """Part of the row above it."""


def table_rows(comparison: Mapping[str, Any]) -> list[Row]:
    """Rows of `Comparison.as_dict()`, also after a way through JSON; metrics that it lacks are left out."""
    differences: Mapping[str, Any] = comparison.get("differences") or {}
    rows = []
    for metric, label, unit, good in _ROWS:
        if metric in differences:
            rows.append(table_row(label, differences[metric], unit, good))
        if metric == "tool_calls":
            tools = sorted(name.removeprefix("tool_calls_") for name in differences if name.startswith("tool_calls_"))
            rows += [table_row(tool, differences[f"tool_calls_{tool}"], "count", 0, is_detail=True) for tool in tools]
    return rows


def section_title(split: str, comparison: Mapping[str, Any]) -> str:
    """For example `validation: 100 items x 3 samples`."""
    n_items, samples = comparison.get("n_items", "?"), comparison.get("samples_per_item", "?")
    return f"{split}: {n_items} item{'s' * (n_items != 1)} x {samples} sample{'s' * (samples != 1)}"


def section_notes(comparison: Mapping[str, Any]) -> list[str]:
    """What the figures of the section do not show: quadrants, ungraded rollouts, items without a partner."""
    notes = []
    quadrants, n_items = comparison.get("quadrants"), comparison.get("n_items")
    if quadrants and n_items:
        worse = quadrants.get("worse_more", 0)
        notes.append(
            f"{quadrants.get('better_fewer', 0)} items better with fewer calls,"
            f" {worse} worse with more ({100 * worse / n_items:.1f} %)"
        )
    if comparison.get("ungraded"):
        notes.append(f"{comparison['ungraded']} rollouts ungraded: they have no vote")
    if comparison.get("left_out"):
        notes.append(f"{len(comparison['left_out'])} items left out, graded on one side only")
    return notes


def before_after_table(
    baseline: EvalReport,
    best: EvalReport,
    *,
    test_baseline: EvalReport | None = None,
    test_best: EvalReport | None = None,
) -> str:
    """Validation and, where given, test: baseline against best checkpoint, to print as it is."""
    sections = [("validation", compare(baseline, best).as_dict())]
    if test_baseline is not None and test_best is not None:
        sections.append(("test", compare(test_baseline, test_best).as_dict()))
    return format_sections(sections)


def format_sections(sections: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    """The text of `before_after_table` for (split, `Comparison.as_dict()`) pairs."""
    cells: list[tuple[str, ...]] = [HEAD]
    for _, comparison in sections:
        cells += [_cells(row) for row in table_rows(comparison)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    lines = []
    for split, comparison in sections:
        lines += [_aligned((section_title(split, comparison), *HEAD[1:]), widths), rule]
        lines += [_aligned(_cells(row), widths) for row in table_rows(comparison)]
        lines += [*section_notes(comparison), ""]
    return "\n".join([*lines, *textwrap.wrap(NOTE, 80)])


def format_rows(title: str, heads: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """One table of rows as aligned lines."""
    cells = [(title, *heads), *map(_cells, rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEAD))]
    rule = "-" * (sum(widths) + 2 * (len(widths) - 1))
    return [_aligned(cells[0], widths), rule, *(_aligned(line, widths) for line in cells[1:])]


def _cells(row: Row) -> tuple[str, ...]:
    return ("  " + row.label if row.is_detail else row.label, row.baseline, row.candidate, row.change, row.interval)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    """A first cell that is too wide takes the room of the next ones' padding or its own line."""
    rest = "  ".join(cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    if len(cells[0]) > widths[0]:
        return f"{cells[0]}\n{' ' * widths[0]}  {rest}"
    return f"{cells[0].ljust(widths[0])}  {rest}".rstrip()


def table_row(label: str, difference: Mapping[str, Any], unit: str, good: int, *, is_detail: bool = False) -> Row:
    """Format one difference: scores and shares change in absolute terms, the rest in % of the baseline if that can be.

    Args:
        unit: score, share, count, tokens or usd.
        good: the sign of a change for the better; 0 where there is none.
    """
    interval, relative = difference.get("change_interval"), difference.get("relative_interval")
    is_absolute = unit in ("score", "share") or difference.get("relative") is None or bool(interval and not relative)
    change = difference.get("change") if is_absolute else difference.get("relative")
    interval = interval if is_absolute else relative
    shown = unit if is_absolute else "relative"
    verdict = ""
    if interval and good and not interval[0] <= 0 <= interval[1]:
        verdict = "better" if interval[0] * good > 0 else "worse"
    return Row(
        label=label,
        baseline=format_level(difference.get("baseline"), unit),
        candidate=format_level(difference.get("candidate"), unit),
        change=format_change(change, shown),
        interval=f"[{format_change(interval[0], shown)}, {format_change(interval[1], shown)}]" if interval else "n/a",
        verdict=verdict,
        is_detail=is_detail,
    )


def format_level(value: float | None, unit: str) -> str:
    """For example 0.485, 48.3 %, 98.3, $0.0012."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if unit == "share":
        return f"{100 * value:.1f} %"
    if unit == "usd":
        return f"${value:.4g}"
    return f"{value:.3f}" if unit == "score" else f"{value:.1f}" if unit == "tokens" else f"{value:.2f}"


def format_change(value: float | None, unit: str) -> str:
    """For example +0.213, +21.3 pp, -41.5 %."""
    if value is None or not math.isfinite(value):
        return "n/a"
    if unit in ("share", "relative"):
        return f"{100 * value:+.1f} {'pp' if unit == 'share' else '%'}"
    if unit == "usd":
        return f"{'-' if value < 0 else '+'}${abs(value):.4g}"
    return f"{value:+.3f}" if unit == "score" else f"{value:+.2f}"
