"""Simulated canaries of a known truth, as the sums of both arms at every look; see `gates.py`.

Sums of many sessions are drawn at once where their distribution is known: a baseline of 76,000 sessions a canary is
then as cheap as one number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import betaln, comb

from agentrl.release.statistics.sums import ArmSums

SHARE = 0.05


@dataclass(frozen=True)
class Canaries:
    """Both arms of many canaries: sums are [runs, looks]."""

    candidate: ArmSums
    baseline: ArmSums
    n_candidate: Any
    """[looks] sessions."""
    n_baseline: Any
    are_rates: bool = False


def sizes(looks: Sequence[int]) -> tuple[Any, Any]:
    """[looks] sessions of both arms."""
    own = np.asarray(looks)
    return own, np.round(own * (1 - SHARE) / SHARE).astype(int)


def rates(runs: int, looks: Sequence[int], own: float, other: float, *, seed: int) -> Canaries:
    """Yes or no of every session, alike and independent."""
    rng, n = np.random.default_rng(seed), sizes(looks)

    def arm(n: Any, rate: float) -> ArmSums:
        x = rng.binomial(np.diff(n, prepend=0), rate, (runs, len(n))).cumsum(1).astype(np.float64)
        return ArmSums(n, n, x, n, x, x, n)

    return Canaries(arm(n[0], own), arm(n[1], other), *n, are_rates=True)


def users(
    runs: int, looks: Sequence[int], own: float, other: float, *, sessions: int, icc: float, seed: int
) -> tuple[Canaries, Canaries]:
    """Beta-binomial users of several sessions each: sums by user, and sums that take sessions as independent."""
    rng, n = np.random.default_rng(seed), sizes(looks)
    hits = np.arange(sessions + 1)

    def arm(n: Any, rate: float) -> tuple[ArmSums, ArmSums]:
        a, b = rate * (1 / icc - 1), (1 - rate) * (1 / icc - 1)
        chances = comb(sessions, hits) * np.exp(betaln(hits + a, sessions - hits + b) - betaln(a, b))
        clusters = n // sessions
        drawn = rng.multinomial(np.diff(clusters, prepend=0), chances / chances.sum(), (runs, len(n))).cumsum(1)
        x, xx, units = drawn @ hits, drawn @ hits**2, clusters * sessions
        by_user = ArmSums(units, clusters, x * 1.0, units, xx * 1.0, sessions * x, sessions * units)
        return by_user, ArmSums(units, units, x * 1.0, units, x * 1.0, x, units)

    first, second = arm(n[0], own), arm(n[1], other)
    by_user, by_session = (Canaries(*arms, *n, are_rates=True) for arms in zip(first, second, strict=True))
    return by_user, by_session


def durations(runs: int, looks: Sequence[int], ratio: float, *, log_sd: float, seed: int) -> Canaries:
    """Logarithms of log-normal durations; the candidate's are `ratio` times as long."""
    rng, n = np.random.default_rng(seed), sizes(looks)

    def arm(n: Any, mean: float) -> ArmSums:
        more = np.diff(n, prepend=0)
        total = rng.normal(more * mean, log_sd * np.sqrt(more), (runs, len(n)))
        around = log_sd**2 * rng.chisquare(np.maximum(more - 1, 1), (runs, len(n))) * (more > 1)
        x, xx = total.cumsum(1), (around + total**2 / more).cumsum(1)
        return ArmSums(n, n, x, n, xx, x, n)

    return Canaries(arm(n[0], float(np.log(ratio))), arm(n[1], 0.0), *n)


def costs(
    runs: int, looks: Sequence[int], ratio: float, success: float, other_success: float, *, log_sd: float, seed: int
) -> Canaries:
    """Cost (x) and success (y) of every session, drawn one by one: squares of log-normal sums have no short cut."""
    rng, n = np.random.default_rng(seed), sizes(looks)

    def arm(n: Any, ratio: float, rate: float) -> ArmSums:
        sums = np.empty((3, runs, len(n)))
        good = np.empty((runs, len(n)))
        starts = np.concatenate([[0], n[:-1]])
        for run in range(runs):
            cost = ratio * np.exp(log_sd * rng.standard_normal(n[-1], dtype=np.float32))
            is_good = rng.random(n[-1], dtype=np.float32) < rate
            for number, values in enumerate((cost, cost * cost, cost * is_good)):
                sums[number, run] = np.add.reduceat(values, starts, dtype=np.float64)
            good[run] = np.add.reduceat(is_good, starts, dtype=np.float64)
        x, xx, xy = sums.cumsum(2)
        y = good.cumsum(1)
        return ArmSums(n, n, x, y, xx, xy, y)

    return Canaries(arm(n[0], ratio, success), arm(n[1], 1.0, other_success), *n)
