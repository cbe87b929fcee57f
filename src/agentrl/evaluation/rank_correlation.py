"""Do two scores go together? Spearman's rank correlation, with an interval over tasks, and Pearson's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentrl.evaluation.intervals import SEED, Floats, Interval, percentile_interval

AGREEMENT = 0.8
"""Spearman from which two graders are taken to say the same: advice for training against evaluation graders."""
RESAMPLES = 1_000
Codes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Agreement:
    """How alike two scores of the same answers order them."""

    n: int
    spearman: float | None
    """None where one of the two never varies, or there are fewer than two."""
    interval: Interval | None
    """95 %, bootstrap over tasks."""

    @property
    def is_enough(self) -> bool:
        return self.spearman is not None and self.spearman >= AGREEMENT


def agreement(a: Sequence[float], b: Sequence[float], tasks: Sequence[str]) -> Agreement:
    found = spearman(a, b)
    return Agreement(len(a), found, None if found is None else spearman_interval(a, b, tasks))


def pearson(a: ArrayLike, b: ArrayLike) -> float | None:
    """Correlation of the values themselves; None where one of the two never varies, or there are fewer than two."""
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / scale if scale > 0 else None


def spearman(a: Sequence[float], b: Sequence[float]) -> float | None:
    """Pearson's correlation of the ranks, ties at their mean rank; None where one of the two never varies.

    Spearman 1904, "The proof and measurement of association between two things".
    """
    if len(a) != len(b):
        raise ValueError(f"found {len(a)} and {len(b)} scores; allowed: as many of each")
    return _correlation(_codes(a), _codes(b), np.ones(len(a))) if len(a) > 1 else None


def spearman_interval(
    a: Sequence[float], b: Sequence[float], tasks: Sequence[str], *, resamples: int = RESAMPLES
) -> Interval | None:
    """95 % percentile bootstrap over tasks: the answers to one task are drawn together, being alike.

    None for fewer than two tasks, or where more than one resample in twenty has no correlation.
    """
    codes_a, codes_b = _codes(a), _codes(b)
    drawn = [_correlation(codes_a, codes_b, weights) for weights in resampled_weights(tasks, resamples)]
    found = [each for each in drawn if each is not None]
    return percentile_interval(found) if found and len(found) >= 0.95 * len(drawn) else None


def mean_interval(values: Sequence[float], tasks: Sequence[str], *, resamples: int = RESAMPLES) -> Interval | None:
    """95 % of the mean over answers, drawn by tasks as in `spearman_interval`; None for fewer than two tasks."""
    array = np.asarray(values, dtype=np.float64)
    drawn = [float(np.average(array, weights=weights)) for weights in resampled_weights(tasks, resamples)]
    return percentile_interval(drawn) if drawn else None


def resampled_weights(tasks: Sequence[str], resamples: int, seed: int = SEED) -> Iterator[Floats]:
    """How often each answer is drawn when tasks are, with replacement; nothing for fewer than two tasks."""
    numbers = {task: number for number, task in enumerate(dict.fromkeys(tasks))}
    if len(numbers) < 2:
        return
    task_of_answer = np.array([numbers[task] for task in tasks])
    rng = np.random.default_rng(seed)
    for _ in range(resamples):
        drawn = np.bincount(rng.integers(0, len(numbers), size=len(numbers)), minlength=len(numbers))
        yield drawn[task_of_answer].astype(np.float64)


def _codes(values: Sequence[float]) -> Codes:
    """Each value's position among the different values."""
    return np.unique(np.asarray(values, dtype=np.float64), return_inverse=True)[1].reshape(-1)


def _correlation(a: Codes, b: Codes, weights: Floats) -> float | None:
    of_a, of_b = _centred_ranks(a, weights), _centred_ranks(b, weights)
    square = float((weights * of_a**2).sum()) * float((weights * of_b**2).sum())
    if square < 1e-12:
        return None
    return float(np.clip(float((weights * of_a * of_b).sum()) / square**0.5, -1.0, 1.0))


def _centred_ranks(codes: Codes, weights: Floats) -> Floats:
    """Mean rank of each value among as many copies as its weight says, less the mean of all ranks."""
    counts = np.bincount(codes, weights=weights)
    ranks = (np.cumsum(counts) - counts / 2)[codes]
    return np.asarray(ranks - weights.sum() / 2)
