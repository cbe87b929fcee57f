"""Long curves made short, and axes that one value does not stretch: both by rules that a chart says below it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from agentrl.ui.figures import Curve, Numbers

MAX_POINTS = 400
"""Of a curve; longer ones are thinned."""
SPANS = 200
"""That a long curve is cut into, of equal length."""
MIN_VALUES = 10
"""Before any counts as far out."""
USUAL, FAR = 0.9, 5.0
"""Values that lie FAR times as high as this share of all are beyond the axis."""


@dataclass(frozen=True, eq=False)
class Thinned:
    """A curve of at most MAX_POINTS places; [N]."""

    x: Numbers
    y: Numbers
    """Values, or the means of spans."""
    low: Numbers
    """Lowest of the values that each y stands for."""
    high: Numbers
    band: tuple[Numbers, Numbers, Numbers]
    is_thinned: bool = False


def thinned(curve: Curve) -> Thinned:
    """The curve as it is, or each of SPANS spans as its mean between its lowest and its highest value."""
    band = _thinned_band(*curve.band)
    if len(curve.x) <= MAX_POINTS:
        return Thinned(curve.x, curve.y, curve.y, curve.y, band)
    starts = _span_starts(curve.x)
    counts = np.diff([*starts, len(curve.x)])
    x, y = (np.add.reduceat(values, starts) / counts for values in (curve.x, curve.y))
    low, high = (extreme.reduceat(curve.y, starts) for extreme in (np.minimum, np.maximum))
    return Thinned(x, y, low, high, band, is_thinned=True)


def _thinned_band(x: Numbers, low: Numbers, high: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Of a span, the mean bounds."""
    if len(x) <= MAX_POINTS:
        return x, low, high
    starts = _span_starts(x)
    counts = np.diff([*starts, len(x)])
    x, low, high = (np.add.reduceat(values, starts) / counts for values in (x, low, high))
    return x, low, high


def _span_starts(x: Numbers) -> list[int]:
    """Indices at which a span begins; empty spans are left out."""
    if x[-1] <= x[0]:
        return [0]
    spans = np.minimum(((x - x[0]) / (x[-1] - x[0]) * SPANS).astype(int), SPANS - 1)
    return [0, *(np.flatnonzero(np.diff(spans)) + 1).tolist()]


def axis_end(values: Numbers) -> float:
    """Up to where an axis goes: the highest value, or less where a few lie far above all others."""
    ordered = np.sort(values)
    low, high = float(ordered[0]), float(ordered[-1])
    usual = float(ordered[math.ceil(USUAL * len(ordered)) - 1])
    is_far = len(ordered) >= MIN_VALUES and usual > low and high - low > FAR * (usual - low)
    return low + 1.5 * (usual - low) if is_far else high
