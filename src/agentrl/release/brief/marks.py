"""Small drawings of a brief as inline SVG: an interval against its margin, a verdict's sign, scores over weeks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

WIDTH, HEIGHT = 96, 11
FAR = 4.0
"""An interval may reach so many margins from no difference; what lies beyond ends in an arrow."""

GOOD, BAD, WAIT, SOFT, INK, LINE, SHADE = "#12643a", "#a3171d", "#7a5200", "#5a6068", "#17191c", "#1c3f70", "#d4d8de"
"""Those of page.css: what draws the PDF applies no style sheet inside of a drawing."""


def _outline(colour: str) -> str:
    return f'fill="none" stroke="{colour}" stroke-width="1.2"'


CUT = 'fill="none" stroke="#fff" stroke-width="1.4"'
SIGNS: Mapping[str, str] = {
    "pass": f'<circle cx="5" cy="5" r="4.6" fill="{GOOD}"/><path d="M2.7 5.2 4.4 6.9 7.4 3.4" {CUT}/>',
    "fail": f'<rect x=".5" y=".5" width="9" height="9" fill="{BAD}"/><path d="M3 3 7 7M7 3 3 7" {CUT}/>',
    "inconclusive": f'<circle cx="5" cy="5" r="4.1" {_outline(WAIT)}/><path d="M2.8 5h4.4" {_outline(WAIT)}/>',
    "invalid": f'<path d="M5 .8 9.4 9.2H.6Z" {_outline(WAIT)}/><path d="M5 3.8v2.4M5 7.2v.9" {_outline(WAIT)}/>',
    "missing": f'<circle cx="5" cy="5" r="4.1" {_outline(SOFT)} stroke-dasharray="1.4 1.2"/>',
}
"""Each verdict has a shape of its own: a page that is printed in grey still tells them apart."""
INTERVAL = f'fill="none" stroke="{LINE}" stroke-width="1.3"'
WHISKER = f'fill="none" stroke="{LINE}" stroke-width=".7"'
NONE = f'stroke="{SOFT}" stroke-width=".6" stroke-dasharray="1.6 1.2"'
"""The line of no difference."""


def sign(verdict: str) -> Markup:
    """The shape of a verdict; its word stands beside it."""
    return Markup(f'<svg class="sign" viewBox="0 0 10 10" aria-hidden="true">{SIGNS.get(verdict, "")}</svg>')


def interval_mark(row: Mapping[str, Any]) -> Markup:
    """Estimate, interval and margin of a gate on one line; the side that is worse than the margin is shaded.

    Nothing where the verdict has no interval: a mark would have to make one up.
    """
    if row["verdict"] == "missing":
        return Markup()
    estimate, low, high, margin = (row[name]["value"] for name in ("estimate", "lower", "upper", "margin"))
    if estimate is None or margin is None:
        return Markup()
    low, high = (estimate if low is None else low), (estimate if high is None else high)
    none = {"difference": 0.0, "ratio": 1.0}.get(row["scale"])
    is_lower_better = row["direction"] == "lower_is_better"
    anchor = 0.0 if none is None else none
    reach = abs(margin - anchor) or 1.0
    left = max(min(low, margin, anchor), anchor - FAR * reach)
    right = min(max(high, margin, anchor), anchor + FAR * reach)
    pad = 0.08 * (right - left) or 1.0
    left, right = left - pad, right + pad

    def x(value: float) -> float:
        return float(round(WIDTH * min(1.0, max(0.0, (value - left) / (right - left))), 1))

    at, middle = x(margin), HEIGHT / 2
    # of a comparison the margin lies on the worse side of none; a limit is worse where the metric's own direction is
    is_worse_right = is_lower_better if none is None else margin > anchor
    shade = (at, WIDTH - at) if is_worse_right else (0.0, at)
    parts = [
        f'<rect fill="{SHADE}" x="{shade[0]:g}" y="0" width="{shade[1]:g}" height="{HEIGHT}"/>',
        "" if none is None else f'<path {NONE} d="M{x(none):g} 0V{HEIGHT}"/>',
        f'<path d="M{at:g} 0V{HEIGHT}" stroke="{INK}" stroke-width=".9"/>',
        f'<path {INTERVAL} d="M{x(low):g} {middle:g}H{x(high):g}"/>',
        _end(x(low), low < left, is_left=True),
        _end(x(high), high > right, is_left=False),
        f'<circle fill="{LINE}" cx="{x(estimate):g}" cy="{middle:g}" r="2"/>',
    ]
    return Markup(f'<svg class="mark" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')


def _end(at: float, is_cut: bool, *, is_left: bool) -> str:
    """A bar where the interval ends, an arrow where it goes on."""
    middle = HEIGHT / 2
    if not is_cut:
        return f'<path {INTERVAL} d="M{at:g} {middle - 2:g}V{middle + 2:g}"/>'
    back = at + (3 if is_left else -3)
    return f'<path {INTERVAL} d="M{back:g} {middle - 2.5:g}L{at:g} {middle:g}L{back:g} {middle + 2.5:g}"/>'


def sparkline(weeks: Sequence[Mapping[str, Any]], width: int = 150, height: int = 26) -> Markup:
    """Scores of weeks with their intervals; nothing with fewer than two."""
    told = [(index, week) for index, week in enumerate(weeks) if week["score"]["value"] is not None]
    if len(told) < 2:
        return Markup()
    bounds = [
        week[name]["value"]
        for _, week in told
        for name in ("score", "score_low", "score_high")
        if week[name]["value"] is not None
    ]
    low, high = min(bounds), max(bounds)
    span = (high - low) or 1.0

    def x(index: int) -> float:
        return round(4 + (width - 8) * index / max(1, len(weeks) - 1), 1)

    def y(value: float) -> float:
        return float(round(height - 3 - (height - 6) * (value - low) / span, 1))

    whiskers = "".join(
        f'<path {WHISKER} d="M{x(index):g} {y(week["score_low"]["value"]):g}V{y(week["score_high"]["value"]):g}"/>'
        for index, week in told
        if week["score_low"]["value"] is not None and week["score_high"]["value"] is not None
    )
    line = " ".join(f"{x(index):g},{y(week['score']['value']):g}" for index, week in told)
    dots = "".join(
        f'<circle fill="{LINE}" cx="{x(index):g}" cy="{y(week["score"]["value"]):g}" r="1.7"/>' for index, week in told
    )
    return Markup(
        f'<svg class="spark" viewBox="0 0 {width} {height}" aria-hidden="true">{whiskers}'
        f'<polyline fill="none" stroke="{LINE}" stroke-width="1.1" points="{line}"/>{dots}</svg>'
    )
