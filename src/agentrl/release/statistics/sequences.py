"""Bounds that hold at every look at once, however often one looks and whenever one stops.

The asymptotic confidence sequence with Robbins' normal mixture (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-
uniform central limit theory and asymptotic confidence sequences", arXiv:2103.06476, Theorem 2.2 and, one-sided,
Proposition B.1; Robbins 1970). With r = n rho^2, n the effective sample size, and one side at a time,

    bound = estimate -+ error * sqrt((r + 1) / r) * x,   x solves  2 exp(x^2 / 2) Phi(x) = sqrt(r + 1) / alpha

rho makes the bound narrowest near a planned n; the bound holds for any rho that was chosen before the data. It is
asymptotic: below about 100 sessions an arm the chance of an error is larger than alpha, so gates wait for a minimum.
"""

from __future__ import annotations

from typing import Any

from agentrl.release.statistics.bounds import Bounds
from agentrl.release.statistics.sums import Estimate


def sequence_width(n_effective: Any, *, alpha: float, planned_n: float) -> Any:
    """How many standard errors a one-sided bound is from the estimate; element by element.

    Args:
        n_effective: see `Estimate`.
        alpha: chance that the bound is ever crossed, at any look.
        planned_n: effective sample size at which the bound is to be narrowest, chosen beforehand.
    """
    raise NotImplementedError


def confidence_sequence(
    estimate: Estimate, *, alpha_lower: float, alpha_upper: float, planned_n: float, min_clusters: int = 2
) -> Bounds:
    """Bounds that hold at every look. Ratios are exponentiated, their scale is `ratio`.

    Args:
        alpha_lower, alpha_upper: each side's own risk; a two-sided sequence at alpha takes alpha / 2 twice.
        planned_n: effective sample size at which it is to be narrowest: `planning.Plan.effective`.
        min_clusters: fewer independent clusters in an arm give no bounds; a robust error of a few is too small.
    """
    raise NotImplementedError


def fixed_look(estimate: Estimate, *, alpha_lower: float, alpha_upper: float, min_clusters: int = 2) -> Bounds:
    """Normal bounds for one look at a size fixed beforehand. Peeking breaks them: see `benchmarks/gates.py`."""
    raise NotImplementedError
