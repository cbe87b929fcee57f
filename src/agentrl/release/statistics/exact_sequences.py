"""Bounds of rare events that hold at every look, at any count, without a single approximation.

Newcombe's interval is made for one look, and the sequences of `sequences.py` for many events. A safety gate in a canary
has neither: of 0.1 % violations one falls into the first hundred candidate sessions by chance, and an interval that is
read every 50 sessions takes it for harm in a tenth of all canaries (`benchmarks/gates.py`).

For a rate p, the likelihood ratio of a fixed mixture of other rates against p,

    M_n(p) = sum_j w_j (p_j / p)^x ((1 - p_j) / (1 - p))^(n - x),

is a non-negative martingale with mean 1, so the chance that it ever reaches 1 / alpha is at most alpha (Ville 1939;
Robbins 1970; for bounded means, Waudby-Smith & Ramdas 2024). The p at which it has are excluded for good. The upper
bound mixes rates p_j below p, the lower one rates above, as multiples of p. None of n bounds the rate at about 3.5 / n
at 5 %, where one look at a fixed n would say 3.0 / n. Two arms are compared through a bound of each.

That finds harm late: both bounds have to part. So whether there is harm at all is also asked of the arms together. By
chance an event is the candidate's with the probability s, its share of sessions; where it has m times as many, with
s m / (s m + 1 - s). The product over events

    E = product of P(arm | m) / P(arm | 1)

has mean 1 at every look if the rates are equal, and at most 1 if the candidate's is lower; it is mixed over m (the
conditional form of Turner, Ly & Grünwald 2024, "Generic e-variables for exact sequential k-sample tests"). It looks at
events alone: sessions without one say nothing here, as a slow candidate has fewer that have ended, whatever its share.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import xlog1py, xlogy  # type: ignore[import-untyped]

from agentrl.release.statistics.bounds import Bounds, defined, undefined

Mixture = tuple[tuple[float, float], ...]
BELOW: Mixture = ((0.05, 0.6), (0.25, 0.2), (0.5, 0.15), (0.8, 0.05))
"""(rate as a multiple of p, weight). Much below p first: no events at all is what a safe candidate shows."""
ABOVE: Mixture = ((1.5, 0.25), (3.0, 0.25), (10.0, 0.25), (30.0, 0.25))
OWN_SHARE = 0.8
"""Of alpha, for the candidate's bound; the baseline has many more sessions, and the rest is enough for it."""
BISECTIONS = 50
JUST_ABOVE = 1e-9
"""Lower bound of a difference that is above 0, and nobody can say by how much."""
TIMES = (2.0, 4.0, 10.0, 30.0)
"""How many times as many events the candidate has, that harm is looked for at."""


def exact_sequence(
    events_candidate: int,
    n_candidate: int,
    events_baseline: int,
    n_baseline: int,
    *,
    alpha_lower: float,
    alpha_upper: float,
    share: float | None = None,
) -> Bounds:
    """Difference of two rates, candidate - baseline, at every look: for safety violations and other rare events.

    Args:
        share: of sessions that were assigned to the candidate, by chance, in (0, 1). With it the lower bound takes
            half of its alpha, and is just above 0 where the arms together show harm with the other half.
    """
    fields: dict[str, Any] = {
        "method": "exact_sequence",
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "n_candidate": n_candidate,
        "n_baseline": n_baseline,
    }
    for arm, events, n in (("candidate", events_candidate, n_candidate), ("baseline", events_baseline, n_baseline)):
        if n <= 0:
            return undefined(f"{arm}: nothing was measured", **fields)
        if not 0 <= events <= n:
            return undefined(f"{arm}: {events} events in {n}", **fields)
    p, q = events_candidate / n_candidate, events_baseline / n_baseline
    alpha = alpha_lower if share is None else alpha_lower / 2
    lower = rate_lower(events_candidate, n_candidate, OWN_SHARE * alpha)
    lower -= rate_upper(events_baseline, n_baseline, (1 - OWN_SHARE) * alpha)
    if share is not None and harm_evidence(events_candidate, events_baseline, share) >= -math.log(alpha):
        lower = max(lower, JUST_ABOVE)
    upper = rate_upper(events_candidate, n_candidate, OWN_SHARE * alpha_upper)
    upper -= rate_lower(events_baseline, n_baseline, (1 - OWN_SHARE) * alpha_upper)
    return defined(p - q, lower, upper, candidate=p, baseline=q, **fields)


def exact_own_sequence(events: int, n: int, *, alpha_lower: float, alpha_upper: float) -> Bounds:
    """One arm's rate at every look, to hold against a limit."""
    fields: dict[str, Any] = {
        "method": "exact_sequence",
        "alpha_lower": alpha_lower,
        "alpha_upper": alpha_upper,
        "scale": "value",
        "n_candidate": n,
    }
    if n <= 0 or not 0 <= events <= n:
        return undefined("nothing was measured" if n <= 0 else f"{events} events in {n}", **fields)
    lower, upper = rate_lower(events, n, alpha_lower), rate_upper(events, n, alpha_upper)
    return defined(events / n, lower, upper, candidate=events / n, **fields)


@lru_cache(maxsize=100_000)
def harm_evidence(events_candidate: int, events_baseline: int, share: float) -> float:
    """Logarithm of the evidence that the candidate's rate is the higher one: 1 / alpha or more has chance alpha."""
    times = np.array(TIMES)
    found = events_candidate * np.log(times) - (events_candidate + events_baseline) * np.log1p(share * (times - 1))
    peak = float(found.max())
    return peak + math.log(float(np.exp(found - peak).mean()))


@lru_cache(maxsize=100_000)
def rate_upper(events: int, n: int, alpha: float) -> float:
    """The smallest rate above events / n that is excluded; 1 where none is."""
    if events == n:
        return 1.0
    return _edge(events, n, alpha, BELOW, events / n, 1.0)


@lru_cache(maxsize=100_000)
def rate_lower(events: int, n: int, alpha: float) -> float:
    """The largest rate below events / n that is excluded; 0 where none is."""
    if events == 0:
        return 0.0
    return _edge(events, n, alpha, ABOVE, events / n, 0.0)


def _edge(events: int, n: int, alpha: float, mixture: Mixture, near: float, far: float) -> float:
    """Between the observed rate, which is never excluded, and 0 or 1, where exclusion begins.

    Evidence grows monotonically from the observed rate outwards, so halving finds the edge; the returned end is
    the one that is excluded, or `far` itself where nothing is.
    """
    multiples, weights = np.array(mixture).T
    inside, outside = near, far
    for _ in range(BISECTIONS):
        p = (inside + outside) / 2
        others = np.minimum(multiples * p, (1 + p) / 2)  # a multiple of p is a rate too
        against = xlogy(events, others / p) + xlog1py(n - events, -others) - xlog1py(n - events, -p)
        peak = float(against.max())
        if peak + math.log(float(weights @ np.exp(against - peak))) >= -math.log(alpha):
            outside = p
        else:
            inside = p
    return outside
