"""What bounds, thresholds and drills come to, held against a row's margin or limit."""

from __future__ import annotations

import math
from dataclasses import dataclass

from agentrl.config.release import GateConfig
from agentrl.release.gates.arms import Arms
from agentrl.release.gates.bounds_of import Sides, bounds_of
from agentrl.release.gates.look import Look
from agentrl.release.gates.mix import adjusted_estimate
from agentrl.release.gates.plain_statistics import plain_statistic
from agentrl.release.gates.planned import needed
from agentrl.release.gates.words import shown_change, shown_value
from agentrl.release.records import Outcome
from agentrl.release.statistics.bounds import Bounds, too_few
from agentrl.release.statistics.proportions import clopper_pearson


@dataclass(frozen=True)
class Found:
    """What a look at a gate comes to."""

    outcome: Outcome
    reason: str
    bounds: Bounds | None = None
    n_candidate: int = 0
    n_baseline: int = 0
    test: str = ""
    value: float | None = None
    """Of one arm, where there are no bounds."""
    adjusted: float | None = None


def of_drills(gate: GateConfig, look: Look) -> Found:
    """The worst drill against the limit: a maximum proves what it saw, and infers nothing."""
    assert gate.limit is not None  # a rule of the config
    n, least = len(look.drills), gate.min_samples.candidate
    limit = _shown(gate, gate.limit)

    def found(outcome: Outcome, reason: str, worst: float | None = None) -> Found:
        return Found(outcome, reason, n_candidate=n, test="threshold", value=worst)

    if n == 0:
        return found(Outcome.INCONCLUSIVE, f"0 of at least {least} drills")
    if not all(map(math.isfinite, look.drills)):
        return found(Outcome.FAIL, f"a drill of {n} never ended, the limit is {limit}")
    worst = max(look.drills)
    said = f"the worst of {n} drills took {_shown(gate, worst)}"
    if worst >= gate.limit:
        return found(Outcome.FAIL, f"{said}, the limit is {limit}", worst)
    if n < least:
        return found(Outcome.INCONCLUSIVE, f"{n} of at least {least} drills; {said}", worst)
    return found(Outcome.PASS, f"{said}, under {limit}", worst)


def of_arms(gate: GateConfig, arms: Arms, look: Look, gates: int) -> Found:
    """Sessions that count, by the row's test.

    Args:
        gates: number of gates that share `alpha_rollback`.
    """
    if arms.problem:
        return Found(Outcome.INCONCLUSIVE, arms.problem)
    minimum = gate.min_samples
    needs_baseline = 0 if gate.compare == "absolute" or arms.is_paired else minimum.baseline
    few = too_few(
        len(arms.candidate), len(arms.baseline), min_candidate=max(minimum.candidate, 1), min_baseline=needs_baseline
    )
    if gate.test == "threshold":
        return _of_threshold(gate, arms, few)
    if few:
        return Found(Outcome.INCONCLUSIVE, f"{few}{' (pairs)' if arms.is_paired else ''}")
    lower, upper = gate.alpha_rollback / gates, gate.alpha_promote
    is_lower_better = gate.direction == "lower_is_better"
    alphas = Sides(lower, upper) if is_lower_better else Sides(upper, lower)
    share = None if look.share_percent is None else look.share_percent / 100
    bounds, used = bounds_of(gate, arms, alphas=alphas, is_live=look.is_live, share=share)
    if gate.metric == "cost_per_success" and (zero := _no_success(used, gate.alpha_rollback / gates)):
        outcome, reason = zero
    elif not bounds.is_defined:
        outcome, reason = Outcome.INCONCLUSIVE, bounds.reason or "no bounds"
    else:
        outcome, reason = _held_against(gate, bounds, used)
    if outcome is Outcome.INCONCLUSIVE and bounds.is_defined and (size := _planned(gate, look, share)):
        reason = f"{reason}; planned for {size}"
    if len(used.candidate) < len(arms.candidate):
        reason = f"{reason}; read at {len(used.candidate)} of {len(arms.candidate)} sessions of the candidate"
    return Found(
        outcome,
        reason,
        bounds,
        len(used.candidate),
        0 if gate.compare == "absolute" else len(used.baseline),
        test=bounds.method,
        adjusted=adjusted_estimate(gate, used) if bounds.is_defined else None,
    )


def _planned(gate: GateConfig, look: Look, share: float | None) -> str:
    """How many sessions the row was planned for here; empty where that is not known."""
    if look.stage not in gate.stages:
        return ""
    found = needed(gate, look.stage, share=0.5 if share is None else share)
    if found is None or found.candidate is None:
        return ""
    return f"about {found.candidate} {'pairs' if found.is_paired else 'sessions of the candidate'}"


def margin_of(gate: GateConfig) -> float | None:
    """The bound that must be cleared, in the unit of the verdict's estimate."""
    if gate.margin is None:
        return gate.limit
    worse = 1 if gate.direction == "lower_is_better" else -1
    if gate.margin.relative is not None:
        return 1 + worse * gate.margin.relative
    assert gate.margin.absolute is not None  # a rule of the config
    return worse * gate.margin.absolute


def _held_against(gate: GateConfig, bounds: Bounds, arms: Arms) -> tuple[Outcome, str]:
    """Bounds that exist against margin, or limit."""
    margin = margin_of(gate)
    assert margin is not None
    assert bounds.lower is not None
    assert bounds.upper is not None
    no_change = {"difference": 0.0, "ratio": 1.0}.get(bounds.scale, margin)
    harm = no_change if gate.severity == "hard" else margin

    def told(value: float) -> str:
        return shown_change(gate.metric, gate.statistic, bounds.scale, value)

    word = "limit" if gate.compare == "absolute" else "margin"
    if gate.direction == "lower_is_better":
        is_harm, is_clear = bounds.lower > harm, bounds.upper < margin
        near, far = ("at least", bounds.lower), ("at most", bounds.upper)
    else:
        is_harm, is_clear = bounds.upper < harm, bounds.lower > margin
        near, far = ("at most", bounds.upper), ("at least", bounds.lower)
    line = "no change" if harm == no_change and word == "margin" else f"the {word} of {told(harm)}"
    if is_harm:
        return Outcome.FAIL, f"{near[0]} {told(near[1])}: worse than {line}"
    if not is_clear:
        between = f"between {told(bounds.lower)} and {told(bounds.upper)}"
        return Outcome.INCONCLUSIVE, f"{between}, the {word} is {told(margin)}"
    clear = f"{far[0]} {told(far[1])}, the {word} is {told(margin)}"
    if gate.cap is not None:
        own = _own_rate(gate, arms)
        said = f"the candidate's own is at most {_shown(gate, own.upper)}, the cap is {_shown(gate, gate.cap)}"
        if not own.is_below(gate.cap):
            return Outcome.INCONCLUSIVE, f"{clear}; {said}"
        clear = f"{clear}; {said}"
    return Outcome.PASS, clear


def _own_rate(gate: GateConfig, arms: Arms) -> Bounds:
    """Exact bounds of the candidate's own."""
    events, alpha = sum(unit.parts[0][0] > 0 for unit in arms.candidate), gate.alpha_promote
    return clopper_pearson(events, len(arms.candidate), alpha_lower=alpha, alpha_upper=alpha)


def _shown(gate: GateConfig, value: float | None) -> str:
    return shown_value(gate.metric, gate.statistic, value)


def _no_success(arms: Arms, alpha: float) -> tuple[Outcome, str] | None:
    """Without a success there is no cost of one: a candidate that has none, as the baseline would not, has failed."""
    successes = [sum(unit.parts[0][1] for unit in side) for side in (arms.candidate, arms.baseline)]
    if successes[0] > 0:
        return None
    said = f"no success in {len(arms.candidate)} sessions of the candidate: the cost of one is not defined"
    own = clopper_pearson(0, len(arms.candidate), alpha_lower=alpha, alpha_upper=alpha)
    if arms.baseline and successes[1] > 0 and own.is_below(successes[1] / len(arms.baseline)):
        return Outcome.FAIL, f"{said}, the baseline has {successes[1]:.0f} in {len(arms.baseline)}"
    return Outcome.INCONCLUSIVE, said


def _of_threshold(gate: GateConfig, arms: Arms, few: str) -> Found:
    """The number itself against the limit: it proves what was seen. What only grows may fail before the minimum."""
    assert gate.limit is not None  # a rule of the config
    value = plain_statistic(gate, arms.candidate)
    only_grows = gate.statistic in ("max", "count") and gate.direction == "lower_is_better"
    if value is None or (few and not only_grows):
        return Found(Outcome.INCONCLUSIVE, few or f"{gate.metric} is not defined", test="threshold", value=value)
    shown, limit = _shown(gate, value), _shown(gate, gate.limit)
    allows_equal = gate.statistic == "count"
    is_lower_better = gate.direction == "lower_is_better"
    is_within = value < gate.limit if is_lower_better else value > gate.limit
    if allows_equal and value == gate.limit:
        is_within = True
    if not is_within:
        return Found(Outcome.FAIL, f"{shown}, the limit is {limit}", test="threshold", value=value)
    if few:
        return Found(Outcome.INCONCLUSIVE, few, test="threshold", value=value)
    return Found(Outcome.PASS, f"{shown}, the limit is {limit}", test="threshold", value=value)
