"""What must be in order before any gate is read: the split of the traffic, and its mix."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentrl.release.statistics.sums import ArmSums, Estimate

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
    raise NotImplementedError


def post_stratified(
    candidate: Mapping[str, ArmSums], baseline: Mapping[str, ArmSums], *, event: float = 0.0, min_units: int = 10
) -> Estimate:
    """Difference of means or rates, adjusted to one mix: every stratum (intent) weighs its share of both arms.

    A gain that only comes from an easier mix of work disappears here; held against the plain `difference`, it shows.
    Strata with fewer than `min_units` in an arm are joined into one; undefined where not even that has enough.
    """
    raise NotImplementedError
