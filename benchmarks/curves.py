"""Learning curves over wall-clock time: when they reach a reward, and what they look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from agentrl.evaluation.charts import ticks

COLOURS = ("#1f6feb", "#d1570b", "#2e8b57", "#8250df")


@dataclass(frozen=True)
class Point:
    """A policy on the way, and what it took."""

    rollouts: int
    seconds: float
    reward: float
    """On validation."""


def seconds_to(points: Sequence[Point], reward: float) -> float | None:
    """When a curve first reaches a reward, between two points on the line through them; None where it does not."""
    for before, after in pairwise(points):
        if after.reward >= reward:
            share = (reward - before.reward) / (after.reward - before.reward)
            return before.seconds + share * (after.seconds - before.seconds)
    return None


def plot(curves: dict[str, list[Point]], target: float) -> str:
    """All curves as one SVG: validation reward over minutes of training."""
    width, height, left, top, floor = 640, 360, 56, 24, 316
    points = [point for curve in curves.values() for point in curve]
    across = ticks(0.0, max(point.seconds for point in points) / 60)
    up = ticks(min(point.reward for point in points), max(target, *(point.reward for point in points)))

    def x(minutes: float) -> float:
        return left + minutes / across[-1] * (width - left - 16)

    def y(reward: float) -> float:
        return floor - (reward - up[0]) / (up[-1] - up[0]) * (floor - top)

    def text(at: tuple[float, float], words: str, anchor: str = "middle", colour: str = "#444") -> str:
        return f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" text-anchor="{anchor}" fill="{colour}">{escape(words)}</text>'

    def line(ends: Sequence[tuple[float, float]], style: str) -> str:
        return f'<polyline fill="none" points="{" ".join(f"{u:.1f},{v:.1f}" for u, v in ends)}" {style}/>'

    thin = 'stroke="#ddd"'
    parts = [
        line([(left, y(each)), (width - 16, y(each))], thin) + text((left - 6, y(each) + 4), f"{each:g}", "end")
        for each in up
    ]
    parts += [text((x(each), floor + 16), f"{each:g}") for each in across]
    parts.append(line([(left, y(target)), (width - 16, y(target))], 'stroke="#444" stroke-dasharray="5 4"'))
    parts += [text((width / 2, height - 8), "minutes of training"), text((left, 14), "validation reward", "start")]
    for index, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[index % len(COLOURS)]
        ends = [(x(point.seconds / 60), y(point.reward)) for point in curve]
        parts.append(line(ends, f'stroke="{colour}" stroke-width="2"'))
        parts += [f'<circle cx="{u:.1f}" cy="{v:.1f}" r="3" fill="{colour}"/>' for u, v in ends]
        parts.append(text((width - 20, floor - 12 - 16 * index), name, "end", colour))
    size = f'width="{width}" height="{height}" font-family="sans-serif" font-size="12"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            '<rect width="100%" height="100%" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )
