"""Counts: intervals and exact tests that are sane where nothing happened, and where everything did.

Wald intervals have no width at 0 of n, and score intervals of a difference may fail to exist there: the usual case of
a safety gate. All functions take one-sided alphas a side; counts are of sessions, or of pairs.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from scipy.special import bdtrc, betaincinv, ndtri  # type: ignore[import-untyped]

from agentrl.release.statistics.bounds import Bounds, defined, undefined


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
    fields: dict[str, Any] = {
        "method": "newcombe",
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "n_candidate": n_candidate,
        "n_baseline": n_baseline,
    }
    for arm, events, n in (("candidate", events_candidate, n_candidate), ("baseline", events_baseline, n_baseline)):
        if problem := _impossible(events, n):
            return undefined(f"{arm}: {problem}", **fields)
    p, q = events_candidate / n_candidate, events_baseline / n_baseline
    down = [_reach(events_candidate, n_candidate, alpha_lower), _reach(events_baseline, n_baseline, alpha_lower)]
    up = [_reach(events_candidate, n_candidate, alpha_upper), _reach(events_baseline, n_baseline, alpha_upper)]
    lower = p - q - math.hypot(down[0].below, down[1].above)
    upper = p - q + math.hypot(up[0].above, up[1].below)
    return defined(p - q, lower, upper, candidate=p, baseline=q, **fields)


def clopper_pearson(events: int, n: int, *, alpha_lower: float, alpha_upper: float) -> Bounds:
    """Exact bounds of one proportion. None of n has the upper bound 1 - alpha^(1/n), about 3 / n at 5 %."""
    fields: dict[str, Any] = {
        "method": "clopper_pearson",
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "scale": "value",
        "n_candidate": n,
    }
    if problem := _impossible(events, n):
        return undefined(problem, **fields)
    lower = float(betaincinv(events, n - events + 1, alpha_lower)) if events else 0.0
    upper = float(betaincinv(events + 1, n - events, 1 - alpha_upper)) if events < n else 1.0
    return defined(events / n, lower, upper, candidate=events / n, **fields)


def mcnemar(only_candidate: int, only_baseline: int) -> tuple[float, float]:
    """Exact one-sided McNemar p-values of discordant pairs: (the candidate has more events, it has fewer).

    Without discordant pairs both are 1.
    """
    n = only_candidate + only_baseline
    if min(only_candidate, only_baseline) < 0:
        raise ValueError(f"counts are at least 0; found {only_candidate} and {only_baseline}")

    def at_least(events: int) -> float:
        return 1.0 if events == 0 else float(bdtrc(events - 1, n, 0.5))

    return at_least(only_candidate), at_least(only_baseline)


def paired_difference(
    both: int, only_candidate: int, only_baseline: int, neither: int, *, alpha_lower: float, alpha_upper: float
) -> Bounds:
    """Difference of two paired proportions, candidate - baseline: Newcombe's method for pairs.

    Newcombe 1998, Statistics in Medicine 17:2635-2650, method 10, sane without discordant pairs; at 0, where the exact
    test of McNemar decides, the bounds agree with it. That test knows no margin, which is what the interval is for.
    """
    n = both + only_candidate + only_baseline + neither
    fields: dict[str, Any] = {
        "method": "newcombe_paired",
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "n_candidate": n,
        "n_baseline": n,
    }
    if n == 0:
        return undefined("no pairs", **fields)
    if min(both, only_candidate, only_baseline, neither) < 0:
        return undefined("counts are at least 0", **fields)
    first, second = both + only_candidate, both + only_baseline
    alike: float = both * neither - only_candidate * only_baseline
    alike = max(alike - n / 2, 0) if alike > 0 else alike  # continuity, or too narrow where pairs agree
    product = first * (n - first) * second * (n - second)
    phi = alike / math.sqrt(product) if product else 0.0

    def joined(a: float, b: float) -> float:
        return math.sqrt(max(a * a - 2 * phi * a * b + b * b, 0.0))

    p, q = first / n, second / n
    down = [_reach(first, n, alpha_lower), _reach(second, n, alpha_lower)]
    up = [_reach(first, n, alpha_upper), _reach(second, n, alpha_upper)]
    lower = p - q - joined(down[0].below, down[1].above)
    upper = p - q + joined(up[0].above, up[1].below)
    more, fewer = mcnemar(only_candidate, only_baseline)
    if more > alpha_lower:  # 0 is only left out where the exact test rejects it
        lower = min(lower, 0.0)
    if fewer > alpha_upper:
        upper = max(upper, 0.0)
    return defined(p - q, lower, upper, candidate=p, baseline=q, **fields)


class _Reach(NamedTuple):
    below: float
    above: float


def _reach(events: int, n: int, alpha: float) -> _Reach:
    """How far Wilson's one-sided bounds are from the proportion."""
    z, p = float(-ndtri(alpha)), events / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return _Reach(p - max(centre - half, 0.0) if events else 0.0, min(centre + half, 1.0) - p if events < n else 0.0)


def _impossible(events: int, n: int) -> str:
    if n <= 0:
        return "nothing was measured"
    return "" if 0 <= events <= n else f"{events} events in {n}"
