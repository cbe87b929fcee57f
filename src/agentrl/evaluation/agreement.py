"""Do raters agree, a judge and a person among them? Kappa, alpha, and what each criterion of a rubric is good for.

Raw agreement flatters whoever says the same of nearly everything: of 100 answers, 95 of which are good, two raters who
guess agree on 90. So agreement is shown with what chance gives, Cohen's kappa, and how common each label is. Where
chance alone gives full agreement, kappa is undefined, which is not 1.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from statistics import fmean, pvariance
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from agentrl.evaluation.intervals import Floats, Interval, percentile_interval
from agentrl.evaluation.rank_correlation import pearson, resampled_weights

Weights = Literal["none", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval"]
RESAMPLES = 2_000
TOO_SMALL = 1e-12


def cohen_kappa(counts_KK: ArrayLike, weights: Weights = "none") -> float | None:
    """Agreement beyond chance, 1 - sum(w O) / sum(w E); None where chance leaves no disagreement to be beyond.

    Cohen 1960; weighted: Cohen 1968, w = |i - j| or (i - j)^2 of the labels' positions.

    Args:
        counts_KK: items by the first rater's label (rows) and the second's (columns), labels in their order.
    """
    counts = np.asarray(counts_KK, dtype=np.float64)
    n = counts.sum()
    if not n:
        return None
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / n
    weight = _disagreement(len(counts), weights)
    by_chance = float((weight * expected).sum())
    if by_chance < TOO_SMALL * n:
        return None
    return 1.0 - float((weight * counts).sum()) / by_chance


def _disagreement(n_labels: int, weights: Weights) -> Floats:
    distance = np.abs(np.subtract.outer(np.arange(n_labels), np.arange(n_labels))).astype(np.float64)
    if weights == "none":
        return np.asarray(distance > 0, dtype=np.float64)
    return distance if weights == "linear" else distance**2


@dataclass(frozen=True)
class LabelAgreement:
    """Two raters on the same items."""

    n: int
    labels: tuple[Hashable, ...]
    """[K] In their order."""
    counts: tuple[tuple[int, ...], ...] = field(repr=False)
    """[K, K] Items by the first rater's label and the second's: the confusion matrix."""
    observed: float
    """Share of items with equal labels."""
    expected: float
    """Share that raters with these habits would agree on by chance."""
    kappa: float | None
    """Weighted where it was asked for; None is undefined."""
    kappa_interval: Interval | None
    """95 %, bootstrap over items; None where kappa is undefined, or for fewer than two items."""
    prevalence: tuple[float, ...]
    """[K] Share of each label, both raters together: where one is near 1, kappa says little."""


def label_agreement(
    first: Sequence[Any], second: Sequence[Any], *, weights: Weights = "none", labels: Sequence[Any] | None = None
) -> LabelAgreement:
    """Compare two raters' labels of the same items, in the same order.

    Args:
        labels: all that there are, in order; left out, those that were given, sorted.

    Raises:
        ValueError: not the same number of labels, or none.
    """
    if len(first) != len(second) or not first:
        raise ValueError(f"found {len(first)} and {len(second)} labels; allowed: as many of each, at least one")
    known = tuple(labels) if labels is not None else tuple(sorted({*first, *second}))
    position = {label: index for index, label in enumerate(known)}
    cells = np.array([position[a] * len(known) + position[b] for a, b in zip(first, second, strict=True)])

    def table(weight_N: Floats | None = None) -> Floats:
        flat = np.bincount(cells, weights=weight_N, minlength=len(known) ** 2)
        return np.asarray(flat.reshape(len(known), len(known)), dtype=np.float64)

    counts, n = table(), len(first)
    kappa = cohen_kappa(counts, weights)
    drawn = [cohen_kappa(table(each), weights) for each in resampled_weights(list(map(str, range(n))), RESAMPLES)]
    defined = [each for each in drawn if each is not None]
    rows, columns = counts.sum(axis=1) / n, counts.sum(axis=0) / n
    return LabelAgreement(
        n=n,
        labels=known,
        counts=tuple(tuple(map(int, row)) for row in counts),
        observed=float(np.trace(counts)) / n,
        expected=float(rows @ columns),
        kappa=kappa,
        kappa_interval=percentile_interval(defined) if kappa is not None and defined else None,
        prevalence=tuple(float(share) for share in (rows + columns) / 2),
    )


def krippendorff_alpha(units: Sequence[Sequence[float]], level: Level = "nominal") -> float | None:
    """Agreement of any number of raters, some of whom left items out (Krippendorff 2011, "Computing alpha").

    Args:
        units: each item's ratings, without the missing ones; items with fewer than two say nothing.
        level: what the values are: names, ranks or quantities.

    Returns:
        1 is full agreement, 0 is chance; None where no two ratings differ or none can be compared.
    """
    paired = [list(unit) for unit in units if len(unit) > 1]
    values = sorted({value for unit in paired for value in unit})
    position = {value: index for index, value in enumerate(values)}
    coincidences = np.zeros((len(values), len(values)))
    for unit in paired:
        for i, a in enumerate(unit):
            for j, b in enumerate(unit):
                if i != j:
                    coincidences[position[a], position[b]] += 1 / (len(unit) - 1)
    totals = coincidences.sum(axis=1)
    n = float(totals.sum())
    if n <= 1:
        return None
    distance = _distance(values, totals, level)
    expected = float((np.outer(totals, totals) * distance).sum()) / (n - 1)
    if expected < TOO_SMALL:
        return None
    return 1.0 - float((coincidences * distance).sum()) / expected


def _distance(values: Sequence[float], totals: Floats, level: Level) -> Floats:
    if level == "nominal":
        return 1.0 - np.eye(len(values))
    if level == "interval":
        return np.asarray(np.subtract.outer(np.array(values), np.array(values)) ** 2)
    middle = np.cumsum(totals) - totals / 2  # ranks: the ratings up to the middle of each value's
    return np.asarray(np.subtract.outer(middle, middle) ** 2)


@dataclass(frozen=True)
class CriterionAgreement:
    """What one criterion of a rubric says, and how far people agree with it."""

    id: str
    n: int
    """Answers that the judge scored."""
    mean: float
    is_dead: bool
    """It never varies: it tells no answer from another, and its weight is dead."""
    with_people: LabelAgreement | None
    """Quadratic weights; None where nobody rated it."""


@dataclass(frozen=True)
class CriteriaReport:
    """A rubric on a set of answers."""

    criteria: tuple[CriterionAgreement, ...]
    correlations: dict[tuple[str, str], float | None] = field(repr=False)
    """Pearson's of each two criteria; near 1 they ask the same twice; None where one of them never varies."""


def criteria_report(
    judged: Sequence[Mapping[str, float]], human: Sequence[Mapping[str, float]] | None = None
) -> CriteriaReport:
    """Look at a rubric's criteria one by one and two by two.

    Args:
        judged: [answers] `Grade.sub_scores`.
        human: [answers] what a person gave for the criteria, on the same scale; a missing one was not rated.
    """
    ids = sorted({id_ for scores in judged for id_ in scores})
    found = []
    for id_ in ids:
        scores = [each[id_] for each in judged if id_ in each]
        pairs = [(a[id_], b[id_]) for a, b in zip(judged, human or [], strict=False) if id_ in a and id_ in b]
        agreement = None
        if pairs:
            agreement = label_agreement([a for a, _ in pairs], [b for _, b in pairs], weights="quadratic")
        found.append(CriterionAgreement(id_, len(scores), fmean(scores), pvariance(scores) < TOO_SMALL, agreement))
    return CriteriaReport(tuple(found), {pair: _correlation(judged, *pair) for pair in combinations(ids, 2)})


def _correlation(judged: Sequence[Mapping[str, float]], first: str, second: str) -> float | None:
    both = [each for each in judged if first in each and second in each]
    return pearson([each[first] for each in both], [each[second] for each in both])


def prediction_powered_mean(judged: Sequence[float], both: Sequence[tuple[float, float]]) -> float:
    """What people would say on average, from many of a judge's scores and few of theirs.

    mean(judge on all) + mean(person - judge where both are there): Angelopoulos et al. 2023, arXiv:2301.09633.

    Args:
        both: (judge, person) of the answers that a person rated, drawn at random.

    Raises:
        ValueError: nothing to average.
    """
    if not judged or not both:
        raise ValueError(f"found {len(judged)} judged and {len(both)} rated answers; allowed: at least one of each")
    return fmean(judged) + fmean(person - judge for judge, person in both)
