"""Charts as inline SVG: axes, ticks, hover titles, colours from the page's style sheet. No script, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from agentrl.evaluation.documents import text

WIDTH, HEIGHT = 380, 220
LEFT, RIGHT, TOP, BOTTOM = 48, 10, 10, 34
MAX_COLOURS = 8
MAX_MARKS = 40
"""More points than this are drawn as a line only."""
MAX_HOVER_BANDS = 300

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line, or one layer of a stack."""

    label: str
    points: Points
    """(step, value) in order of step; only finite numbers."""
    band: Sequence[tuple[float, float, float]] = ()
    """(step, low, high), drawn behind the line."""


def ticks(low: float, high: float, about: int = 5, *, integers: bool = False) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from at or below `low` to at or above `high`."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    raw = (high - low) / max(1, about - 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)
    if integers:
        step = max(1.0, float(round(step)))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def number(value: float) -> str:
    """Short for axes and hover titles: 0.05, 3.2, 1,250, 12k, 500M, 1.5G, 3.4e-05."""
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-4:
        return f"{value:.3g}"
    if size >= 1e7:
        return f"{value / 1e9:,.4g}G" if size >= 1e9 else f"{value / 1e6:.4g}M"
    if size >= 10_000:
        return f"{value / 1000:,.4g}k"
    return f"{value:,.0f}" if size >= 1000 else f"{value:.4g}"


def line_chart(title: str, series: Sequence[Series], *, y_range: tuple[float, float] | None = None) -> str:
    """Lines over steps with a legend; `y_range` is extended where the data leaves it. Empty text without any point."""
    series = [each for each in series if each.points]
    if not series:
        return ""
    values = [value for each in series for _, value in each.points]
    values += [bound for each in series for _, *bounds in each.band for bound in bounds]
    low, high = min(values), max(values)
    if y_range:
        low, high = min(low, y_range[0]), max(high, y_range[1])
    elif 0 < low < 0.6 * high:
        low = 0.0
    frame = Frame([step for each in series for step, _ in each.points], low, high)
    parts = [frame.axes()]
    for index, each in enumerate(series):
        colour = f"s{index % MAX_COLOURS}"
        if len(each.band) > 1:
            upper = [(step, top) for step, _, top in each.band]
            outline = upper + [(step, bottom) for step, bottom, _ in reversed(each.band)]
            parts.append(f'<polygon class="band {colour}" points="{frame.path(outline)}"/>')
        elif each.band:
            (step, bottom, top), *_ = each.band
            parts.append(f'<polyline class="line {colour}" points="{frame.path([(step, bottom), (step, top)])}"/>')
        if len(each.points) > 1:
            parts.append(f'<polyline class="line {colour}" points="{frame.path(each.points)}"/>')
        if len(each.points) <= MAX_MARKS:
            parts += [
                f'<circle class="mark {colour}" cx="{frame.x(step):.1f}" cy="{frame.y(value):.1f}" r="2.4"/>'
                for step, value in each.points
            ]
    parts.append(_hover_bands(frame, series))
    return _figure(title, series, parts)


def stacked_bars(title: str, series: Sequence[Series]) -> str:
    """One bar a step, layers from the bottom in the order given. Empty text without any point."""
    series = [each for each in series if each.points]
    if not series:
        return ""
    layers = [dict(each.points) for each in series]
    steps = sorted({step for layer in layers for step in layer})
    high = max(sum(max(0.0, layer.get(step, 0.0)) for layer in layers) for step in steps)
    frame = Frame(steps, 0.0, high, margin=0.5)
    width = max(1.0, min(26.0, 0.7 * frame.step_width))
    parts = [frame.axes()]
    for step in steps:
        base = 0.0
        for index, layer in enumerate(layers):
            value = max(0.0, layer.get(step, 0.0))
            top, bottom = frame.y(base + value), frame.y(base)
            if value > 0:
                parts.append(
                    f'<rect class="bar s{index % MAX_COLOURS}" x="{frame.x(step) - width / 2:.1f}" y="{top:.1f}"'
                    f' width="{width:.1f}" height="{bottom - top:.1f}"/>'
                )
            base += value
    parts.append(_hover_bands(frame, series))
    return _figure(title, series, parts)


class Frame:
    """Maps steps, or what else `x_label` names, and values to the drawing and draws the axes."""

    def __init__(
        self, steps: Sequence[float], low: float, high: float, *, margin: float = 0.0, x_label: str = "step"
    ) -> None:
        self.x_label = x_label
        self.steps = sorted(set(steps))
        self.first, self.last = self.steps[0] - margin, self.steps[-1] + margin
        self.y_ticks = ticks(low, high)
        self.low, self.high = self.y_ticks[0], self.y_ticks[-1]

    def x(self, step: float) -> float:
        share = (step - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (self.high - value) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def path(self, points: Points) -> str:
        return " ".join(f"{self.x(step):.1f},{self.y(value):.1f}" for step, value in points)

    @property
    def step_width(self) -> float:
        gap = min((after - before for before, after in pairwise(self.steps)), default=0.0)
        return gap / (self.last - self.first) * (WIDTH - LEFT - RIGHT) if gap else WIDTH / 4

    def axes(self) -> str:
        floor = HEIGHT - BOTTOM
        parts = []
        for tick in self.y_ticks:
            y = self.y(tick)
            kind = "zero" if tick == 0 else "grid"
            parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
        for tick in self._x_ticks():
            x = self.x(tick)
            parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{floor}" y2="{floor + 4}"/>')
            parts.append(f'<text x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{number(tick)}</text>')
        parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{floor}" y2="{floor}"/>')
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{self.x_label}</text>'
        )
        return "".join(parts)

    def _x_ticks(self) -> list[float]:
        if len(self.steps) == 1:
            return list(self.steps)
        found = ticks(self.steps[0], self.steps[-1], 6, integers=self.x_label == "step")
        return [tick for tick in found if self.steps[0] <= tick <= self.steps[-1]]


def _hover_bands(frame: Frame, series: Sequence[Series]) -> str:
    """Invisible strips, one a step, whose title lists every series: the browser shows it under the pointer."""
    steps = frame.steps[:: math.ceil(len(frame.steps) / MAX_HOVER_BANDS)]
    layers = [(each.label, dict(each.points)) for each in series]
    centres = [frame.x(step) for step in steps]
    edges = [LEFT, *((a + b) / 2 for a, b in pairwise(centres)), WIDTH - RIGHT]

    def values_at(step: float) -> str:
        found = [f"{label}: {number(points[step])}" for label, points in layers if step in points]
        return "\n".join([f"step {number(step)}", *found])

    return "".join(
        f'<rect class="hover" x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{HEIGHT - TOP - BOTTOM}">'
        f"<title>{text(values_at(step))}</title></rect>"
        for step, left, right in zip(steps, edges[:-1], edges[1:], strict=True)
    )


def _figure(title: str, series: Sequence[Series], parts: Sequence[str]) -> str:
    keys = "".join(
        f'<span class="key"><i class="s{index % MAX_COLOURS}"></i>{text(each.label)}</span>'
        for index, each in enumerate(series)
    )
    legend = f'<div class="legend">{keys}</div>' if len(series) > 1 or series[0].band else ""
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption>{legend}'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(title)} by step">{"".join(parts)}</svg>'
        "</figure>"
    )
