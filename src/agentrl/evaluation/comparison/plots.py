"""The plots of a comparison as inline SVG: items by their change, reward against latency, calls by tool."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from agentrl.evaluation.charts import number, ticks
from agentrl.evaluation.comparison.figures import Figure
from agentrl.evaluation.comparison.items import ItemChange
from agentrl.evaluation.comparison.policies import PolicyComparison
from agentrl.evaluation.comparison.style import MORE_CSS
from agentrl.evaluation.documents import framed, text, whole_page

WIDTH, HEIGHT = 400, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 14, 14, 38
NAMED = 5
"""Items that a hover title names."""
MAX_RADIUS = 13.0
MAX_POINTS = 1000
"""That are drawn; a page of more opens slowly, and nobody tells them apart."""
CELLS = 25
"""From the middle of an axis to its end, where items are gathered."""
BAR, GAP = 9, 12


@dataclass(frozen=True)
class Plot:
    """A figure of the page; a notebook shows it by itself."""

    title: str
    figure: str = field(repr=False)
    """HTML with the SVG in it, in the classes of the page's style sheet."""

    def _repr_html_(self) -> str:
        page = whole_page(self.title, f'<div class="alone">{self.figure}</div>', MORE_CSS)
        return framed(page, title=self.title, height=580)


class Plane:
    """Two axes of numbers, and where a point lies between them."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float], x_label: str, y_label: str) -> None:
        self.x_range, self.y_range = (min(xs), max(xs)), (min(ys), max(ys))
        self.x_ticks, self.y_ticks = _ticks_within(self.x_range), _ticks_within(self.y_range)
        self.x_label, self.y_label = x_label, y_label

    def x(self, value: float) -> float:
        low, high = self.x_range
        return LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return TOP + (high - value) / (high - low) * (HEIGHT - TOP - BOTTOM)

    def axes(self) -> str:
        floor, parts = HEIGHT - BOTTOM, []
        for tick in self.y_ticks:
            kind, y = "zero" if tick == 0 else "grid", self.y(tick)
            parts.append(f'<line class="{kind}" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 3.5:.1f}" text-anchor="end">{number(tick)}</text>')
        for tick in self.x_ticks:
            kind, x = "zero" if tick == 0 else "grid", self.x(tick)
            parts.append(f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{floor}"/>')
            parts.append(f'<text x="{x:.1f}" y="{floor + 15}" text-anchor="middle">{number(tick)}</text>')
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle}" y="{HEIGHT - 5}" text-anchor="middle">{text(self.x_label)}</text>')
        upright = f'transform="rotate(-90)" x="{-(TOP + floor) / 2}" y="11" text-anchor="middle"'
        parts.append(f"<text {upright}>{text(self.y_label)}</text>")
        return "".join(parts)

    def box(self, kind: str, x: tuple[float, float], y: tuple[float, float]) -> str:
        left, right, top, bottom = self.x(x[0]), self.x(x[1]), self.y(y[1]), self.y(y[0])
        size = f'width="{right - left:.1f}" height="{bottom - top:.1f}"'
        return f'<rect class="{kind}" x="{left:.1f}" y="{top:.1f}" {size}/>'


def _ticks_within(ends: tuple[float, float]) -> list[float]:
    low, high = ends
    return [tick for tick in ticks(low, high, 6) if low <= tick <= high]


def quadrant_plot(comparison: PolicyComparison) -> Plot:
    """Change of reward against change of calls; items with the same changes are one point, and make it large."""
    x_end = 1.1 * max(abs(item.calls_change) for item in comparison.items) or 1.0
    y_end = 1.3 * max(abs(item.reward_change) for item in comparison.items) or 1.0
    points = _gathered(comparison.items, x_end / CELLS, y_end / CELLS)
    plane = Plane((-x_end, x_end), (-y_end, y_end), "change of tool calls", "change of reward")
    counts = comparison.quadrants()
    parts = [
        plane.box("wanted", (-x_end, 0.0), (0.0, y_end)),
        plane.box("unwanted", (0.0, x_end), (-y_end, 0.0)),
        plane.axes(),
        *(
            f'<text class="corner" x="{x}" y="{y}" text-anchor="{anchor}">{label}: {counts[key]}</text>'
            for key, label, x, y, anchor in (
                ("better_fewer", "better, fewer", LEFT + 5, TOP + 12, "start"),
                ("better_more", "better, more", WIDTH - RIGHT - 5, TOP + 12, "end"),
                ("worse_fewer", "worse, fewer", LEFT + 5, HEIGHT - BOTTOM - 6, "start"),
                ("worse_more", "worse, more", WIDTH - RIGHT - 5, HEIGHT - BOTTOM - 6, "end"),
            )
        ),
        *(
            _point(
                plane.x(x), plane.y(y), _radius(len(items)), _kind(y), _named(items, f"reward {y:+.3g}, calls {x:+.3g}")
            )
            for (x, y), items in sorted(points.items(), key=lambda entry: -len(entry[1]))
        ),
    ]
    described = ", ".join(f"{key.replace('_', ' with ')} calls {count}" for key, count in counts.items() if count)
    title = "Items by change of reward and of tool calls"
    return Plot(title, _figure(title, f"{title}: {described}", parts))


def _gathered(items: Sequence[ItemChange], width: float, height: float) -> dict[tuple[float, float], list[ItemChange]]:
    """Items by (calls, reward) of their change; where there are too many points to draw, by cells of that size."""
    found: dict[tuple[float, float], list[ItemChange]] = {}
    for item in items:
        found.setdefault((round(item.calls_change, 6), round(item.reward_change, 6)), []).append(item)
    if len(found) <= MAX_POINTS:
        return found
    cells: dict[tuple[float, float], list[ItemChange]] = {}
    for (x, y), some in found.items():
        cells.setdefault((round(x / width) * width, round(y / height) * height), []).extend(some)
    return cells


def _kind(reward_change: float) -> str:
    return "gain" if reward_change > 0 else "loss" if reward_change < 0 else "level"


def _radius(count: int) -> float:
    return min(MAX_RADIUS, 3.2 * math.sqrt(count))


def _point(x: float, y: float, radius: float, kind: str, title: str) -> str:
    return (
        f'<circle class="point {kind}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}"><title>{text(title)}</title></circle>'
    )


def _named(items: Sequence[ItemChange], what: str) -> str:
    shown = ", ".join(item.task_id for item in items[:NAMED])
    more = f" and {len(items) - NAMED} more" if len(items) > NAMED else ""
    return f"{len(items)} item{'s' * (len(items) != 1)}: {what}\n{shown}{more}"


def latency_plot(comparison: PolicyComparison) -> Plot:
    """Every item under both policies, a little apart where rewards are equal; the means with their intervals."""
    xs = [seconds for item in comparison.items for seconds in item.latency_seconds]
    ys = [reward for item in comparison.items for reward in item.reward]
    room = 0.05 * (max(ys) - min(ys)) or 0.05  # items of one reward are told apart
    plane = Plane(
        (0.0, 1.04 * max(xs) or 1.0), (min(ys) - 2 * room, max(ys) + 2 * room), "seconds an episode", "reward"
    )
    parts = [plane.axes()]
    shown = sorted(comparison.items, key=lambda item: _chance(item.task_id)[1:])[:MAX_POINTS]
    for side, name in enumerate("AB"):
        for item in shown:
            seconds, reward = item.latency_seconds[side], item.reward[side]
            title = f"{name}, {item.task_id}: reward {reward:.3g} in {seconds:.3g} s"
            y = plane.y(reward + room * _jitter(item.task_id))
            parts.append(_point(plane.x(seconds), y, 2.6, f"faint s{side}", title))
    for side, name in enumerate("AB"):
        parts.append(_mean(plane, comparison, side, name))
    title = "Reward against latency"
    if len(shown) < comparison.n_items:
        title += f", {len(shown):,} of {comparison.n_items:,} items"
    latency, reward_ = comparison.differences["latency_seconds"], comparison.differences["reward"]
    described = (
        f"{title}: A {reward_.baseline:.3g} in {latency.baseline:.3g} seconds, "
        f"B {reward_.candidate:.3g} in {latency.candidate:.3g} seconds"
    )
    return Plot(title, _figure(title, described, parts, legend=_legend(comparison)))


def _mean(plane: Plane, comparison: PolicyComparison, side: int, name: str) -> str:
    across, up = comparison.differences["latency_seconds"], comparison.differences["reward"]
    x, y = (plane.x(_level(across, side)), plane.y(_level(up, side)))
    parts = []
    if (of_x := _interval(across, side)) and (of_y := _interval(up, side)):
        parts = [
            _whisker(side, (plane.x(of_x[0]), plane.x(of_x[1])), (y, y)),
            _whisker(side, (x, x), (plane.y(of_y[0]), plane.y(of_y[1]))),
        ]
    title = f"{name}, mean: reward {_level(up, side):.3g} in {_level(across, side):.3g} s"
    return "".join([*parts, _point(x, y, 5.5, f"mean s{side}", title)])


def _whisker(side: int, x: tuple[float, float], y: tuple[float, float]) -> str:
    ends = f'x1="{x[0]:.1f}" x2="{x[1]:.1f}" y1="{y[0]:.1f}" y2="{y[1]:.1f}"'
    return f'<line class="whisk s{side}" {ends}/>'


def _level(figure: Figure, side: int) -> float:
    return figure.candidate if side else figure.baseline


def _interval(figure: Figure, side: int) -> tuple[float, float] | None:
    return figure.candidate_interval if side else figure.baseline_interval


def _jitter(task_id: str) -> float:
    """From -1 to 1, always the same for an item."""
    return _chance(task_id)[0] / 127.5 - 1


def _chance(task_id: str) -> bytes:
    return sha256(task_id.encode("utf-8", "replace")).digest()


def tool_plot(comparison: PolicyComparison) -> Plot:
    """Two bars a tool, with the intervals of the means."""
    prefix = "tool_calls_"
    rows = [("all tools", comparison.differences["tool_calls"])]
    rows += [
        (name.removeprefix(prefix), figure)
        for name, figure in sorted(comparison.differences.items())
        if name.startswith(prefix)
    ]
    most = max((end for _, figure in rows for side in (0, 1) for end in (_high(figure, side),)), default=0.0) or 1.0
    marks = ticks(0.0, most, 5)
    height = TOP + len(rows) * (2 * BAR + GAP + 14) + 20

    def x(value: float) -> float:
        return 8 + value / marks[-1] * (WIDTH - 8 - RIGHT)

    floor = height - 20
    parts = [
        f'<line class="grid" x1="{x(mark):.1f}" x2="{x(mark):.1f}" y1="{TOP - 8}" y2="{floor}"/>'
        f'<text x="{x(mark):.1f}" y="{floor + 14}" text-anchor="middle">{number(mark)}</text>'
        for mark in marks
    ]
    y = float(TOP)
    for label, figure in rows:
        parts.append(f'<text class="name" x="8" y="{y + 8:.1f}">{text(_short(label))}</text>')
        for side, name in enumerate("AB"):
            top = y + 14 + side * (BAR + 2)
            level, interval = _level(figure, side), _interval(figure, side)
            title = f"{name}, {label}: {level:.3g} calls an episode"
            size = f'width="{max(0.0, x(level) - x(0)):.1f}" height="{BAR}"'
            parts.append(
                f'<rect class="bar s{side}" x="{x(0):.1f}" y="{top:.1f}" {size}><title>{text(title)}</title></rect>'
            )
            if interval:
                middle = top + BAR / 2
                ends = f'x1="{x(interval[0]):.1f}" x2="{x(interval[1]):.1f}"'
                parts.append(f'<line class="error" {ends} y1="{middle:.1f}" y2="{middle:.1f}"/>')
        y += 2 * BAR + GAP + 14
    title = "Tool calls an episode, by tool"
    described = "; ".join(f"{label}: A {figure.baseline:.3g}, B {figure.candidate:.3g}" for label, figure in rows)
    return Plot(title, _figure(title, f"{title}. {described}", parts, height=height, legend=_legend(comparison)))


def _high(figure: Figure, side: int) -> float:
    interval = _interval(figure, side)
    return interval[1] if interval else _level(figure, side)


def _short(label: str) -> str:
    return label if len(label) <= 48 else f"{label[:47]}…"


def _legend(comparison: PolicyComparison) -> str:
    sides = zip("AB", (comparison.a, comparison.b), strict=True)
    keys = (
        f'<span class="key"><i class="s{side}"></i>{name}: {text(evaluation.name)}</span>'
        for side, (name, evaluation) in enumerate(sides)
    )
    return f'<div class="legend">{"".join(keys)}</div>'


def _figure(title: str, described: str, parts: Iterable[str], *, height: int = HEIGHT, legend: str = "") -> str:
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption>{legend}'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(described)}">{"".join(parts)}</svg></figure>'
    )
