"""The variance picture: items sorted by mean score, the best of their samples, and a band of one standard deviation.

Where marks of the best lie above the line, there is something to learn; where band and marks lie on it, there is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from agentrl.evaluation.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Frame, number
from agentrl.evaluation.documents import text
from agentrl.evaluation.probe.samples import ItemScores, voting

MAX_MARKS = 400
"""More items than this are drawn every so many: the page stays small."""
GAP, HEAD = 20, 44
"""Between two panels of a file, and above them."""
FILE_CSS = """
.page { fill: #fff; } text { fill: #5c6673; font: 11px system-ui, "Liberation Sans", "DejaVu Sans", sans-serif; }
.title { fill: #1c2127; font-weight: 600; font-size: 13px; }
.grid { stroke: #e6e9ed; } .zero, .axis { stroke: #5c6673; stroke-opacity: .55; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .thin { stroke-width: .8; stroke-dasharray: 4 3; }
.band.s0 { fill: #2563c9; fill-opacity: .16; } .line.s0 { stroke: #2563c9; } .line.s1 { stroke: #d9730d; }
.bar.s0 { fill: #2563c9; } .bar.s1 { fill: #d9730d; } .bar.s2, .mark.s2 { fill: #1a8f5c; }
@media (prefers-color-scheme: dark) {
  .page { fill: #14171b; } text { fill: #9aa5b1; } .title { fill: #e4e8ec; }
  .grid { stroke: #2a3038; } .zero, .axis { stroke: #9aa5b1; }
  .band.s0 { fill: #6ea8ff; } .line.s0 { stroke: #6ea8ff; } .line.s1 { stroke: #ffa45c; }
  .bar.s0 { fill: #6ea8ff; } .bar.s1 { fill: #ffa45c; } .bar.s2, .mark.s2 { fill: #56c795; }
}
"""
COLUMNS, ROWS, WIDEST = 60, 9, 4
MEAN, BEST, BAND = "=", "o", ":"


def by_mean(items: Sequence[ItemScores]) -> list[ItemScores]:
    """Items with a vote, the lowest mean first; of equal means the lower best first."""
    return sorted(voting(items), key=lambda item: (item.mean, item.best, item.task_id))


def picture(split: str, items: Sequence[ItemScores], samples: int) -> str:
    """One panel as a figure with inline SVG, for a page; empty text of no items."""
    ordered = by_mean(items)
    if not ordered:
        return ""
    frame, ranks = _frame(ordered)
    width = max(1.0, frame.step_width)
    hover = [
        f'<rect class="hover" x="{frame.x(rank) - width / 2:.1f}" y="{TOP}" width="{width:.1f}"'
        f' height="{HEIGHT - TOP - BOTTOM}"><title>{_told(item)}</title></rect>'
        for rank, item in ranks
    ]
    keys = "".join(f'<span class="key"><i class="{colour}"></i>{label}</span>' for colour, label in _labels(samples))
    title = f"{split}, {len(ordered)} items x {samples}"
    said = f"{title}: mean score, band of one standard deviation and best of {samples}, items sorted by mean"
    drawn = "".join([*_panel(ordered), *hover])
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption><div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(said)}">{drawn}</svg></figure>'
    )


def picture_file(panels: Sequence[tuple[str, Sequence[ItemScores]]], samples: int) -> str:
    """All panels side by side as an SVG file of its own, for a document or a slide."""
    drawn = []
    for column, (split, items) in enumerate(panels):
        ordered = by_mean(items)
        if not ordered:
            continue
        title = f'<text class="title" x="{LEFT}" y="-24">{text(f"{split}, {len(ordered)} items x {samples}")}</text>'
        keys = "".join(
            f'<rect class="bar {colour}" x="{LEFT + shift}" y="-14" width="12" height="3"/>'
            f'<text x="{LEFT + shift + 17}" y="-9">{label}</text>'
            for shift, (colour, label) in zip((0, 160, 250), _labels(samples), strict=True)
        )
        shift = column * (WIDTH + GAP)
        drawn.append(f'<g transform="translate({shift} 0)">{title}{keys}{"".join(_panel(ordered))}</g>')
    width, height = max(1, len(panels)) * (WIDTH + GAP), HEIGHT + HEAD
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{1.2 * width:.0f}" height="{1.2 * height:.0f}"'
        f' viewBox="0 {-HEAD} {width} {height}"><style>{FILE_CSS}</style>'
        f'<rect class="page" y="{-HEAD}" width="{width}" height="{height}"/>{"".join(drawn)}</svg>\n'
    )


def _labels(samples: int) -> tuple[tuple[str, str], ...]:
    return (("s0", "mean, ± one deviation"), ("s2", f"best of {samples}"), ("s1", "mean of all"))


def _frame(ordered: Sequence[ItemScores]) -> tuple[Frame, list[tuple[int, ItemScores]]]:
    """Where things are drawn, and the items that are, with their ranks."""
    ranks = list(enumerate(ordered, start=1))[:: -(-len(ordered) // MAX_MARKS)]
    return Frame([rank for rank, _ in ranks], 0.0, 1.0, margin=0.5, x_label="item, by mean score"), ranks


def _panel(ordered: Sequence[ItemScores]) -> list[str]:
    frame, ranks = _frame(ordered)
    low = [(rank, max(0.0, item.mean - item.spread)) for rank, item in ranks]
    high = [(rank, min(1.0, item.mean + item.spread)) for rank, item in ranks]
    overall = frame.y(fmean(item.mean for item in ordered))
    parts = [frame.axes()]
    if len(ranks) > 1:
        parts.append(f'<polygon class="band s0" points="{frame.path([*high, *reversed(low)])}"/>')
        means = [(rank, item.mean) for rank, item in ranks]
        parts.append(f'<polyline class="line s0" points="{frame.path(means)}"/>')
    line = f'x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{overall:.1f}" y2="{overall:.1f}"'
    parts.append(f'<line class="line thin s1" {line}/>')
    radius = 2.4 if len(ranks) <= 80 else 1.6
    return parts + [
        f'<circle class="mark s2" cx="{frame.x(rank):.1f}" cy="{frame.y(item.best):.1f}" r="{radius}"/>'
        for rank, item in ranks
    ]


def _told(item: ItemScores) -> str:
    scores = ", ".join(number(score) for score in item.scores)
    return text(f"{item.task_id}\nmean {number(item.mean)}, best {number(item.best)}\nscores {scores}")


def picture_lines(items: Sequence[ItemScores]) -> list[str]:
    """The same in characters, of a few columns and rows: several items share a column where there are many."""
    ordered = by_mean(items)
    if not ordered:
        return []
    n_columns = min(COLUMNS, len(ordered))
    edges = [round(column * len(ordered) / n_columns) for column in range(n_columns + 1)]
    columns = [ordered[start:end] for start, end in pairwise(edges)]
    drawn = [_column(column) for column in columns]
    wide = max(1, min(WIDEST, COLUMNS // n_columns))
    lines = []
    for row in reversed(range(ROWS)):
        label = f"{row / (ROWS - 1):.2f}" if row % 2 == 0 else ""
        lines.append(f"{label:>5} |{''.join(column[row] * wide for column in drawn)}".rstrip())
    return [*lines, f"      +{'-' * n_columns * wide}"]


def _column(items: Sequence[ItemScores]) -> list[str]:
    """[rows] characters from the bottom: the band, over it the best, over it the mean."""
    mean, best = fmean(item.mean for item in items), fmean(item.best for item in items)
    spread = fmean(item.spread for item in items)

    def row(score: float) -> int:
        return round(min(1.0, max(0.0, score)) * (ROWS - 1))

    cells = [" "] * ROWS
    if spread > 0:
        for index in range(row(mean - spread), row(mean + spread) + 1):
            cells[index] = BAND
    cells[row(best)] = BEST
    cells[row(mean)] = MEAN
    return cells
