"""The Goodhart plot: score and hold-out score over the distance from the baseline, d = sqrt(KL) in sqrt(nats).

Gao, Schulman and Hilton 2022 (arXiv:2210.10760) found that under reinforcement learning what is really wanted grows
with d as d (a - b ln d) above the baseline, and under best-of-n sampling as d (a - b d): up, over a peak, and down,
while the score that is optimised goes on rising. The curve is drawn, thin, to be looked at; rules stop a run, not it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np

from agentrl.evaluation.charts import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH, Frame, number
from agentrl.runs.files import finite

MIN_POINTS = 5  # evaluations besides the baseline before two coefficients are fitted to them
TITLE = "Score and hold-out score by distance from the baseline"


def best_of_n_kl(n: int) -> float:
    """KL(best of n samples || one sample), in nats: ln n - (n - 1) / n."""
    return math.log(n) - (n - 1) / n


class Peak(NamedTuple):
    """Where what is really wanted is greatest, and how much of it there is above the baseline."""

    sqrt_kl: float
    score: float


def best_of_n_peak(a: float, b: float) -> Peak:
    """Of d (a - b d)."""
    return Peak(a / (2 * b), a * a / (4 * b))


def rl_peak(a: float, b: float) -> Peak:
    """Of d (a - b ln d)."""
    d = math.exp(a / b - 1)
    return Peak(d, b * d)


class Fit(NamedTuple):
    """Of base + d (a - b ln d)."""

    base: float
    a: float
    b: float

    def at(self, sqrt_kl: float) -> float:
        return self.base + (sqrt_kl * (self.a - self.b * math.log(sqrt_kl)) if sqrt_kl > 0 else 0.0)


@dataclass(frozen=True)
class Measured:
    """A score of one evaluation, with its 95 % interval."""

    step: int
    sqrt_kl: float
    score: float
    low: float
    high: float


class Goodhart(NamedTuple):
    """What is drawn; in order of steps, the baseline first where it is known."""

    rewards: tuple[Measured, ...]
    holdouts: tuple[Measured, ...]


def goodhart_of(rows: Sequence[Mapping[str, Any]]) -> Goodhart:
    """Of the metrics of a run's steps, in order; a row of step 0 is the baseline."""
    found = [
        tuple(
            Measured(
                int(row["step"]), distance, score, _bound(row, f"{key}_low", score), _bound(row, f"{key}_high", score)
            )
            for row in rows
            if (score := finite(row.get(key))) is not None
            and (distance := 0.0 if row["step"] == 0 else finite(row.get("sqrt_kl"))) is not None
        )
        for key in ("reward_validation", "holdout_score_validation")
    ]
    return Goodhart(*found)


def _bound(row: Mapping[str, Any], key: str, score: float) -> float:
    found = finite(row.get(key))
    return score if found is None else found


def fit(points: Sequence[Measured]) -> Fit | None:
    """Least squares through the baseline's score; None for too few points, or where they bend the other way."""
    if not points or points[0].step != 0:
        return None
    base, rest = points[0].score, [point for point in points[1:] if point.sqrt_kl > 0]
    if len(rest) < MIN_POINTS:
        return None
    d = np.array([point.sqrt_kl for point in rest])
    above = np.array([point.score - base for point in rest])
    (a, b), _, rank, _ = np.linalg.lstsq(np.stack([d, -d * np.log(d)], axis=1), above, rcond=None)
    return Fit(base, float(a), float(b)) if rank == 2 and b > 0 else None


def goodhart_chart(found: Goodhart, *, best_step: int | None = None) -> str:
    """The plot as a figure of report.html; empty text without a hold-out score."""
    if not found.holdouts:
        return ""
    keys = "".join(f'<span class="key"><i class="s{i}"></i>{label}</span>' for i, label in enumerate(_LABELS))
    return (
        f'<figure class="chart"><figcaption>{TITLE}</figcaption><div class="legend">{keys}</div>'
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{TITLE}">{_drawing(found, best_step)}</svg>'
        "</figure>"
    )


def goodhart_svg(found: Goodhart, *, best_step: int | None = None) -> str:
    """The plot as a file of its own, with its legend."""
    legend = "".join(
        f'<rect class="bar s{i}" x="{LEFT + 130 * i}" y="-12" width="12" height="3"/>'
        f'<text x="{LEFT + 130 * i + 17}" y="-7">{label}</text>'
        for i, label in enumerate(_LABELS)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * 1.7:.0f}" height="{(HEIGHT + 26) * 1.7:.0f}" '
        f'viewBox="0 -26 {WIDTH} {HEIGHT + 26}"><style>{_STYLE}</style>'
        f'<rect x="0" y="-26" width="{WIDTH}" height="{HEIGHT + 26}" fill="#fff"/>'
        f"{legend}{_drawing(found, best_step)}</svg>\n"
    )


_LABELS = ("score", "hold-out score")
_STYLE = """
text { fill: #5c6673; font: 11px system-ui, "Liberation Sans", "DejaVu Sans", sans-serif; }
.grid { stroke: #e6e9ed; } .zero, .axis { stroke: #5c6673; stroke-opacity: .55; }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; } .thin { stroke-width: .8; stroke-dasharray: 4 3; }
.whisker { stroke-width: 1; stroke-opacity: .45; fill: none; }
.ring { fill: none; stroke: #1c2127; stroke-width: 1.2; } .hover { fill: transparent; }
.s0 { stroke: #2563c9; } .s1 { stroke: #d9730d; }
.mark.s0, .bar.s0 { fill: #2563c9; stroke: none; } .mark.s1, .bar.s1 { fill: #d9730d; stroke: none; }
"""


def _drawing(found: Goodhart, best_step: int | None) -> str:
    curve, points = fit(found.holdouts), [*found.rewards, *found.holdouts]
    farthest = max(point.sqrt_kl for point in points)
    steps = [farthest * i / 60 for i in range(61)]
    values = [bound for point in points for bound in (point.low, point.high)]
    frame = Frame([0.0, *(point.sqrt_kl for point in points)], min(values), max(values), x_label="sqrt(KL), sqrt(nats)")
    parts = [frame.axes()]
    if curve is not None:
        inside = [(d, curve.at(d)) for d in steps if frame.low <= curve.at(d) <= frame.high]
        parts.append(f'<polyline class="line thin s1" points="{frame.path(inside)}"/>')
    for index, series in enumerate(found):
        if len(series) > 1:
            path = frame.path([(point.sqrt_kl, point.score) for point in series])
            parts.append(f'<polyline class="line s{index}" points="{path}"/>')
        for point in series:
            x, y = frame.x(point.sqrt_kl), frame.y(point.score)
            ends = frame.path([(point.sqrt_kl, point.low), (point.sqrt_kl, point.high)])
            name = "baseline" if point.step == 0 else f"step {point.step}"
            said = f"{name}, {_LABELS[index]} {number(point.score)} [{number(point.low)}, {number(point.high)}]"
            parts.append(f'<polyline class="whisker s{index}" points="{ends}"/>')
            spot = f'class="mark s{index}" cx="{x:.1f}" cy="{y:.1f}" r="2.4"'
            parts.append(f"<circle {spot}><title>{escape(said)}</title></circle>")
    parts += _named(frame, found.holdouts, best_step)
    return "".join(parts)


def _named(frame: Frame, points: Sequence[Measured], best_step: int | None) -> list[str]:
    """Rings around baseline and best."""
    parts = []
    for step, name in {0: "baseline", **({} if best_step is None else {best_step: "best"})}.items():
        for point in points:
            if point.step == step:
                x, y = frame.x(point.sqrt_kl), frame.y(point.score)
                anchor = "start" if x < WIDTH - RIGHT - 60 else "end"
                parts.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="5"/>')
                label = (
                    f'x="{x + 7:.1f}" y="{y + 18 if y < HEIGHT - BOTTOM - 24 else y - 10:.1f}" text-anchor="{anchor}"'
                )
                parts.append(f"<text {label}>{name}</text>")
    return parts
