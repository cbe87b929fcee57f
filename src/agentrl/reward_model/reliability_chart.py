"""The reliability plot: what was claimed against what came true, as an SVG that stands by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from agentrl.evaluation.intervals import wilson

WIDTH, HEIGHT = 460, 360
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 92
BARS = 40
"""Height of the strip of counts below."""
STYLE = (
    "text{font:11px system-ui,'DejaVu Sans',sans-serif;fill:#5d6875}.grid{stroke:#e6e9ed}.axis{stroke:#9aa5b1}"
    ".even{stroke:#5d6875;stroke-dasharray:4 4}.raw{stroke:#d9730d;fill:#d9730d}.scaled{stroke:#2563c9;fill:#2563c9}"
    ".line{fill:none;stroke-width:1.8}.error{stroke-opacity:.5}.bar{fill:#55707f;fill-opacity:.45}"
)
"""Colours written out: the file is shown outside of a page as well."""

Bins = Sequence[Mapping[str, Any]]


def reliability_chart(series: Sequence[tuple[str, str, Bins]], *, low: float, x: str, y: str) -> str:
    """Mean outcome over mean confidence of each bin, with 95 % intervals, and the last series' counts below.

    Args:
        series: label, class (`raw` or `scaled`) and bins.
        low: where both axes begin; they end at 1.
    """
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    low = min([low, *(each["confidence"] for _, _, bins in series for each in bins)])

    def at(value: float) -> float:
        return LEFT + (value - low) / (1 - low) * (right - LEFT)

    def up(value: float) -> float:
        return floor - (max(value, low) - low) / (1 - low) * (floor - TOP)

    parts = [f"<style>{STYLE}</style>", f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for step in range(6):
        value = low + (1 - low) * step / 5
        across, height = at(value), up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{height:.1f}" y2="{height:.1f}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:.2f}</text>')
        parts.append(f'<text x="{across:.1f}" y="{floor + 16}" text-anchor="middle">{value:.2f}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{floor}" y2="{floor}"/>')
    parts.append(f'<line class="even" x1="{at(low):.1f}" y1="{up(low):.1f}" x2="{at(1):.1f}" y2="{up(1):.1f}"/>')
    for index, (label, kind, bins) in enumerate(series):
        points = [(at(each["confidence"]), up(each["outcome"])) for each in bins]
        parts.append(f'<polyline class="line {kind}" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>')
        for (across, height), each in zip(points, bins, strict=True):
            bottom, top = wilson(each["outcome"] * each["n"], each["n"])
            title = f"claimed {each['confidence']:.3f}, came true {each['outcome']:.3f}, of {each['n']}"
            parts.append(
                f'<line class="error {kind}" x1="{across:.1f}" x2="{across:.1f}" y1="{up(bottom):.1f}" '
                f'y2="{up(top):.1f}"/><circle class="{kind}" cx="{across:.1f}" cy="{height:.1f}" r="3">'
                f"<title>{escape(title)}</title></circle>"
            )
        key = TOP + 14 + 16 * index
        parts.append(f'<line class="line {kind}" x1="{LEFT + 10}" x2="{LEFT + 28}" y1="{key - 4}" y2="{key - 4}"/>')
        parts.append(f'<text x="{LEFT + 34}" y="{key}">{escape(label)}</text>')
    parts += _counts(series[-1][2] if series else (), at)
    parts.append(f'<text x="{(LEFT + right) / 2}" y="{floor + 32}" text-anchor="middle">{escape(x)}</text>')
    middle = (TOP + floor) / 2
    parts.append(f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">{escape(y)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" aria-label="{escape(y)} by {escape(x)}">{"".join(parts)}</svg>'
    )


def _counts(bins: Bins, at: Any) -> list[str]:
    most = max((each["n"] for each in bins), default=1)
    base = HEIGHT - 4
    return [
        f'<rect class="bar" x="{at(each["confidence"]) - 4:.1f}" width="8" y="{base - BARS * each["n"] / most:.1f}" '
        f'height="{BARS * each["n"] / most:.1f}"><title>{each["n"]}</title></rect>'
        for each in bins
    ]
