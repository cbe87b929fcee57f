"""What must be in order before any gate is read: the split of the traffic, and its mix."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

from scipy.special import bdtr, bdtrc  # type: ignore[import-untyped]

from agentrl.release.statistics.sums import ArmSums, Estimate, difference, no_sums

SRM_ALPHA = 0.001
"""Below this p-value the split is not the one that was configured."""


@dataclass(frozen=True)
class SampleRatio:
    """Observed against configured share."""

    p_value: float | None
    """None: nothing to test."""
    observed_percent: float | None
    expected_percent: float
    is_mismatch: bool
    reason: str


def sample_ratio(n_candidate: int, n_baseline: int, *, share_percent: float, alpha: float = SRM_ALPHA) -> SampleRatio:
    """Chi-squared test of the split (1 degree); the exact binomial one where fewer than 5 are expected in an arm.

    Clusters that are assigned as one are counted as one: count what was assigned.
    """
    n, share = n_candidate + n_baseline, share_percent / 100
    if n == 0:
        return SampleRatio(None, None, share_percent, False, "nothing was assigned")
    observed = 100 * n_candidate / n
    if min(share, 1 - share) * n >= 5:
        chi_squared = (n_candidate - n * share) ** 2 / (n * share * (1 - share))
        p_value = math.erfc(math.sqrt(chi_squared / 2))
    else:
        below = float(bdtr(n_candidate, n, share))
        above = float(bdtrc(n_candidate - 1, n, share)) if n_candidate else 1.0
        p_value = min(1.0, 2 * min(below, above))
    said = f"{observed:.3g} % of {n} sessions went to the candidate, {share_percent:g} % was configured"
    is_mismatch = p_value < alpha
    return SampleRatio(
        float(f"{p_value:.12g}"),
        observed,
        share_percent,
        is_mismatch,
        f"{said}: p {p_value:.2g}" if is_mismatch else "",
    )


def post_stratified(
    candidate: Mapping[str, ArmSums], baseline: Mapping[str, ArmSums], *, event: float = 0.0, min_units: int = 10
) -> Estimate:
    """Difference of means or rates, adjusted to one mix: every stratum (intent) weighs its share of both arms.

    A gain that only comes from an easier mix of work disappears here; held against the plain `difference`, it shows.
    Strata with fewer than `min_units` in an arm are joined into one; undefined where not even that has enough.
    """
    strata: list[tuple[ArmSums, ArmSums]] = []
    rest: list[list[ArmSums]] = [[], []]
    for name in sorted({*candidate, *baseline}):
        arms = [candidate.get(name), baseline.get(name)]
        if all(arm is not None and arm.units >= min_units for arm in arms):
            strata.append((candidate[name], baseline[name]))
        else:
            for side, arm in zip(rest, arms, strict=True):
                side += [arm] if arm is not None else []
    if rest[0] or rest[1]:
        strata.append((added(rest[0]), added(rest[1])))
    plain = difference(added(list(candidate.values())), added(list(baseline.values())), event=event)
    if plain.problem or plain.error is None:
        return plain
    found = [difference(*stratum, event=event) for stratum in strata]
    total = plain.n_candidate + plain.n_baseline
    value = squared = left = right = 0.0
    for (first, second), estimate in zip(strata, found, strict=True):
        weight = (first.units + second.units) / total
        numbers = (estimate.value, estimate.error, estimate.candidate, estimate.baseline)
        if estimate.problem or any(number is None for number in numbers):
            return replace(plain, value=None, error=None, problem=f"a stratum of the mix: {estimate.problem}")
        value += weight * float(estimate.value or 0)
        squared += (weight * float(estimate.error or 0)) ** 2
        left += weight * float(estimate.candidate or 0)
        right += weight * float(estimate.baseline or 0)
    return replace(plain, value=value, error=math.sqrt(squared), candidate=left, baseline=right)


def added(arms: Sequence[ArmSums]) -> ArmSums:
    """The sums of several groups of sessions, whose clusters do not overlap, as one."""
    if not arms:
        return no_sums(0, "nothing was measured")
    if problem := next((arm.problem for arm in arms if arm.problem), ""):
        return replace(arms[0], problem=problem)
    names = [field.name for field in fields(ArmSums) if field.name != "problem"]
    return ArmSums(**{name: sum(getattr(arm, name) for arm in arms) for name in names})
