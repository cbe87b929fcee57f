"""Which items teach something: those whose samples are not all scored alike. Now, and with more samples.

A group-relative advantage of equal scores is zero, and a critic learns nothing from them that it does not know. With
success rate p an item's n samples are equal by chance p^n + (1 - p)^n, so more samples make more items useful. How many
depends on how the rates differ between items, and that is fitted: a beta distribution of p where scores are two (the
beta-binomial), its generalisation to several levels (the Dirichlet-multinomial) where there are more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentrl.evaluation.intervals import LEVEL, Interval
from agentrl.evaluation.probe.best_of import Estimate
from agentrl.evaluation.probe.bounds import share_interval, weights_of
from agentrl.evaluation.probe.samples import Floats, ItemScores, complete, voting

PRECISIONS = np.geomspace(1e-2, 1e4, 91)
"""Grid on which the fit looks for the precision: from all-or-nothing items to items that are all alike."""
DRAWS = 400
AT_ONCE = 50
"""Of them: what is computed at a time stays small where there are many levels."""
WANTED_SHARE = 0.30
"""Below it training warns, see `ppo.guards.warn_zero_variance_fraction`: too many groups teach nothing."""
WORTH_DOUBLING = 0.05
"""A doubling of the samples that adds less than this is not worth its price."""
FEWEST = 2
ROUNDS = 100


@dataclass(frozen=True)
class Groups:
    """The share of items whose samples differ, as it was seen."""

    n_items: int
    """Complete items."""
    varied: int
    all_worst: int
    """Items all of whose samples got the lowest score that there is."""
    all_best: int

    @property
    def share(self) -> float:
        return self.varied / self.n_items if self.n_items else 0.0

    @property
    def interval(self) -> Interval:
        """Clopper and Pearson's."""
        return share_interval(self.varied, self.n_items)


def groups(items: Sequence[ItemScores]) -> Groups:
    """Counts over the complete items."""
    whole = complete(items)
    return Groups(
        len(whole),
        sum(item.varies for item in whole),
        sum(item.best <= 0 for item in whole),
        sum(min(item.scores) >= 1 for item in whole),
    )


def expected_shares(items: Sequence[ItemScores], sizes: Sequence[int]) -> dict[int, Estimate]:
    """Size of a group -> share of items that would vary in it; empty where no item has two votes.

    Every vote counts, of incomplete items too. The interval is over items, with one more that is as bad, or as good, as
    an item can be: where nothing varied, it does not say that nothing ever will. A few samples fit other laws as well,
    and the one that promises least is where the interval begins: see `_two_kinds`.
    """
    seen = [item for item in voting(items) if len(item.grades) > 1]
    if not seen:
        return {}
    levels = sorted({score for item in seen for score in item.scores})
    counts = np.array([[item.scores.count(level) for level in levels] for item in seen], dtype=np.float64)
    n_most = int(counts.sum(1).max())
    if len(levels) == 1:  # what another score would be is not known; that there is one is what the upper end is about
        counts = np.hstack([counts, np.zeros((len(seen), 1))])
    same = np.zeros(counts.shape[1])
    same[int(counts.sum(0).argmax())] = n_most
    mixed = _evenly(n_most, counts.shape[1], counts.sum(0))
    worse, better = np.vstack([counts, same]), np.vstack([counts, mixed])
    weights, tail = weights_of(len(seen) + 1, DRAWS), (1 - LEVEL) / 2
    expected, bad, good = fit(counts, np.ones((1, len(seen)))), fit(worse, weights), fit(better, weights)
    least, found = _two_kinds(worse, weights, sizes), {}
    for size in sizes:
        value = float(_shares(expected, size)[0])
        lows = [float(np.quantile(each, tail)) for each in (_shares(bad, size), least[size])]
        high = float(np.quantile(_shares(good, size), 1 - tail))
        found[size] = Estimate(value, Interval(min(*lows, value), max(high, value)))
    return found


def _evenly(n: int, levels: int, popularity: Floats) -> Floats:
    """The counts of an item whose samples fall apart into the two most popular levels."""
    row = np.zeros(levels)
    first, second = np.argsort(-popularity, kind="stable")[:2]
    row[first], row[second] = n - n // 2, n // 2
    return row


def _shares(alphas: Floats, size: int) -> Floats:
    """[draws] 1 - E[sum of p_k^size] under Dirichlet distributions of the levels' rates, [draws, levels]."""
    totals, log_equal, log_any = alphas.sum(1), np.zeros(alphas.shape), np.zeros(len(alphas))
    with np.errstate(divide="ignore"):  # a level that nobody reaches: the logarithm of nothing, and a share of 0
        for step in range(size):  # E[p_k^size] is the rising factorial of alpha_k by that of the total
            log_equal += np.log(alphas + step)
            log_any += np.log(totals + step)
    return np.asarray(np.clip(1 - np.exp(log_equal - log_any[:, None]).sum(1), 0.0, 1.0))


def _two_kinds(counts: Floats, weights: Floats, sizes: Sequence[int]) -> dict[int, Floats]:
    """Size -> [draws] the same, if some items never vary and the others all have the same rates.

    Those rates are the likeliest ones given that an item varies: how often it does not is estimated along with them
    (EM), and what more of the items never varied are of the first kind. Arguments as of `fit`.
    """
    varies = (counts > 0).sum(1) > 1
    if not varies.any():
        return {size: np.zeros(len(weights)) for size in sizes}
    number, all_items = weights @ varies, weights.sum(1)
    n_samples = float(np.median(counts[varies].sum(1)))
    seen = weights @ (counts * varies[:, None])
    rates = seen / seen.sum(1, keepdims=True)
    for _ in range(ROUNDS):
        equal = rates**n_samples
        rates = seen + n_samples * number[:, None] * equal / (1 - equal.sum(1, keepdims=True))
        rates /= rates.sum(1, keepdims=True)
    as_seen = 1 - (rates**n_samples).sum(1)
    return {
        size: np.minimum(1.0, number / all_items * (1 - (rates**size).sum(1)) / as_seen).astype(np.float64)
        for size in sizes
    }


def fit(counts: Floats, weights: Floats) -> Floats:
    """[draws, levels] alphas of the Dirichlet distribution that items' rates are taken to come from.

    The mean rates are the pooled ones; their precision, the sum of the alphas, has the largest likelihood of the
    Dirichlet-multinomial. A level that nobody reached gets 0.

    Args:
        counts: [items, levels] samples of each level.
        weights: [draws, items] how much each item counts.
    """
    return np.concatenate([_fit(counts, weights[at : at + AT_ONCE]) for at in range(0, len(weights), AT_ONCE)])


def _fit(counts: Floats, weights: Floats) -> Floats:
    means = weights @ counts
    means = means / means.sum(1, keepdims=True)
    alphas = PRECISIONS[:, None] * means[:, None, :]  # [draws, grid, levels]
    likelihood = np.zeros(alphas.shape[:2])
    for step in range(int(counts.max())):
        # how many items have more than `step` samples of a level: each adds log(alpha + step)
        more = weights @ (counts > step)
        logs = np.log(alphas + step, where=alphas > 0, out=np.zeros_like(alphas))
        likelihood += np.einsum("dgl,dl->dg", logs, more)
    totals = counts.sum(1)
    for step in range(int(totals.max())):
        likelihood -= np.log(PRECISIONS + step) * (weights @ (totals > step))[:, None]
    return np.asarray(alphas[np.arange(len(weights)), likelihood.argmax(1)])


@dataclass(frozen=True)
class Advice:
    """How many samples of a task to plan, and why."""

    samples_per_task: int
    reason: str


def recommended(planned: int, shares: dict[int, Estimate]) -> Advice | None:
    """The planned number, doubled once or twice where that makes enough more items useful; None where nobody knows."""
    chosen = max(FEWEST, planned)
    if chosen not in shares:
        return None
    more = ""
    while (doubled := 2 * chosen) in shares and shares[chosen].value < WANTED_SHARE:
        if shares[doubled].value - shares[chosen].value < WORTH_DOUBLING:
            break
        more = f"{shares[doubled].value:.0%} of the items would vary, with {planned} it is {shares[planned].value:.0%}"
        chosen = doubled
    if more:
        return Advice(chosen, more)
    share = f"{shares[chosen].value:.0%} of the items vary"
    if shares[chosen].value >= WANTED_SHARE:
        return Advice(chosen, f"{share}, and that is enough")
    return Advice(chosen, f"only {share}, and twice as many samples would add less than {WORTH_DOUBLING:.0%}")


def sizes_of(planned: int) -> tuple[int, ...]:
    """The planned number of samples, twice and four times as many, and the fewest that can differ."""
    return tuple(dict.fromkeys(max(FEWEST, each) for each in (planned, 2 * planned, 4 * planned)))
