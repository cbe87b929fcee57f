"""What every interval of this room returns: an estimate with two one-sided bounds, or the reason why there is none."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Bounds:
    """An estimate between two bounds, each of which the truth is beyond with its own small chance.

    A gate reads one side to promote and the other to roll back, at different risks: so each side has its alpha. For
    higher-is-better: promote where `is_above(-margin)`, roll back where `is_below(0)`; the reverse for lower-is-better.
    """

    estimate: float | None
    lower: float | None
    """The truth is below it with a chance of at most `alpha_lower`."""
    upper: float | None
    """The truth is above it with a chance of at most `alpha_upper`."""
    alpha_lower: float
    alpha_upper: float
    method: str
    """Such as confidence_sequence, newcombe, paired_bootstrap."""
    scale: str = "difference"
    """difference (candidate - baseline), ratio (candidate / baseline), or value (the candidate's own)."""
    candidate: float | None = None
    """The metric on each arm."""
    baseline: float | None = None
    n_candidate: int = 0
    """Units, such as sessions or pairs."""
    n_baseline: int = 0
    reason: str = ""
    """Why there are no bounds; empty where there are."""

    @property
    def is_defined(self) -> bool:
        """Whether there are bounds at all."""
        return self.lower is not None and self.upper is not None

    def is_above(self, value: float) -> bool:
        """Whether the truth is shown to be above a value; never without bounds, nor of NaN."""
        return self.lower is not None and self.lower > value

    def is_below(self, value: float) -> bool:
        """Whether the truth is shown to be below a value; never without bounds, nor of NaN."""
        return self.upper is not None and self.upper < value

    def named(self, method: str) -> Bounds:
        """The same under another method's name."""
        return replace(self, method=method)


def undefined(reason: str, *, method: str, alpha_lower: float, alpha_upper: float, **known: Any) -> Bounds:
    """No bounds, and why. `known` are further fields, such as the counts and, where it exists, the estimate."""
    return Bounds(
        **{"estimate": None, **known},
        lower=None,
        upper=None,
        alpha_lower=alpha_lower,
        alpha_upper=alpha_upper,
        method=method,
        reason=reason,
    )


def defined(estimate: float, lower: float, upper: float, **fields: Any) -> Bounds:
    """Bounds, unless one of the three is not a finite number."""
    if not all(map(math.isfinite, (estimate, lower, upper))):
        found = f"found {estimate:g} in {lower:g} to {upper:g}"
        return undefined(f"the bounds are not finite: {found}", **fields)
    # Twelve significant digits: the last bits differ between machines, and verdicts are compared byte by byte.
    return Bounds(float(f"{estimate:.12g}"), float(f"{lower:.12g}"), float(f"{upper:.12g}"), **fields)


def finite(name: str, values: Floats) -> str:
    """Why values cannot be used; empty where they can.

    Args:
        name: of whose values, such as `candidate`.
    """
    if values.size == 0:
        return f"{name}: nothing was measured"
    bad = int(np.count_nonzero(~np.isfinite(values)))
    return f"{name}: {bad} of {values.size} values are not finite numbers" if bad else ""


def too_few(n_candidate: int, n_baseline: int, *, min_candidate: int, min_baseline: int) -> str:
    """Why there are too few units for a verdict; empty where there are enough."""
    if n_candidate < min_candidate:
        return f"{n_candidate} of at least {min_candidate} on the candidate"
    if n_baseline < min_baseline:
        return f"{n_baseline} of at least {min_baseline} on the baseline"
    return ""
