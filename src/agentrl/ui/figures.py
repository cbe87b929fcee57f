"""What a plot shows of one run or of several: the numbers, once, for the drawing and for the CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from agentrl.evaluation.charts import Points, Series
from agentrl.evaluation.outcome import finite
from agentrl.ui.plots import Plot, expanded, plot_of

Row = Mapping[str, Any]
STEP, MINUTES = "step", "minutes"
"""What the x axis may be. Minutes are those of rollouts, updates and evaluations so far, pauses between processes of a
run left out."""


@dataclass(frozen=True)
class Figure:
    """Curves, or layers, on common axes."""

    name: str
    title: str
    series: tuple[Series, ...]
    columns: tuple[str, ...]
    """[series] their headings in the CSV."""
    x: str = STEP
    y_range: tuple[float, float] | None = None
    is_stack: bool = False
    rule: str = ""


class Curves:
    """The metrics of one run by key.

    Args:
        rows: of metrics.jsonl; rows of one step are laid over each other, later ones on top.
        baseline: of step 0.
    """

    def __init__(self, rows: Sequence[Row], baseline: Row | None = None) -> None:
        by_step: dict[float, dict[str, Any]] = {}
        for row in ([{**baseline, "step": 0}] if baseline else []) + list(rows):
            if (step := finite(row.get("step"))) is not None:
                by_step.setdefault(step, {}).update(row)
        self.rows = [by_step[step] for step in sorted(by_step)]
        """By step."""
        self._points: dict[str, list[tuple[float, float]]] = {}
        for row in self.rows:
            for key, value in row.items():
                if (number := finite(value)) is not None:
                    self._points.setdefault(key, []).append((row["step"], number))
        self.keys = [key for key in self._points if key != "step"]
        """With a finite value at least once."""
        seconds = (self._seconds(row) for row in self.rows)
        self._minutes = dict(
            zip((row["step"] for row in self.rows), (total / 60 for total in accumulate(seconds)), strict=True)
        )

    @staticmethod
    def _seconds(row: Row) -> float:
        parts = (finite(row.get(f"seconds_{part}")) or 0.0 for part in ("rollout", "update", "evaluation"))
        return sum(parts) - (finite(row.get("seconds_overlapped")) or 0.0)

    def points(self, key: str, x: str = STEP) -> Points:
        """(x, value) of the finite values."""
        found = self._points.get(key, [])
        return found if x == STEP else [(self._minutes[step], value) for step, value in found]

    def series(self, label: str, key: str, x: str = STEP) -> Series:
        """The line of a key with its interval, where it has one."""
        lows, highs = dict(self.points(f"{key}_low", x)), dict(self.points(f"{key}_high", x))
        band = [(place, low, highs[place]) for place, low in lows.items() if place in highs]
        return Series(label, self.points(key, x), band)


def run_figure(plot: Plot, curves: Curves) -> Figure:
    """A plot of one run."""
    lines = expanded(plot, curves.keys)
    series = tuple(curves.series(line.label, line.key) for line in lines)
    keys = tuple(line.key for line in lines)
    return Figure(plot.name, plot.title, series, keys, STEP, plot.y_range, plot.is_stack, plot.rule)


def compared_figure(key: str, runs: Mapping[str, Curves], x: str = STEP) -> Figure:
    """One metric of several runs; a run without it keeps its place, so that every run has one colour everywhere."""
    plot = plot_of(key)
    series = tuple(curves.series(name, key, x) for name, curves in runs.items())
    return Figure(key, plot.title, series, tuple(runs), x, plot.y_range)
