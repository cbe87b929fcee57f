"""How many sessions a gate needs before it can decide, at a canary's share, and how many days that takes.

n = (z_alpha + z_power)^2 * (v + v * share / (1 - share)) / effect^2, on the difference's own scale or the logarithm's;
v is the variance of one session. `effect` is the margin less what is truly lost.
"""

from __future__ import annotations

from dataclasses import dataclass


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
        raise NotImplementedError


def plan_difference(
    variance: float, margin: float, *, share: float, alpha: float = 0.05, power: float = 0.8, true_loss: float = 0.0
) -> Plan:
    """For a difference of means or rates; the variance of a rate p is p (1 - p).

    Args:
        margin: absolute, above 0.
        share: of the candidate, in (0, 1).
        true_loss: how much worse the candidate truly is; at the margin no size is enough.
    """
    raise NotImplementedError


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
    raise NotImplementedError


def geo_mean_variance(log_sd: float) -> float:
    """Of one session in a geometric mean: log_sd^2."""
    raise NotImplementedError


def quantile_variance(log_sd: float, level: float) -> float:
    """Of one session in a quantile of log-normal values: level (1 - level) / density^2."""
    raise NotImplementedError


def cost_variance(cost_cv: float, success: float, correlation: float = 0.0) -> float:
    """Of one session in cost per success: cv^2 + (1 - p) / p - 2 correlation cv sqrt((1 - p) / p).

    Args:
        cost_cv: standard deviation over mean of a session's cost; sqrt(exp(s^2) - 1) of log-normal costs of log-sd s.
        correlation: of cost and success; negative where failures cost more.
    """
    raise NotImplementedError


def plan_pairs(discordant: float, margin: float, *, alpha: float = 0.05, power: float = 0.8) -> int | None:
    """Pairs for a paired difference of rates that are truly equal: (z_alpha + z_power)^2 * discordant / margin^2.

    Args:
        discordant: share of pairs in which the arms differ.
    """
    raise NotImplementedError


def plan_zero_events(limit: float, *, alpha: float = 0.05) -> int | None:
    """Sessions without a single event that show a rate below a limit: log(alpha) / log(1 - limit), about 3 / limit."""
    raise NotImplementedError


def zero_event_bound(n: int, *, alpha: float = 0.05) -> float:
    """Upper bound of a rate after none in n: 1 - alpha^(1/n); 1 of none at all."""
    raise NotImplementedError


def sequence_factor(alpha: float, power: float = 0.8) -> float:
    """How many times the fixed-look size a confidence sequence, looked at all the time, takes to reach that power."""
    raise NotImplementedError
