"""How many sessions a gate needs before it can decide, at a canary's share, and how many days that takes.

n = (z_alpha + z_power)^2 * (v + v * share / (1 - share)) / effect^2, on the difference's own scale or the logarithm's;
v is the variance of one session. `effect` is the margin less what is truly lost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from scipy.special import ndtri  # type: ignore[import-untyped]

from agentrl.release.statistics.group_sequential import crossing_chances
from agentrl.release.statistics.sequences import sequence_width
from agentrl.release.statistics.sums import effective_n

LOOK, LATEST = 0.04, 8.0


@dataclass(frozen=True)
class Plan:
    """Planned sample sizes of the arms."""

    candidate: int | None
    """None: no size is enough, and `reason` says why."""
    baseline: int | None
    effective: float
    """See `sums.Estimate`; what `sequences.confidence_sequence` takes as planned_n."""
    share: float
    reason: str = ""

    def days(self, sessions_per_week: float) -> float | None:
        """Days at that many sessions of all users; None where no size is enough or there is no traffic."""
        if self.candidate is None or sessions_per_week <= 0:
            return None
        return 7 * self.candidate / (self.share * sessions_per_week)


def plan_difference(
    variance: float, margin: float, *, share: float, alpha: float = 0.05, power: float = 0.8, true_loss: float = 0.0
) -> Plan:
    """For a difference of means or rates; the variance of a rate p is p (1 - p).

    Args:
        margin: absolute, above 0.
        share: of the candidate, in (0, 1).
        true_loss: how much worse the candidate truly is; at the margin no size is enough.
    """
    return _plan(variance, margin - true_loss, share, alpha, power)


def plan_log_ratio(
    log_variance: float,
    margin: float,
    *,
    share: float,
    alpha: float = 0.05,
    power: float = 0.8,
    true_ratio: float = 1.0,
) -> Plan:
    """For a ratio with a relative margin: log_variance is a session's variance on the log scale.

    See `geo_mean_variance`, `cost_variance` and `quantile_variance`.

    Args:
        margin: relative, such as 0.15.
        true_ratio: candidate / baseline in truth; at 1 + margin no size is enough.
    """
    if margin <= -1 or true_ratio <= 0:
        return Plan(None, None, math.nan, share, "a ratio is above 0")
    return _plan(log_variance, math.log1p(margin) - math.log(true_ratio), share, alpha, power)


def geo_mean_variance(log_sd: float) -> float:
    """Of one session in a geometric mean: log_sd^2."""
    return log_sd**2


def quantile_variance(log_sd: float, level: float) -> float:
    """Of one session in a quantile of log-normal values: level (1 - level) / density^2."""
    z = float(ndtri(level))
    density = math.exp(-z * z / 2) / math.sqrt(2 * math.pi) / log_sd
    return level * (1 - level) / density**2


def cost_variance(cost_cv: float, success: float, correlation: float = 0.0) -> float:
    """Of one session in cost per success: cv^2 + (1 - p) / p - 2 correlation cv sqrt((1 - p) / p).

    Args:
        cost_cv: standard deviation over mean of a session's cost; sqrt(exp(s^2) - 1) of log-normal costs of log-sd s.
        correlation: of cost and success; negative where failures cost more.
    """
    if not 0 < success <= 1:
        return math.nan
    failing = (1 - success) / success
    return cost_cv**2 + failing - 2 * correlation * cost_cv * math.sqrt(failing)


def plan_pairs(discordant: float, margin: float, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Pairs for a paired difference of rates that are truly equal: (z_alpha + z_power)^2 * discordant / margin^2.

    Args:
        discordant: share of pairs in which the arms differ.
    """
    if not (margin > 0 and 0 <= discordant <= 1):
        return None
    return max(1, math.ceil(_levels(alpha, power) ** 2 * discordant / margin**2))


def plan_zero_events(limit: float, *, alpha: float = 0.05) -> int | None:
    """Sessions without a single event that show a rate below a limit: log(alpha) / log(1 - limit), about 3 / limit."""
    return math.ceil(math.log(alpha) / math.log1p(-limit)) if 0 < limit < 1 else None


def zero_event_bound(n: int, *, alpha: float = 0.05) -> float:
    """Upper bound of a rate after none in n: 1 - alpha^(1/n); 1 of none at all."""
    return 1.0 if n <= 0 else -math.expm1(math.log(alpha) / n)


@lru_cache
def sequence_factor(alpha: float, power: float = 0.8) -> float:
    """How many times the fixed-look size a confidence sequence, looked at all the time, takes to reach that power."""
    # Time 1 is the fixed look, at which a walk of this drift has the power; looks are dense enough for a percent.
    times = [LOOK * number for number in range(2, round(LATEST / LOOK) + 1)]
    walls = [float(sequence_width(time, alpha=alpha, planned_n=1.0)) * math.sqrt(time) for time in times]
    before, chance_before = 0.0, 0.0
    for time, chance in zip(times, crossing_chances(times, walls, _levels(alpha, power)), strict=True):
        if chance >= power:
            return before + (time - before) * (power - chance_before) / (chance - chance_before)
        before, chance_before = time, chance
    return math.inf


def _plan(variance: float, effect: float, share: float, alpha: float, power: float) -> Plan:
    problem = ""
    if not 0 < share < 1:
        problem = f"a share of {share:g} leaves an arm empty"
    elif not (0 < alpha < 0.5 and 0 < power < 1):
        problem = f"alpha {alpha:g} and power {power:g} are chances"
    elif not (math.isfinite(variance) and variance > 0):
        problem = f"a variance of {variance:g}"
    elif not effect > 0:
        problem = "the candidate is truly at the margin or beyond it: no size is enough"
    if problem:
        return Plan(None, None, math.nan, share, problem)
    exact = _levels(alpha, power) ** 2 * variance * (1 + share / (1 - share)) / effect**2
    candidate = max(2, math.ceil(exact))
    baseline = math.ceil(candidate * (1 - share) / share)
    return Plan(candidate, baseline, float(effective_n(candidate, baseline)), share)


def _levels(alpha: float, power: float) -> float:
    return float(ndtri(1 - alpha) + ndtri(power))
