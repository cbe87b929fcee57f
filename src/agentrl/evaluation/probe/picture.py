"""The variance picture: items sorted by mean score, the best of their samples, and a band of one standard deviation.

Where marks of the best lie above the line, there is something to learn; where band and marks lie on it, there is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from agentrl.evaluation.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Frame, number
from agentrl.evaluation.probe.samples import ItemScores, voting
from agentrl.evaluation.samples import text

MAX_MARKS = 400
"""More items than this are drawn every so many: the page stays small."""
COLUMNS, ROWS = 60, 9
MEAN, BEST, BAND = "=", "o", ":"


def by_mean(items: Sequence[ItemScores]) -> list[ItemScores]:
    """Items with a vote, the lowest mean first; of equal means the lower best first."""
    return sorted(voting(items), key=lambda item: (item.mean, item.best, item.task_id))


def picture(split: str, items: Sequence[ItemScores], samples: int) -> str:
    """One panel as a figure with inline SVG; empty text of no items."""
    ordered = by_mean(items)
    if not ordered:
        return ""
    ranks = [(rank, item) for rank, item in enumerate(ordered, start=1)]
    ranks = ranks[:: -(-len(ranks) // MAX_MARKS)]
    frame = Frame([rank for rank, _ in ranks], 0.0, 1.0, margin=0.5, x_label="item, by mean score")
    low = [(rank, max(0.0, item.mean - item.spread)) for rank, item in ranks]
    high = [(rank, min(1.0, item.mean + item.spread)) for rank, item in ranks]
    overall = frame.y(fmean(item.mean for item in ordered))
    parts = [frame.axes()]
    if len(ranks) > 1:
        parts.append(f'<polygon class="band s0" points="{frame.path([*high, *reversed(low)])}"/>')
        means = [(rank, item.mean) for rank, item in ranks]
        parts.append(f'<polyline class="line s0" points="{frame.path(means)}"/>')
    parts.append(f'<line class="line thin s1" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{overall:.1f}" y2="{overall:.1f}"/>')
    radius = 2.4 if len(ranks) <= 80 else 1.6
    parts += [
        f'<circle class="mark s2" cx="{frame.x(rank):.1f}" cy="{frame.y(item.best):.1f}" r="{radius}"/>'
        for rank, item in ranks
    ]
    width = max(1.0, frame.step_width)
    parts += [
        f'<rect class="hover" x="{frame.x(rank) - width / 2:.1f}" y="{TOP}" width="{width:.1f}"'
        f' height="{HEIGHT - TOP - BOTTOM}"><title>{_told(item)}</title></rect>'
        for rank, item in ranks
    ]
    labels = (("s0", "mean, ± one deviation"), ("s2", f"best of {samples}"), ("s1", "mean of all"))
    keys = "".join(f'<span class="key"><i class="{colour}"></i>{label}</span>' for colour, label in labels)
    title = f"{split}, {len(ordered)} items x {samples}"
    said = f"{title}: mean score, band of one standard deviation and best of {samples}, items sorted by mean"
    return (
        f'<figure class="chart"><figcaption>{text(title)}</figcaption><div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{text(said)}">{"".join(parts)}</svg></figure>'
    )


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
    lines = []
    for row in reversed(range(ROWS)):
        label = f"{row / (ROWS - 1):.2f}" if row % 2 == 0 else ""
        lines.append(f"{label:>5} |{''.join(column[row] for column in drawn)}".rstrip())
    return [*lines, f"      +{'-' * n_columns}"]


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
