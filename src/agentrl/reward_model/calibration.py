"""How well a model's confidence fits what happened: accuracy, NLL, Brier, ECE, temperature.

Of a comparison, m = reward of the better episode - reward of the worse one; the model is right where m > 0, and
claims to be so with probability sigmoid(|m|) (Bradley-Terry). Everything is in float64 and in nats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

BINS = 10
COLDEST, HOTTEST = 1e-3, 1e3
"""Temperatures beyond are not told apart from these."""


def floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)


def sigmoid(logits: ArrayLike) -> Floats:
    return floats(0.5 * (1 + np.tanh(floats(logits) / 2)))


def is_right(margins: ArrayLike) -> Floats:
    """1 where the better episode got the higher reward, 0 where the lower one, 0.5 for a tie."""
    return floats((np.sign(floats(margins)) + 1) / 2)


def accuracy(margins: ArrayLike) -> float:
    return float(is_right(margins).mean())


def nll(margins: ArrayLike) -> float:
    """Mean of -log sigmoid(m), in nats: ln 2 for a model that knows nothing."""
    return float(np.logaddexp(0, -floats(margins)).mean())


def brier(probabilities: ArrayLike, outcomes: ArrayLike) -> float:
    """Mean squared distance of probability and outcome."""
    return float(((floats(probabilities) - floats(outcomes)) ** 2).mean())


@dataclass(frozen=True)
class Bin:
    """What came of the predictions in one range of confidence."""

    n: int
    low: float
    high: float
    confidence: float
    """Mean of what was claimed."""
    outcome: float
    """Mean of what happened."""
    spread: float
    """Standard deviation of outcome less claim."""


def reliability(probabilities: ArrayLike, outcomes: ArrayLike, *, bins: int = BINS, equal_mass: bool) -> list[Bin]:
    """Predictions in bins of confidence, empty ones left out.

    Args:
        equal_mass: bins of equally many predictions; else of equal width between 0 and 1.
    """
    p, y = floats(probabilities), floats(outcomes)
    order = np.argsort(p, kind="stable")
    if equal_mass:
        parts = [part for part in np.array_split(order, min(bins, len(order))) if len(part)]
        edges = [(float(p[part].min()), float(p[part].max())) for part in parts]
    else:
        index = np.minimum((p * bins).astype(int), bins - 1)
        numbers = [number for number in range(bins) if (index == number).any()]
        parts = [np.flatnonzero(index == number) for number in numbers]
        edges = [(number / bins, (number + 1) / bins) for number in numbers]
    return [
        Bin(len(part), low, high, float(p[part].mean()), float(y[part].mean()), float((y[part] - p[part]).std()))
        for part, (low, high) in zip(parts, edges, strict=True)
    ]


def ece(table: Sequence[Bin]) -> float:
    """Expected calibration error: mean distance of claim and outcome over all predictions."""
    return sum(each.n * abs(each.confidence - each.outcome) for each in table) / sum(each.n for each in table)


def ece_of_chance(table: Sequence[Bin]) -> float:
    """What the same number of predictions would show by chance, were every bin's claim right.

    A bin's mean is off by |N(0, spread^2 / n)|, whose mean is spread * sqrt(2 / (pi n)). With some hundreds of
    predictions this is most of the ECE.
    """
    total = sum(each.n for each in table)
    return sum(each.n * each.spread * math.sqrt(2 / (math.pi * each.n)) for each in table) / total


def fit_temperature(logits: ArrayLike, outcomes: ArrayLike | None = None) -> float:
    """The T that makes sigmoid(logit / T) fit best, by cross entropy; of margins every outcome is 1.

    The loss is convex in 1 / T, so its slope is bisected. A sample without a mistake would want T = 0: see `COLDEST`.
    """
    z = floats(logits)
    y = np.ones_like(z) if outcomes is None else floats(outcomes)

    def slope(inverse: float) -> float:
        return float(((sigmoid(z * inverse) - y) * z).mean())

    low, high = 1 / HOTTEST, 1 / COLDEST
    if slope(low) >= 0:
        return HOTTEST  # worse than chance: no confidence is right
    if slope(high) <= 0:
        return COLDEST
    for _ in range(200):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return 1 / math.sqrt(low * high)


def within(values: ArrayLike, groups: Sequence[str]) -> Floats:
    """Each value less the mean of its group."""
    array = floats(values)
    _, index = np.unique(np.asarray(groups), return_inverse=True)
    means = np.bincount(index, weights=array) / np.bincount(index)
    return floats(array - means[index])
