"""Bounds that hold at every look at once, however often one looks and whenever one stops.

The asymptotic confidence sequence with Robbins' normal mixture (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-
uniform central limit theory and asymptotic confidence sequences", arXiv:2103.06476, Theorem 2.2 and, one-sided,
Proposition B.1; Robbins 1970). With r = n rho^2, n the effective sample size, and one side at a time,

    bound = estimate -+ error * sqrt((r + 1) / r) * x,   x solves  2 exp(x^2 / 2) Phi(x) = sqrt(r + 1) / alpha

rho makes the bound narrowest near a planned n; the bound holds for any rho that was chosen before the data. It is
asymptotic: below about 100 sessions an arm the chance of an error is larger than alpha, so gates wait for a minimum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.special import log_ndtr, ndtri, stdtrit  # type: ignore[import-untyped]

from agentrl.release.statistics.bounds import Bounds, defined, undefined
from agentrl.release.statistics.sums import LARGEST_LOG, Estimate

NEWTON_STEPS = 5
MIN_CLUSTERS = 40
"""Independent units in an arm below which a sequence errs more often than it says: `benchmarks/gates.py`, clusters."""


def sequence_width(n_effective: Any, *, alpha: float, planned_n: float) -> Any:
    """How many standard errors a one-sided bound is from the estimate; element by element.

    Args:
        n_effective: see `Estimate`.
        alpha: chance that the bound is ever crossed, at any look.
        planned_n: effective sample size at which the bound is to be narrowest, chosen beforehand.
    """
    r = mixture_ratio(alpha) * np.asarray(n_effective, dtype=np.float64) / planned_n
    with np.errstate(divide="ignore", invalid="ignore"):
        goal = 0.5 * np.log1p(r) - math.log(2 * alpha)
        x = np.sqrt(2 * goal)  # from above: Phi(x) < 1
        for _ in range(NEWTON_STEPS):
            log_phi = log_ndtr(x)
            slope = x + np.exp(-0.5 * x**2 - log_phi) / math.sqrt(2 * math.pi)
            x = x - (0.5 * x**2 + log_phi - goal) / slope
        return np.where(r > 0, np.sqrt((r + 1) / r) * x, np.inf)


def mixture_ratio(alpha: float) -> float:
    """n rho^2 at the planned n: where the two-sided boundary at 2 alpha is narrowest (arXiv:2103.06476, eq. 10)."""
    log_alpha = -2 * math.log(2 * alpha)
    return log_alpha + math.log1p(log_alpha)


def confidence_sequence(
    estimate: Estimate, *, alpha_lower: float, alpha_upper: float, planned_n: float, min_clusters: int = MIN_CLUSTERS
) -> Bounds:
    """Bounds that hold at every look. Ratios are exponentiated, their scale is `ratio`.

    Args:
        alpha_lower, alpha_upper: each side's own risk; a two-sided sequence at alpha takes alpha / 2 twice.
        planned_n: effective sample size at which it is to be narrowest: `planning.Plan.effective`.
        min_clusters: fewer independent clusters in an arm give no bounds; a robust error of a few is too small.
    """

    def width(alpha: float) -> float:
        return float(sequence_width(estimate.n_effective, alpha=alpha, planned_n=planned_n))

    return bounds_of(estimate, width, "confidence_sequence", alpha_lower, alpha_upper, min_clusters)


def fixed_look(estimate: Estimate, *, alpha_lower: float, alpha_upper: float, min_clusters: int = 2) -> Bounds:
    """Student's bounds for one look at a size fixed beforehand. Peeking breaks them: see `benchmarks/gates.py`.

    Degrees of freedom are those of the arm with fewer clusters: a robust error of few of them is too small.
    """
    arms = [estimate.clusters_candidate] + ([] if estimate.scale == "value" else [estimate.clusters_baseline])
    degrees = max(1, min(arms) - 1)

    def width(alpha: float) -> float:
        return float(-stdtrit(degrees, alpha))

    return bounds_of(estimate, width, "fixed_look", alpha_lower, alpha_upper, min_clusters)


def normal_width(alpha: float) -> float:
    """Standard errors of a one-sided normal bound."""
    return float(-ndtri(alpha))


def bounds_of(
    estimate: Estimate,
    width: Callable[[float], float],
    method: str,
    alpha_lower: float,
    alpha_upper: float,
    min_clusters: int,
) -> Bounds:
    """An estimate and, at each side's alpha, that many standard errors; ratios are exponentiated."""
    is_log = estimate.scale == "ratio"
    value = estimate.value
    if value is not None and is_log:
        value = math.exp(value) if abs(value) < LARGEST_LOG else None
    fields: dict[str, Any] = {
        "method": method,
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "scale": estimate.scale,
        "candidate": estimate.candidate,
        "baseline": estimate.baseline,
        "n_candidate": estimate.n_candidate,
        "n_baseline": estimate.n_baseline,
    }
    clusters = [estimate.clusters_candidate]
    clusters += [estimate.clusters_baseline] if estimate.scale != "value" else []
    reason = estimate.problem
    if not reason and min(clusters) < min_clusters:
        reason = f"{min(clusters)} independent units in an arm; a robust error needs {min_clusters}"
    if reason or estimate.value is None or estimate.error is None or value is None:
        return undefined(reason or "there is no estimate", **{**fields, "estimate": value})
    lower = estimate.value - width(alpha_lower) * estimate.error
    upper = estimate.value + width(alpha_upper) * estimate.error
    if is_log:
        with np.errstate(over="ignore"):
            lower, upper = float(np.exp(lower)), float(np.exp(upper))
    return defined(value, lower, upper, **fields)
