"""Figures as SVG: told apart by colour, dashes and marks, light at any length, readable by keyboard and by ear.

Rules that a reader must know are said below the chart: how a long curve was thinned, and what lies beyond the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from agentrl.evaluation.charts import BOTTOM, HEIGHT, LEFT, MAX_MARKS, RIGHT, TOP, WIDTH, Frame, Points, Series, number
from agentrl.ui.figures import Figure
from agentrl.ui.templating import shown

COLOURS, DASHES, SHAPES = 12, 5, 5
"""Of style.css; a series has those of its place."""
MAX_POINTS = 400
"""Of a curve; longer ones are thinned."""
SPANS = 150
"""That a long curve is cut into; of each its lowest and its highest value are drawn."""
MAX_BARS = 100
MIN_VALUES = 10
"""Before any counts as far out."""
USUAL, FAR = 0.9, 5.0
"""Values that lie FAR times as high as this share of all are beyond the axis."""
SPARSE_MARKS = 8
MIN_SPAN = 1e-9
"""Of an axis: less is rounding."""


@dataclass(frozen=True)
class Limit:
    """A threshold of a guard."""

    value: float
    is_stop: bool


@dataclass(frozen=True)
class Drawing:
    """What a template needs."""

    svg: Markup
    keys: tuple[tuple[Markup, str], ...]
    """Of the legend: a sample of the line, and its label."""
    notes: tuple[str, ...]


def draw(figure: Figure, limits: Sequence[Limit] = ()) -> Drawing | None:
    """The figure; None where it has no point."""
    if not any(each.points for each in figure.series):
        return None
    return _bars(figure) if figure.is_stack else _lines(figure, limits)


def thinned(points: Points) -> Points:
    """At most MAX_POINTS: of every span of x the lowest and the highest, and both ends."""
    if len(points) <= MAX_POINTS:
        return points
    spans: dict[int, list[int]] = {}
    first, last = points[0][0], points[-1][0]
    for index, (x, _) in enumerate(points):
        spans.setdefault(int((x - first) / (last - first) * SPANS) if last > first else 0, []).append(index)

    def height(index: int) -> float:
        return points[index][1]

    kept = {0, len(points) - 1}
    for indices in spans.values():
        kept |= {min(indices, key=height), max(indices, key=height)}
    return [points[index] for index in sorted(kept)]


def thinned_band(band: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """At most SPANS + 1 places: the lowest and the highest bound of each span."""
    if len(band) <= MAX_POINTS:
        return list(band)
    size = math.ceil(len(band) / SPANS)
    parts = [band[start : start + size] for start in range(0, len(band), size)]
    return [(part[0][0], min(low for _, low, _ in part), max(high for *_, high in part)) for part in parts]


def axis_end(values: Sequence[float]) -> float:
    """Up to where an axis goes: the highest value, or less where a few lie far above all others."""
    ordered = sorted(values)
    low, high = ordered[0], ordered[-1]
    usual = ordered[math.ceil(USUAL * len(ordered)) - 1]
    is_far = len(ordered) >= MIN_VALUES and usual > low and high - low > FAR * (usual - low)
    return low + 1.5 * (usual - low) if is_far else high


def _lines(figure: Figure, limits: Sequence[Limit]) -> Drawing:
    every = [value for each in figure.series for _, value in each.points]
    end = axis_end(every)
    far = [(x, value) for each in figure.series for x, value in each.points if value > end]
    bounds = [bound for each in figure.series for _, *pair in each.band for bound in pair]
    low, high = min([*every, *bounds]), max([end, *(bound for bound in bounds if not far)])
    if figure.y_range:
        low, high = min(low, figure.y_range[0]), max(high, figure.y_range[1])
    elif 0 < low < 0.6 * high:
        low = 0.0
    if high - low < MIN_SPAN:
        high = low + MIN_SPAN if low == 0.0 else low + abs(low)
    frame = Frame([x for each in figure.series for x, _ in each.points], low, high, x_label=figure.x)
    parts = [Markup(frame.axes()), *(_limit(frame, limit) for limit in limits)]
    parts += [_band(frame, index, each) for index, each in enumerate(figure.series)]
    parts += [_curve(frame, index, each) for index, each in enumerate(figure.series)]
    notes = []
    if far:
        most = max(far, key=lambda point: point[1])
        where = f"{figure.x} {number(most[0])}"
        count = "1 value lies" if len(far) == 1 else f"{len(far):,} values lie"
        notes.append(f"{count} above the axis (\u25b2), the highest {number(most[1])} at {where}.")
    longest = max(len(each.points) for each in figure.series)
    if longest > MAX_POINTS:
        notes.append(f"Of {longest:,} values, the lowest and the highest of each of {SPANS} spans are drawn.")
    return Drawing(_svg(figure, frame, parts), _legend(figure, _line_sample), tuple(notes))


def _style(index: int) -> str:
    return f"s{index % COLOURS} d{index % DASHES}"


def _clamped(frame: Frame, points: Points) -> Points:
    return [(x, min(max(value, frame.low), frame.high)) for x, value in points]


def _curve(frame: Frame, index: int, series: Series) -> Markup:
    if not series.points:
        return Markup("")
    points = thinned(series.points)
    inside = _clamped(frame, points)
    parts = [f'<polyline class="line" points="{frame.path(inside)}"/>'] if len(points) > 1 else []
    every = 1 if len(points) <= MAX_MARKS else math.ceil(len(points) / SPARSE_MARKS)
    marks = "".join(_mark(index, frame.x(x), frame.y(value)) for x, value in inside[::every])
    parts.append(f'<path class="mark" d="{marks}"/>')
    far = "".join(_beyond(frame.x(x), TOP) for x, value in points if value > frame.high)
    parts += [f'<path class="mark far" d="{far}"/>'] * bool(far)
    data = " ".join(f"{x:.7g},{value:.5g}" for x, value in points)
    return Markup('<g class="curve {}" data-label="{}" data-points="{}">{}</g>').format(
        _style(index), shown(series.label), data, Markup("".join(parts))
    )


def _mark(index: int, x: float, y: float) -> str:
    """A path: circle, square, triangle, diamond, cross."""
    shape = index % SHAPES
    if shape == 0:
        return f"M{x - 2.4:.1f},{y:.1f}a2.4,2.4 0 1,0 4.8,0a2.4,2.4 0 1,0 -4.8,0z"
    if shape == 1:
        return f"M{x - 2.2:.1f},{y - 2.2:.1f}h4.4v4.4h-4.4z"
    if shape == 2:
        return f"M{x:.1f},{y - 3:.1f}l2.8,5h-5.6z"
    if shape == 3:
        return f"M{x:.1f},{y - 3.2:.1f}l3.2,3.2l-3.2,3.2l-3.2,-3.2z"
    return f"M{x - 3:.1f},{y - 1:.1f}h2v-2h2v2h2v2h-2v2h-2v-2h-2z"


def _beyond(x: float, y: float) -> str:
    return f"M{x:.1f},{y - 4:.1f}l4,7h-8z"


def _band(frame: Frame, index: int, series: Series) -> Markup:
    band = thinned_band(series.band)
    if not band:
        return Markup("")
    upper = _clamped(frame, [(x, high) for x, _, high in band])
    lower = _clamped(frame, [(x, low) for x, low, _ in band])
    kind = "polygon" if len(band) > 1 else "polyline"
    name = "band" if len(band) > 1 else "line"
    outline = frame.path([*upper, *reversed(lower)])
    return Markup('<{} class="{} {}" points="{}"/>').format(Markup(kind), name, _style(index), outline)


def _limit(frame: Frame, limit: Limit) -> Markup:
    if not frame.low < limit.value <= frame.high:  # an axis is not stretched for it: the curve is what matters
        return Markup("")
    y, kind = frame.y(limit.value), "stop" if limit.is_stop else "warn"
    return Markup(
        '<line class="limit {0}" x1="{1}" x2="{2}" y1="{3:.1f}" y2="{3:.1f}"/>'
        '<text class="limit {0}" x="{4}" y="{5:.1f}" text-anchor="end">{0} {6}</text>'
    ).format(kind, LEFT, WIDTH - RIGHT, y, WIDTH - RIGHT - 2, y - 3, number(limit.value))


def _bars(figure: Figure) -> Drawing:
    """One bar a step, or a few steps, layers from the bottom in their order."""
    layers = [dict(each.points) for each in figure.series]
    steps = sorted({step for layer in layers for step in layer})
    size = math.ceil(len(steps) / MAX_BARS)
    groups = [steps[start : start + size] for start in range(0, len(steps), size)]
    bars = [
        (group[len(group) // 2], [sum(layer.get(step, 0.0) for step in group) / len(group) for layer in layers])
        for group in groups
    ]
    high = max(sum(max(0.0, value) for value in values) for _, values in bars)
    frame = Frame([step for step, _ in bars], 0.0, high, margin=0.5 * size, x_label=figure.x)
    width = max(1.0, min(26.0, 0.7 * frame.step_width))
    drawn = [_layer(frame, index, each.label, bars, width) for index, each in enumerate(figure.series)]
    note = (f"Each bar is the mean of {size} steps.",) if size > 1 else ()
    return Drawing(_svg(figure, frame, [Markup(frame.axes()), *drawn]), _legend(figure, _bar_sample), note)


def _layer(frame: Frame, index: int, label: str, bars: Sequence[tuple[float, list[float]]], width: float) -> Markup:
    parts = []
    for step, values in bars:
        base, value = sum(max(0.0, each) for each in values[:index]), max(0.0, values[index])
        if value > 0:
            top, bottom = frame.y(base + value), frame.y(base)
            x = frame.x(step) - width / 2
            parts.append(
                f'<rect class="bar" x="{x:.1f}" y="{top:.1f}" width="{width:.1f}" height="{bottom - top:.1f}"/>'
            )
    data = " ".join(f"{step:.7g},{values[index]:.5g}" for step, values in bars)
    return Markup('<g class="curve {}" data-label="{}" data-points="{}">{}</g>').format(
        _style(index), shown(label), data, Markup("".join(parts))
    )


def _svg(figure: Figure, frame: Frame, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" tabindex="0" aria-label="{}" data-first="{:.7g}" '
        'data-last="{:.7g}" data-left="{}" data-right="{}" data-top="{}" data-floor="{}" data-x="{}">{}'
        '<g class="cross"></g></svg>'
    ).format(
        WIDTH,
        HEIGHT,
        shown(summary(figure)),
        frame.first,
        frame.last,
        LEFT,
        WIDTH - RIGHT,
        TOP,
        HEIGHT - BOTTOM,
        figure.x,
        Markup("").join(parts),
    )


def summary(figure: Figure) -> str:
    """The figure for whoever does not see it: where each line starts and ends."""
    said = []
    for each in figure.series:
        if each.points:
            (first, start), (last, end) = each.points[0], each.points[-1]
            way = f"{number(start)} at {figure.x} {number(first)}"
            way += f" to {number(end)} at {figure.x} {number(last)}" if last > first else ""
            said.append(f"{each.label}: {way}" if len(figure.series) > 1 else way)
    shown_lines = said[:COLOURS]
    return f"{figure.title} by {figure.x}. {'; '.join(shown_lines)}."


def _legend(figure: Figure, sample: Callable[[int], Markup]) -> tuple[tuple[Markup, str], ...]:
    found = [(sample(index), each.label) for index, each in enumerate(figure.series) if each.points]
    return tuple(found)


def legend_samples(count: int) -> list[Markup]:
    """How the first series look."""
    return [_line_sample(index) for index in range(count)]


def _line_sample(index: int) -> Markup:
    mark = _mark(index, 13, 5)
    return Markup(
        '<svg class="sample {}" viewBox="0 0 26 10" aria-hidden="true"><path class="line" d="M0,5h26"/>'
        '<path class="mark" d="{}"/></svg>'
    ).format(_style(index), mark)


def _bar_sample(index: int) -> Markup:
    return Markup(
        '<svg class="sample {}" viewBox="0 0 26 10" aria-hidden="true"><path class="bar" d="M7,0h12v10h-12z"/></svg>'
    ).format(_style(index))
