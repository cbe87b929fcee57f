"""Figures as SVG: told apart by colour, dashes and marks, light at any length, readable by keyboard and by ear.

Rules that a reader must know are said below the chart: how a long curve was thinned, and what lies beyond the axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup

from agentrl.evaluation.charts import BOTTOM, HEIGHT, LEFT, MAX_MARKS, RIGHT, TOP, WIDTH, Frame, Points, number
from agentrl.ui.figures import Curve, Figure, Numbers
from agentrl.ui.templating import shown
from agentrl.ui.thinning import SPANS, Thinned, axis_end, thinned

COLOURS, DASHES, SHAPES = 12, 5, 5
"""Of style.css; a series has those of its place."""
MAX_BARS = 100
LARGEST = 1e100
"""Drawn in the place of what lies beyond it."""
SPARSE_MARKS = 8
MIN_SPAN = 1e-9
"""Of an axis: less is rounding, and drawn as 0."""


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
    if not any(len(each.x) for each in figure.curves):
        return None
    figure = replace(figure, curves=tuple(map(_drawable, figure.curves)))
    return _bars(figure) if figure.is_stack else _lines(figure, limits)


def _drawable(curve: Curve) -> Curve:
    """With numbers whose sums and differences are numbers."""

    def bounded(numbers: Numbers) -> Numbers:
        return np.clip(np.nan_to_num(numbers), -LARGEST, LARGEST)

    x, low, high = map(bounded, curve.band)
    return replace(curve, x=bounded(curve.x), y=bounded(curve.y), band=(x, low, high))


def _lines(figure: Figure, limits: Sequence[Limit]) -> Drawing:
    places, values = (np.concatenate([getattr(each, name) for each in figure.curves]) for name in ("x", "y"))
    end = axis_end(values)
    is_far = values > end
    bounds = np.concatenate([bound for each in figure.curves for bound in each.band[1:]])
    low = float(min(values.min(), bounds.min(initial=math.inf)))
    high = end if is_far.any() else float(max(end, bounds.max(initial=-math.inf)))
    if figure.y_range:
        low, high = min(low, figure.y_range[0]), max(high, figure.y_range[1])
    elif 0 < low < 0.6 * high:
        low = 0.0
    if 0.0 < max(abs(low), abs(high)) < MIN_SPAN:
        low, high = min(low, 0.0), MIN_SPAN
    elif high - low < MIN_SPAN:
        high = low + (abs(low) or 1.0)
    curves = [thinned(each) for each in figure.curves]
    frame = Frame(
        [places.min(), places.max(), *np.concatenate([each.x for each in curves])], low, high, x_label=figure.x
    )
    parts = [Markup(frame.axes()), *(_limit(frame, limit) for limit in limits)]
    parts += [_bands(frame, index, each) for index, each in enumerate(curves)]
    parts += [_curve(frame, index, figure.curves[index].label, each) for index, each in enumerate(curves)]
    notes = []
    if count := int(is_far.sum()):
        most = int(values.argmax())
        said = "1 value lies" if count == 1 else f"{count:,} values lie"
        where = f"{figure.x} {number(places[most])}"
        notes.append(f"{said} above the axis (\u25b2), the highest {number(values[most])} at {where}.")
    if any(each.is_thinned for each in curves):
        longest = max(len(each.x) for each in figure.curves)
        notes.append(f"{longest:,} values: the mean of each of {SPANS} spans, between its lowest and its highest.")
    return Drawing(_svg(figure, frame, parts), _legend(figure, _line_sample), tuple(notes))


def _style(index: int) -> str:
    return f"s{index % COLOURS} d{index % DASHES}"


def _clamped(frame: Frame, points: Points) -> Points:
    return [(x, min(max(value, frame.low), frame.high)) for x, value in points]


def _curve(frame: Frame, index: int, label: str, curve: Thinned) -> Markup:
    points = list(zip(curve.x.tolist(), curve.y.tolist(), strict=True))
    if not points:
        return Markup("")
    inside = _clamped(frame, points)
    parts = [f'<polyline class="line" points="{frame.path(inside)}"/>'] if len(points) > 1 else []
    every = 1 if len(points) <= MAX_MARKS else math.ceil(len(points) / SPARSE_MARKS)
    marks = "".join(_mark(index, frame.x(x), frame.y(value)) for x, value in inside[::every])
    parts.append(f'<path class="mark" d="{marks}"/>')
    far = "".join(_beyond(frame.x(x), TOP) for x in curve.x[curve.high > frame.high].tolist())
    parts += [f'<path class="mark far" d="{far}"/>'] * bool(far)
    return _group(index, label, points, parts)


def _group(index: int, label: str, points: Points, parts: Sequence[str]) -> Markup:
    """With its numbers, which charts.js shows."""
    data = " ".join(f"{x:.7g},{value:.5g}" for x, value in points)
    return Markup('<g class="curve {}" data-label="{}" data-points="{}">{}</g>').format(
        _style(index), shown(label), data, Markup("".join(parts))
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


def _bands(frame: Frame, index: int, curve: Thinned) -> Markup:
    """The interval, and what the spans of a long curve range over."""
    spread = _band(frame, index, "range", curve.x, curve.low, curve.high) if curve.is_thinned else Markup("")
    return spread + _band(frame, index, "band", *curve.band)


def _band(frame: Frame, index: int, name: str, x: Numbers, low: Numbers, high: Numbers) -> Markup:
    if not len(x):
        return Markup("")
    upper = _clamped(frame, list(zip(x.tolist(), high.tolist(), strict=True)))
    lower = _clamped(frame, list(zip(x.tolist(), low.tolist(), strict=True)))
    kind, name = ("polygon", name) if len(x) > 1 else ("polyline", "line")
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
    steps = np.unique(np.concatenate([each.x for each in figure.curves]))
    heights = np.zeros((len(figure.curves), len(steps)))
    for layer, each in zip(heights, figure.curves, strict=True):
        layer[np.searchsorted(steps, each.x)] = np.maximum(each.y, 0.0)
    size = math.ceil(len(steps) / MAX_BARS)
    starts = np.arange(0, len(steps), size)
    counts = np.diff([*starts, len(steps)])
    means = np.add.reduceat(heights, starts, axis=1) / counts
    places = steps[starts + counts // 2].tolist()
    frame = Frame(places, 0.0, max(MIN_SPAN, float(means.sum(axis=0).max())), margin=0.5 * size, x_label=figure.x)
    width = max(1.0, min(26.0, 0.7 * frame.step_width))
    tops = means.cumsum(axis=0)
    drawn = []
    for index, each in enumerate(figure.curves):
        bars = "".join(
            f'<rect class="bar" x="{frame.x(x) - width / 2:.1f}" y="{frame.y(top):.1f}" width="{width:.1f}" '
            f'height="{frame.y(top - value) - frame.y(top):.1f}"/>'
            for x, value, top in zip(places, means[index].tolist(), tops[index].tolist(), strict=True)
            if value > 0
        )
        drawn.append(_group(index, each.label, list(zip(places, means[index].tolist(), strict=True)), [bars]))
    note = (f"Each bar is the mean of {size} steps.",) if size > 1 else ()
    return Drawing(_svg(figure, frame, [Markup(frame.axes()), *drawn]), _legend(figure, _bar_sample), note)


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
    drawn = [each for each in figure.curves if len(each.x)]
    said = []
    for each in drawn:
        way = f"{number(each.y[0])} at {figure.x} {number(each.x[0])}"
        way += f" to {number(each.y[-1])} at {figure.x} {number(each.x[-1])}" if len(each.x) > 1 else ""
        said.append(f"{each.label}: {way}" if len(drawn) > 1 else way)
    return f"{figure.title} by {figure.x}. {'; '.join(said)}."


def _legend(figure: Figure, sample: Callable[[int], Markup]) -> tuple[tuple[Markup, str], ...]:
    return tuple((sample(index), each.label) for index, each in enumerate(figure.curves) if len(each.x))


def legend_samples(count: int) -> list[Markup]:
    """How the first series look."""
    return [_line_sample(index) for index in range(count)]


def _line_sample(index: int) -> Markup:
    mark = _mark(index, 13, 5)
    return Markup(
        '<svg class="swatch {}" viewBox="0 0 26 10" aria-hidden="true"><path class="line" d="M0,5h26"/>'
        '<path class="mark" d="{}"/></svg>'
    ).format(_style(index), mark)


def _bar_sample(index: int) -> Markup:
    return Markup(
        '<svg class="swatch {}" viewBox="0 0 26 10" aria-hidden="true"><path class="bar" d="M7,0h12v10h-12z"/></svg>'
    ).format(_style(index))
