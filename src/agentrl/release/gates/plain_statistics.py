"""A row's statistic of one arm, without bounds: for thresholds, and for figures that decide nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from agentrl.config.release import GateConfig
from agentrl.release.gates.arms import Unit
from agentrl.release.gates.bounds_of import product_of


def plain_statistic(gate: GateConfig, units: Sequence[Unit]) -> float | None:
    """None where it is undefined: nothing was measured, or there is nothing to divide by."""
    if not units:
        return None
    parts = np.array([unit.parts for unit in units], dtype=np.float64)
    x, y = parts[:, 0, 0], parts[:, 0, 1]
    kind, _, level = gate.statistic.partition(":")
    if gate.metric == "reliability_score":
        found = product_of(parts)
    elif kind == "max":
        found = float(x.max())
    elif kind == "count":
        found = math.fsum(x)
    elif kind == "quantile":
        found = float(np.quantile(x, float(level)))
    elif kind == "geo_mean":
        found = math.exp(math.fsum(np.log(x)) / len(x)) if (x > 0).all() else math.nan
    else:
        total = math.fsum(y)
        found = math.fsum(x) / total if total > 0 else math.nan
    return float(f"{found:.12g}") if math.isfinite(found) else None
