"""Bounds for a few looks that were registered beforehand: narrower than a sequence at the last one.

Lan & DeMets (1983) spending of O'Brien-Fleming's shape, alpha*(t) = 2 - 2 Phi(z_{alpha/2} / sqrt(t)); the boundaries
come from the recursion of Armitage, McPherson & Rowe (1969), by quadrature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri  # type: ignore[import-untyped]

from agentrl.release.statistics.bounds import Bounds, undefined
from agentrl.release.statistics.sequences import MIN_CLUSTERS, bounds_of
from agentrl.release.statistics.sums import Estimate


def spent_alpha(fraction: float, alpha: float) -> float:
    """Of a one-sided alpha, what may have been spent once a fraction (0, 1] of the information is in."""
    if fraction <= 0:
        return 0.0
    return float(2 - 2 * ndtr(-ndtri(alpha / 2) / math.sqrt(min(fraction, 1.0))))


def look_boundaries(fractions: Sequence[float], alpha: float) -> tuple[float, ...]:
    """Standard errors from the estimate at each look, so that all of them together cost a one-sided alpha.

    Args:
        fractions: of the planned information at the looks, growing, the last at most 1.
    """
    return _look_boundaries(tuple(fractions), alpha)


@lru_cache(maxsize=256)
def _look_boundaries(fractions: tuple[float, ...], alpha: float) -> tuple[float, ...]:
    walk, spent, found = Walk(), 0.0, []
    for fraction in fractions:
        may_spend = spent_alpha(fraction, alpha)
        low, high = -10.0, 10.0  # in standard errors
        for _ in range(60):
            middle = (low + high) / 2
            is_too_likely = walk.chance_beyond(fraction, middle * math.sqrt(fraction)) > may_spend - spent
            low, high = (middle, high) if is_too_likely else (low, middle)
        walk.step(fraction, high * math.sqrt(fraction))
        found.append(high)
        spent = may_spend
    return tuple(found)


class Walk:
    """Brownian motion that stops at the first look beyond a boundary: its density among those that go on.

    Gauss-Legendre nodes from `REACH` standard deviations below to the boundary.
    """

    NODES = 240
    REACH = 8.0

    def __init__(self, drift: float = 0.0) -> None:
        self.drift, self.time = drift, 0.0
        self.at: Any = np.zeros(1)
        self.mass: Any = np.ones(1)
        """Chance at every node: density times the node's weight."""

    def chance_beyond(self, time: float, boundary: float) -> float:
        """Of having gone on until now and being beyond the boundary at a later time."""
        passed = time - self.time
        return float(self.mass @ ndtr((self.at + self.drift * passed - boundary) / math.sqrt(passed)))

    def step(self, time: float, boundary: float) -> None:
        """Go on to a look, and stop what is beyond its boundary."""
        passed = time - self.time
        nodes, weights = _quadrature(self.NODES)
        low = min(self.drift * time, boundary) - self.REACH * math.sqrt(time)
        half = (boundary - low) / 2
        at = low + half * (nodes + 1)
        gaps = (at[:, None] - self.at[None, :] - self.drift * passed) / math.sqrt(passed)
        density = np.exp(-0.5 * gaps**2) @ self.mass / math.sqrt(2 * math.pi * passed)
        self.time, self.at, self.mass = time, at, half * weights * density


@lru_cache
def _quadrature(nodes: int) -> tuple[Any, Any]:
    """Points and weights of Gauss and Legendre: an eigenvalue problem, the same at every step."""
    at, weights = np.polynomial.legendre.leggauss(nodes)
    return at, weights


def crossing_chances(times: Sequence[float], boundaries: Sequence[float], drift: float) -> Iterator[float]:
    """Chance of having crossed at each look or before; boundaries are on the scale of the walk itself."""
    walk, crossed = Walk(drift), 0.0
    for time, boundary in zip(times, boundaries, strict=True):
        crossed += walk.chance_beyond(time, boundary)
        yield crossed
        walk.step(time, boundary)


def group_sequential(
    estimate: Estimate,
    *,
    alpha_lower: float,
    alpha_upper: float,
    look: int,
    looks: int,
    min_clusters: int = MIN_CLUSTERS,
) -> Bounds:
    """Bounds at look number `look` (from 1) of `looks` evenly spaced ones; undefined at look 0: none is due yet."""
    if not 1 <= look <= looks:
        return undefined(
            f"look {look} of {looks}: none is due yet",
            method="group_sequential",
            alpha_lower=alpha_lower,
            alpha_upper=alpha_upper,
            scale=estimate.scale,
            n_candidate=estimate.n_candidate,
            n_baseline=estimate.n_baseline,
        )

    def width(alpha: float) -> float:
        return look_boundaries([number / looks for number in range(1, looks + 1)], alpha)[look - 1]

    return bounds_of(estimate, width, "group_sequential", alpha_lower, alpha_upper, min_clusters)
