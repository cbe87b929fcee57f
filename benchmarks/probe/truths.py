"""The decision rule and the forecast, on scores drawn from a known truth: how often is which said?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentrl.evaluation.probe.best_of import best_of, estimate
from agentrl.evaluation.probe.groups import expected_shares, groups
from agentrl.evaluation.probe.repeatability import repeatability
from agentrl.evaluation.probe.samples import ItemScores
from agentrl.evaluation.probe.verdict import Evidence, judge

SAMPLES, GRADES = 3, 3
Draw = Callable[[Any, int], Any]
"""(generator, items) -> [items] success rates."""


@dataclass(frozen=True)
class Truth:
    """What items are like, and how the grader errs."""

    name: str
    rates: Draw
    noise: float = 0.0
    """Standard deviation of a grade."""
    n_items: int = 100

    def items(self, seed: int, samples: int = SAMPLES) -> tuple[ItemScores, ...]:
        """A probe of this truth. Where the grader is noisy, wrong and right are 0.25 and 0.75: it has room to err."""
        draw = np.random.default_rng(seed)
        right = draw.random((self.n_items, samples)) < self.rates(draw, self.n_items)[:, None]
        values = np.where(right, 0.75, 0.25) if self.noise else right.astype(float)
        grades = values[..., None] + draw.normal(0, self.noise, (*values.shape, GRADES))
        scored = np.clip(grades, 0, 1)
        return tuple(
            ItemScores(
                f"t{n:03d}",
                "validation",
                samples,
                tuple(map(tuple, each.tolist())),
                tuple((each[:, 0] >= 0.5).tolist()),
            )
            for n, each in enumerate(scored)
        )


def same(rate: float) -> Draw:
    return lambda _, n: np.full(n, rate)


def evenly(low: float, high: float) -> Draw:
    return lambda draw, n: draw.uniform(low, high, n)


def beta(a: float, b: float) -> Draw:
    return lambda draw, n: draw.beta(a, b, n)


def some(share: float, rate: float) -> Draw:
    """That share of the items has the rate, the others have none: no beta distribution."""
    return lambda draw, n: np.where(draw.random(n) < share, rate, 0.0)


def verdict_of(items: tuple[ItemScores, ...]) -> tuple[str, tuple[str, ...]]:
    """Verdict and the codes behind it, of scores alone."""
    verdict, reasons = judge(
        Evidence(
            rollouts=SAMPLES * len(items),
            lost=0,
            max_lost=0.1,
            first_loss="",
            mean=estimate([item.mean for item in items]),
            best_of=best_of(items),
            groups=groups(items),
            samples=SAMPLES,
            repeatability=repeatability(items, 0.75),
            unrepeated="",
            split_gap=None,
            effect=None,
            tools=None,
            twins=None,
            first_output=None,
        )
    )
    return verdict, tuple(reason.code for reason in reasons)


def verdicts(truth: Truth, draws: int) -> Counter[str]:
    """How often each verdict was given."""
    return Counter(verdict_of(truth.items(seed))[0] for seed in range(draws))


NOISE = {1.0: 0.0, 0.8: 0.113, 0.7: 0.151, 0.6: 0.192, 0.5: 0.237, 0.4: 0.29, 0.3: 0.355, 0.2: 0.45}
"""Reliability -> noise that leads to it where rates lie evenly from 0.1 to 0.9 and scores are clipped to 0 and 1; found
by simulation, to about one hundredth."""
TRUTHS = (
    *(Truth(f"every item succeeds at {rate:g}", same(rate)) for rate in (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)),
    *(Truth(f"every item succeeds at {rate:g}", same(rate)) for rate in (0.9, 0.93, 0.95, 0.97, 0.98, 0.99, 1.0)),
    *(Truth(f"{share:.0%} of the items succeed at 0.5", some(share, 0.5)) for share in (0.02, 0.05, 0.1, 0.2, 0.3)),
    *(Truth(f"reliability {rho:g}", evenly(0.1, 0.9), noise) for rho, noise in NOISE.items()),
    *(Truth(f"{n} items, nothing succeeds", same(0.0), n_items=n) for n in (10, 50, 70, 80)),
    *(Truth(f"{n} items, rates 0.1 to 0.9", evenly(0.1, 0.9), n_items=n) for n in (5, 10, 20)),
)
FORECASTS = (
    Truth("rates evenly from 0 to 1", beta(1, 1)),
    Truth("rates beta(0.3, 0.3): mostly all or nothing", beta(0.3, 0.3)),
    Truth("rates beta(0.5, 4): hard", beta(0.5, 4)),
    Truth("every item at 0.05", same(0.05)),
    Truth("half of the items at 0.5, the others at 0", some(0.5, 0.5)),
    Truth("a tenth of the items at 0.3, the others at 0", some(0.1, 0.3)),
)
SIZES = (4, 8, 16)


@dataclass(frozen=True)
class Forecasts:
    """At one size of groups: the truth, what was said on average, and how often the interval held it."""

    truth: float
    mean: float
    covered: float


def forecasts(truth: Truth, draws: int) -> dict[int, Forecasts]:
    """From three samples of 100 items to groups of four, eight and sixteen."""
    many = truth.rates(np.random.default_rng(0), 200_000)
    found = [expected_shares(truth.items(seed), SIZES) for seed in range(draws)]
    result = {}
    for size in SIZES:
        is_so = float(np.mean(1 - many**size - (1 - many) ** size))
        said = [each[size] for each in found]
        held = [each.interval.low <= is_so <= each.interval.high for each in said]
        result[size] = Forecasts(is_so, float(np.mean([each.value for each in said])), float(np.mean(held)))
    return result
