"""Counts: intervals and exact tests that are sane where nothing happened, and where everything did.

Wald intervals have no width at 0 of n, and score intervals of a difference may fail to exist there: the usual case of
a safety gate. All functions take one-sided alphas a side; counts are of sessions, or of pairs.
"""

from __future__ import annotations

from agentrl.release.statistics.bounds import Bounds


def newcombe(
    events_candidate: int,
    n_candidate: int,
    events_baseline: int,
    n_baseline: int,
    *,
    alpha_lower: float,
    alpha_upper: float,
) -> Bounds:
    """Difference of two independent proportions, candidate - baseline: Newcombe's hybrid score interval.

    Newcombe 1998, Statistics in Medicine 17:873-890, method 10: the two Wilson intervals, joined by squares.
    """
    raise NotImplementedError


def clopper_pearson(events: int, n: int, *, alpha_lower: float, alpha_upper: float) -> Bounds:
    """Exact bounds of one proportion. None of n has the upper bound 1 - alpha^(1/n), about 3 / n at 5 %."""
    raise NotImplementedError


def mcnemar(only_candidate: int, only_baseline: int) -> tuple[float, float]:
    """Exact one-sided McNemar p-values of discordant pairs: (the candidate has more events, it has fewer).

    Without discordant pairs both are 1.
    """
    raise NotImplementedError


def paired_difference(
    both: int, only_candidate: int, only_baseline: int, neither: int, *, alpha_lower: float, alpha_upper: float
) -> Bounds:
    """Difference of two paired proportions, candidate - baseline: Newcombe's method for pairs.

    Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10. Sane without discordant pairs. Conservative enough
    for non-inferiority where McNemar's test, which knows no margin, is not one.
    """
    raise NotImplementedError
