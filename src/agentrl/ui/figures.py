"""What a plot shows of one run or of several: the numbers, once, for the drawing and for the CSV."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from agentrl.runs.files import finite
from agentrl.ui.plots import Plot, expanded, plot_of

Row = Mapping[str, Any]
Numbers = npt.NDArray[np.float64]
STEP, MINUTES = "step", "minutes"
"""What the x axis may be. Minutes are those of rollouts, updates and evaluations so far, pauses between processes of a
run left out."""
MAX_KEPT_RUNS = 64


@dataclass(frozen=True, eq=False)
class Curve:
    """One line, or one layer of a stack; [N] places where there is a finite value."""

    label: str
    x: Numbers
    """In order."""
    y: Numbers
    band: tuple[Numbers, Numbers, Numbers]
    """x, low and high of the interval, where there is one."""


@dataclass(frozen=True)
class Figure:
    """Curves, or layers, on common axes."""

    name: str
    title: str
    curves: tuple[Curve, ...]
    columns: tuple[str, ...]
    """[curves] their headings in the CSV."""
    x: str = STEP
    y_range: tuple[float, float] | None = None
    is_stack: bool = False


class Metrics:
    """The metrics of one run by key; may be read while rows are added."""

    def __init__(self, rows: Sequence[Row] = ()) -> None:
        self.rows: list[Row] = []
        """By step, each step once: a later row of a step is laid over an earlier one."""
        self._columns: dict[str, tuple[array[float], array[float]]] = {}
        self._minutes: dict[float, float] = {}
        self._lock = threading.RLock()
        self.add(rows)

    def add(self, rows: Sequence[Row]) -> None:
        """Further rows, usually of later steps."""
        with self._lock:
            for row in rows:
                if (step := finite(row.get("step"))) is None:
                    continue
                if self.rows and step <= self.rows[-1]["step"]:
                    self._lay_over(row, step)
                else:
                    self._append(row, step)

    def _append(self, row: Row, step: float) -> None:
        before = self._minutes[float(self.rows[-1]["step"])] if self.rows else 0.0
        self._minutes[step] = before + _seconds(row) / 60
        self.rows.append(row)
        for key, value in row.items():
            if (number := finite(value)) is not None and key != "step":
                steps, values = self._columns.setdefault(key, (array("d"), array("d")))
                steps.append(step)
                values.append(number)

    def _lay_over(self, row: Row, step: float) -> None:
        by_step: dict[float, Row] = {float(each["step"]): each for each in self.rows}
        by_step[step] = {**by_step.get(step, {}), **row}
        self.rows, self._columns = [], {}
        for each in sorted(by_step):
            self._append(by_step[each], each)

    @property
    def keys(self) -> list[str]:
        """With a finite value at least once."""
        return list(self._columns)

    def curve(self, label: str, key: str, x: str = STEP) -> Curve:
        """The values of a key with their interval, where it has one."""
        with self._lock:
            steps, values = self._column(key)
            low_steps, lows = self._column(f"{key}_low")
            high_steps, highs = self._column(f"{key}_high")
        both, of_low, of_high = np.intersect1d(low_steps, high_steps, assume_unique=True, return_indices=True)
        band = (self._places(both, x), lows[of_low], highs[of_high])
        return Curve(label, self._places(steps, x), values, band)

    def _column(self, key: str) -> tuple[Numbers, Numbers]:
        steps, values = self._columns.get(key, ((), ()))
        return np.array(steps, dtype=np.float64), np.array(values, dtype=np.float64)

    def _places(self, steps: Numbers, x: str) -> Numbers:
        return steps if x == STEP else np.array([self._minutes[step] for step in steps.tolist()], dtype=np.float64)


def _seconds(row: Row) -> float:
    parts = (finite(row.get(f"seconds_{part}")) or 0.0 for part in ("rollout", "update", "evaluation"))
    return sum(parts) - (finite(row.get("seconds_overlapped")) or 0.0)


class MetricsShelf:
    """Metrics of the runs that were looked at last, so that a new row costs what a row costs."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Metrics, Row | None, int, Row | None]] = {}
        self._lock = threading.Lock()

    def get(self, run: str, rows: Sequence[Row], baseline: Row | None) -> Metrics:
        """The metrics of a run.

        Args:
            rows: of its metrics.jsonl; rows that were given before are known by being the same objects.
            baseline: of step 0.
        """
        with self._lock:
            metrics, first, count, last = self._known.pop(run, (Metrics(), None, 0, None))
            is_longer = 0 < count <= len(rows) and rows[count - 1] is last
            if not is_longer or first != baseline:
                metrics, count = Metrics([{**baseline, "step": 0}] if baseline else []), 0
            metrics.add(rows[count:])
            self._known[run] = (metrics, baseline, len(rows), rows[-1] if rows else None)
            while len(self._known) > MAX_KEPT_RUNS:
                self._known.pop(next(iter(self._known)))
            return metrics


def run_figure(plot: Plot, metrics: Metrics) -> Figure:
    """A plot of one run."""
    lines = expanded(plot, metrics.keys)
    curves = tuple(metrics.curve(line.label, line.key) for line in lines)
    keys = tuple(line.key for line in lines)
    return Figure(plot.name, plot.title, curves, keys, STEP, plot.y_range, plot.is_stack)


def whole_figure(metrics: Metrics) -> Figure:
    """All metrics of a run, each key once: bounds of an interval with what they bound."""
    curves = [metrics.curve(key, key) for key in metrics.keys]
    bounds = {f"{each.label}{end}" for each in curves if len(each.band[0]) for end in ("_low", "_high")}
    kept = tuple(each for each in curves if each.label not in bounds)
    return Figure("metrics", "Metrics", kept, tuple(each.label for each in kept))


def compared_figure(key: str, runs: Mapping[str, Metrics], x: str = STEP) -> Figure:
    """One metric of several runs; a run without it keeps its place, so that every run has one colour everywhere."""
    plot = plot_of(key)
    curves = tuple(metrics.curve(name, key, x) for name, metrics in runs.items())
    return Figure(key, plot.title, curves, tuple(runs), x, plot.y_range)
