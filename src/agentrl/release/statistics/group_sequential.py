"""Bounds for a few looks that were registered beforehand: narrower than a sequence at the last one.

Lan & DeMets (1983) spending of O'Brien-Fleming's shape, alpha*(t) = 2 - 2 Phi(z_{alpha/2} / sqrt(t)); the boundaries
come from the recursion of Armitage, McPherson & Rowe (1969), by quadrature.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.release.statistics.bounds import Bounds
from agentrl.release.statistics.sums import Estimate


def spent_alpha(fraction: float, alpha: float) -> float:
    """Of a one-sided alpha, what may have been spent once a fraction (0, 1] of the information is in."""
    raise NotImplementedError


def look_boundaries(fractions: Sequence[float], alpha: float) -> tuple[float, ...]:
    """Standard errors from the estimate at each look, so that all of them together cost a one-sided alpha.

    Args:
        fractions: of the planned information at the looks, growing, the last at most 1.
    """
    raise NotImplementedError


def looks_due(n_effective: float, planned_n: float, looks: int) -> int:
    """How many of `looks` evenly spaced ones the data is enough for: look k is taken at k / looks of the plan.

    Each is to be taken on the sessions up to that size alone, which makes it a function of the evidence and not of
    when somebody looked.
    """
    raise NotImplementedError


def group_sequential(
    estimate: Estimate, *, alpha_lower: float, alpha_upper: float, look: int, looks: int, min_clusters: int = 2
) -> Bounds:
    """Bounds at look number `look` (from 1) of `looks` evenly spaced ones; undefined at look 0: none is due yet."""
    raise NotImplementedError
