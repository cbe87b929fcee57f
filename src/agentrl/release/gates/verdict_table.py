"""Verdicts for a terminal: one line of numbers a gate, and the reason below it."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence

from agentrl.config.release import GateConfig
from agentrl.printable import printable
from agentrl.release.gates.words import shown_change, shown_interval
from agentrl.release.records import Verdict

HEAD = ("", "gate", "estimate", "interval", "margin", "n")


def verdict_table(verdicts: Sequence[Verdict], gates: Mapping[str, GateConfig], *, width: int) -> str:
    """Aligned, within so many columns as far as names allow.

    Args:
        gates: rows by the name of their gate, for units.
    """
    rows = [_cells(each, gates.get(each.gate.partition(" on ")[0])) for each in verdicts]
    sizes = [max(len(row[column]) for row in (HEAD, *rows)) for column in range(len(HEAD))]
    lines = [_line(HEAD, sizes)]
    for verdict, row in zip(verdicts, rows, strict=True):
        lines.append(_line(row, sizes))
        indent = " " * (sizes[0] + 2)
        lines += textwrap.wrap(printable(verdict.reason), width, initial_indent=indent, subsequent_indent=indent)
    return "\n".join(lines)


def _line(cells: Sequence[str], sizes: Sequence[int]) -> str:
    left = [f"{cell:<{size}}" for cell, size in zip(cells[:2], sizes[:2], strict=True)]
    right = [f"{cell:>{size}}" for cell, size in zip(cells[2:], sizes[2:], strict=True)]
    return "  ".join([*left, *right]).rstrip()


def _cells(verdict: Verdict, gate: GateConfig | None) -> tuple[str, ...]:
    def told(value: float | None) -> str:
        if gate is None:
            return "-" if value is None else f"{value:+.3g}"
        return shown_change(gate.metric, gate.statistic, verdict.scale, value)

    if gate is None:
        bounds = "-" if verdict.lower is None else f"[{told(verdict.lower)}, {told(verdict.upper)}]"
    else:
        bounds = shown_interval(gate.metric, gate.statistic, verdict.scale, verdict.lower, verdict.upper)
    n = f"{verdict.n_candidate}" if not verdict.n_baseline else f"{verdict.n_candidate} / {verdict.n_baseline}"
    outcome = "shown" if verdict.is_shown_only else str(verdict.verdict)
    return outcome, printable(verdict.gate), told(verdict.estimate), bounds, told(verdict.margin), n
