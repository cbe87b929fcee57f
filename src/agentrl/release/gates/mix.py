"""The same estimate at one mix of work: a gain that only comes from easier sessions disappears in it.

Every intent weighs its share of both arms' sessions, on both arms. Shown beside the raw estimate, which decides: arms
are assigned by chance, so that their mixes differ by chance alone.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from agentrl.config.release import GateConfig
from agentrl.release.gates.arms import Arms, Unit

MIN_UNITS = 10
"""Of each arm: smaller intents are joined into one."""
REST = ""


def adjusted_estimate(gate: GateConfig, arms: Arms) -> float | None:
    """On the scale of the verdict's estimate; None in pairs, with fewer than two intents, or where it is undefined."""
    if arms.is_paired or gate.compare == "absolute" or gate.statistic.startswith("quantile"):
        return None
    if any(len(unit.parts) > 1 for unit in arms.candidate[:1]):
        return None  # a product of ratios has no one mix
    counts = [Counter(unit.session.intent for unit in side) for side in (arms.candidate, arms.baseline)]
    large = {intent for intent in counts[0] if intent and min(count[intent] for count in counts) >= MIN_UNITS}
    strata = sorted(large | ({REST} if any(count.keys() - large for count in counts) else set()))
    if len(strata) < 2:
        return None
    total = len(arms.candidate) + len(arms.baseline)
    sides = [_by_stratum(side, large) for side in (arms.candidate, arms.baseline)]
    if not all(side.get(stratum) for side in sides for stratum in strata):
        return None
    weights = {stratum: sum(len(side[stratum]) for side in sides) / total for stratum in strata}
    is_log = gate.statistic == "geo_mean"
    candidate, baseline = (_at_mix(side, weights, is_log=is_log) for side in sides)
    if candidate is None or baseline is None:
        return None
    if gate.margin is None or gate.margin.relative is None:
        found = candidate - baseline
    elif is_log:
        found = math.exp(candidate - baseline)
    elif baseline > 0:
        found = candidate / baseline
    else:
        return None
    return float(f"{found:.12g}") if math.isfinite(found) else None


def _by_stratum(units: Sequence[Unit], large: set[str]) -> dict[str, list[Unit]]:
    found: dict[str, list[Unit]] = {}
    for unit in units:
        intent = unit.session.intent
        found.setdefault(intent if intent in large else REST, []).append(unit)
    return found


def _at_mix(side: dict[str, list[Unit]], weights: dict[str, float], *, is_log: bool) -> float | None:
    """Ratio of the weighted means of x and y; None where the second is 0."""
    means = [0.0, 0.0]
    for stratum, weight in weights.items():
        units = side[stratum]
        for place in (0, 1):
            values = (unit.parts[0][place] for unit in units)
            means[place] += weight * math.fsum(map(math.log, values) if is_log and place == 0 else values) / len(units)
    return means[0] / means[1] if means[1] > 0 else None
