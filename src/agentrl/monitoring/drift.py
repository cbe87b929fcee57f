"""Two rules that find a change to harm in a series of sessions, each with a stated time between false alarms.

CUSUM (Page 1954): the log-likelihood ratio of "shifted by what the rule is tuned to" against "as expected", summed and
never let below 0. Soonest to find that shift among all rules of the same false-alarm rate (Moustakides 1986). By Wald's
approximation, in which the overshoot is left out, so that the true time is longer,

    sessions between false alarms = (exp(h) - h - 1) / information

with the threshold h and the information that one session has against the shift, in nats.

EWMA (Roberts 1959): the mean of what came last, each session weighing a little less than the next one. What people see
in a chart; soonest for large shifts. Its run length comes from Brook & Evans' (1972) Markov chain, corrected for
skewness by Cornish & Fisher: of rare events, more runs pass a symmetric limit than a bell curve says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

EWMA_WEIGHT = 0.02
"""Of the newest session: about the last hundred count."""
STATES = 80
LOWEST = -4.0
"""Standard deviations below which the Markov chain has its last state."""


@dataclass(frozen=True)
class Crossing:
    """A rule gave alarm."""

    index: int
    """Of the session at which it did."""
    onset: int
    """Of the session with which the change began, as the rule sees it."""


def cusum_threshold(sessions_between: float, information: float) -> float:
    """h with the stated number of sessions between false alarms, at least.

    Args:
        information: nats that one session has on average, as expected, against the shift: KL(expected || shifted).
    """
    goal, low, high = sessions_between * information, 0.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if math.expm1(middle) - middle < goal else (low, middle)
    return high


def cusum(ratios: Floats, threshold: float) -> Iterator[Crossing]:
    """Alarms of a series of log-likelihood ratios; after each the sum starts at 0 again."""
    start = 0
    while start < len(ratios):
        walk = np.concatenate([[0.0], ratios[start:].cumsum()])
        lowest = np.minimum.accumulate(walk)
        above = np.flatnonzero(walk - lowest >= threshold)
        if not len(above):
            return
        first = int(above[0])
        onset = int(np.flatnonzero(walk[: first + 1] <= lowest[first])[-1])
        yield Crossing(start + first - 1, start + onset)
        start += first


def ewma(values: Floats, weight: float = EWMA_WEIGHT) -> Floats:
    """Of standardised values, in its own standard deviations: 0 at first, and that of a long run throughout."""
    found, last = np.empty(len(values)), 0.0
    for index, value in enumerate(values.tolist()):
        last += weight * (value - last)
        found[index] = last
    return found / math.sqrt(weight / (2 - weight))


def ewma_crossings(values: Floats, limit: float, weight: float = EWMA_WEIGHT) -> Iterator[Crossing]:
    """Alarms of standardised values; after each the average starts at 0 again."""
    start = 0
    while start < len(values):
        smooth = ewma(values[start:], weight)
        above = np.flatnonzero(smooth >= limit)
        if not len(above):
            return
        first = int(above[0])
        below = np.flatnonzero(smooth[:first] <= 0)
        yield Crossing(start + first, start + (int(below[-1]) + 1 if len(below) else 0))
        start += first + 1


@lru_cache(maxsize=64)
def ewma_limit(sessions_between: float, weight: float = EWMA_WEIGHT) -> float:
    """Limit in standard deviations of the average, of values on a bell curve."""
    low, high = 1.0, 8.0
    for _ in range(22):
        middle = (low + high) / 2
        low, high = (middle, high) if _ewma_run_length(middle, weight) < sessions_between else (low, middle)
    return high


def skewed(limit: float, skewness: float, weight: float = EWMA_WEIGHT) -> float:
    """The limit for values of a skewness to the harmful side (Cornish & Fisher 1937, first term); never lower."""
    of_average = skewness * weight**3 / (1 - (1 - weight) ** 3) / (weight / (2 - weight)) ** 1.5
    return float(limit + max(0.0, (limit**2 - 1) * of_average / 6))


def _ewma_run_length(limit: float, weight: float) -> float:
    """Mean sessions until a one-sided average of standard normal values passes the limit."""
    width = (limit - LOWEST) / STATES
    middles = LOWEST + width * (np.arange(STATES) + 0.5)
    step = math.sqrt(weight * (2 - weight))  # of a new value, in standard deviations of the average
    edges = (LOWEST + width * np.arange(STATES + 1))[None, :] - (1 - weight) * middles[:, None]
    chances = _normal_cdf(edges / step)
    chances[:, 0] = 0.0  # what falls below stays in the lowest state
    moves = np.diff(chances, axis=1)
    times: Any = np.linalg.solve(np.eye(STATES) - moves, np.ones(STATES))
    start: float = times[np.argmin(np.abs(middles))]
    return start


_NORMAL = NormalDist()
_normal_cdf: Any = np.vectorize(_NORMAL.cdf, otypes=[np.float64])
