"""How surprising a paired change is, and how much less so where many were looked at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from agentrl.evaluation.intervals import RESAMPLES, SEED, Floats

PIECE = 4_000_000
NOISE = 1e-9
"""Sums of the same changes in another order may differ in the last bits; that is no smaller change."""


def sign_flip_p_values(changes_NK: ArrayLike, *, flips: int = RESAMPLES, seed: int = SEED) -> Floats:
    """[K] two-sided p-values of mean changes of 0, by flipping the signs of items' changes at random.

    (1 + flips with a sum at least as far from 0) / (1 + flips): Fisher 1935; never 0 (Phipson and Smyth 2010). Exact
    where a change is as likely as its opposite; the smallest possible value is 1 / (1 + flips).
    """
    changes = np.asarray(changes_NK, dtype=np.float64)
    n_items = len(changes)
    if not n_items:
        return np.ones(changes.shape[1])
    limit = np.abs(changes.sum(axis=0)) - NOISE
    rng, rows = np.random.default_rng(seed), max(1, PIECE // n_items)
    as_far = np.zeros(changes.shape[1])
    for start in range(0, flips, rows):
        signs_rN = 1.0 - 2.0 * rng.integers(0, 2, size=(min(rows, flips - start), n_items))
        as_far += (np.abs(signs_rN @ changes) >= limit).sum(axis=0)
    return np.asarray((1 + as_far) / (1 + flips))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values, each as large as its place among them demands (Holm 1979).

    Below 0.05, all of those that are so are real in 19 of 20 families, however many were looked at.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted, largest = [1.0] * len(p_values), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def binomial_p_value(some: int, others: int) -> float:
    """Two-sided, exact: that a fair coin falls at least as unevenly. McNemar's test and the sign test are this one."""
    n, fewer = some + others, min(some, others)
    ways, tail = 1, 0  # C(n, k) of k so far, and their sum
    for k in range(fewer + 1):
        tail += ways
        ways = ways * (n - k) // (k + 1)
    return min(1.0, tail / 2 ** (n - 1)) if n else 1.0
