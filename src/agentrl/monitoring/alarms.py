"""Watching a policy that serves users: what its figures are now, and an alarm where they have drifted to harm.

`watch` is the one function to call, as often as one likes; it is pure, and its alarms keep their ids from call to call:

    watched = watch(config.monitoring, sessions, reference=canary, concurrent=baseline, now=clock())
    for alarm in watched.alarms: ...      # keep by alarm.id; roll back where alarm.may_roll_back
    if watched.is_shared_outage: ...      # both arms are worse: no gate is read, nobody is blamed
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from agentrl.config.monitoring import MonitoringConfig
from agentrl.monitoring.drift import Crossing, cusum, cusum_threshold, ewma_crossings, ewma_limit, skewed
from agentrl.monitoring.watched_metrics import (
    INFRA,
    KINDS,
    Expected,
    Series,
    WatchedSession,
    expected,
    series_of,
    shown,
)
from agentrl.monitoring.windows import beyond_limit

__all__ = ["Alarm", "Watched", "WatchedSession", "watch"]

SHARED_Z = 3.0
"""Standard errors by which the other arm must be worse since the same moment: then it is nobody's doing."""
MIN_SHARED = 10
"""Sessions of the other arm on each side of that moment."""
NEWEST = 25
"""Sessions that say whether an outage is still there."""
OVERLAP_SECONDS = 3600.0
"""An outage that ended at most so long before explains a drift: labels and averages lag."""


@dataclass(frozen=True)
class Alarm:
    """A figure that has drifted to harm, or an outage."""

    id: str
    """Of its metric, its rule and the session at which it began: the same at every later call, so keep it once."""
    kind: str
    """drift or limit (the policy's own), or infra (an outage, which is nobody's)."""
    metric: str
    rule: str
    """cusum, ewma, or window."""
    at: float
    """When the session began that made it true, in seconds since 1970: the breach."""
    since: float
    """When the session began with which the drift began."""
    sessions: int
    """Measured from then until the alarm."""
    value: float
    """The metric over them, in its own unit."""
    expected: float
    """What it was in the reference, or the limit."""
    may_roll_back: bool
    """The policy is to blame, and the config says that this metric brings it back."""
    text: str
    """One sentence for people."""


@dataclass(frozen=True)
class Watched:
    """What `watch` found."""

    alarms: tuple[Alarm, ...]
    """In order of their time."""
    is_shared_outage: bool
    """Both arms, or the tools' own servers, are worse now: comparisons are not to be read, nor the policy blamed."""
    not_watched: tuple[str, ...]
    """Metrics that could not be watched, with the reason: too few sessions, or nothing measured."""


def watch(
    config: MonitoringConfig,
    sessions: Sequence[WatchedSession],
    *,
    reference: Sequence[WatchedSession],
    concurrent: Sequence[WatchedSession] = (),
    now: float,
) -> Watched:
    """Hold the sessions that a policy has served against what it was measured to do.

    Args:
        sessions: of the policy under watch since it serves: of the candidate in a canary, of the release in general.
            Those after `now` do not count.
        reference: sessions that say what is normal: for general, the candidate's own in its canary; for a canary, the
            baseline's of the time before.
        concurrent: sessions of the other policy in the same period, where there is one: harm that began for both at
            once is an outage.
        now: seconds since 1970.
    """
    own = [session for session in sessions if session.at <= now]
    other = [session for session in concurrent if session.at <= now]
    rules = 2 * len(config.metrics) + 1
    between = float(config.sessions_between_false_alarms) * max(rules, 1)
    outages, is_outage_now = _outages(own, other, reference, between)
    alarms, not_watched = [alarm for alarm, _ in outages], []
    for metric in config.metrics:
        series = series_of(metric, own, reference)
        normal = series_of(metric, reference, reference)
        if metric in config.limits:
            found = beyond_limit(metric, series, config.limits[metric], hours=float(config.window_hours))
            if found is not None:
                alarms.append(_limit_alarm(metric, series, found, config))
        if len(normal) < config.min_reference:
            said = f"{len(normal)} of at least {config.min_reference} sessions say what is normal"
            not_watched.append(f"{metric}: {said}")
            continue
        if not len(series):
            not_watched.append(f"{metric}: no session was measured")
            continue
        model = expected(metric, normal, config.shifts.get(metric))
        elsewhere = series_of(metric, other, reference)
        for rule, crossing in _crossings(model, series, between):
            alarm = _alarm(model, series, crossing, rule, config)
            if _is_explained(alarm, outages):
                alarm = _not_blamed(alarm, "an outage of the infrastructure at that time explains it")
            elif _is_shared(model, elsewhere, alarm):
                alarm = _not_blamed(alarm, "the other policy is worse since the same moment")
                is_outage_now = is_outage_now or _is_still(model, elsewhere)
            alarms.append(alarm)
    alarms.sort(key=lambda alarm: (alarm.at, alarm.id))
    return Watched(tuple(alarms), is_outage_now, tuple(not_watched))


def _crossings(model: Expected, series: Series, between: float) -> Iterator[tuple[str, Crossing]]:
    for crossing in cusum(model.ratios(series), cusum_threshold(between, model.information)):
        yield "cusum", crossing
    limit = skewed(ewma_limit(between), model.skewness)
    for crossing in ewma_crossings(model.standardised(series), limit):
        yield "ewma", crossing


def _outages(
    own: Sequence[WatchedSession],
    other: Sequence[WatchedSession],
    reference: Sequence[WatchedSession],
    between: float,
) -> tuple[list[tuple[Alarm, float]], bool]:
    """Alarms over errors that are the servers' own, each with when it was last seen; whether one is there now.

    Sessions of both arms call the same tools, and are one series. Without a reference none are expected.
    """
    normal = series_of(INFRA, reference, reference)
    series = series_of(INFRA, [*own, *other], reference)
    if not len(series):
        return [], False
    model = expected(INFRA, normal if len(normal) >= 2 else Series(series.at, 0 * series.x, series.y))
    found = []
    for crossing in cusum(model.ratios(series), cusum_threshold(between, model.information)):
        is_bad = series.x[crossing.onset :] > 0
        last = crossing.onset + int(is_bad.nonzero()[0][-1]) if is_bad.any() else crossing.index
        found.append((_alarm(model, series, crossing, "cusum", None), float(series.at[last])))
    return found, bool(found) and _is_still(model, series)


def _is_still(model: Expected, series: Series) -> bool:
    """Whether the newest sessions are more like the harm than like what is expected."""
    harm = KINDS[model.metric].harm
    return harm * (series.mean(max(0, len(series) - NEWEST)) - model.safe_mean) > model.shift / 2


def _is_explained(alarm: Alarm, outages: Sequence[tuple[Alarm, float]]) -> bool:
    return any(outage.since <= alarm.at and alarm.since <= last + OVERLAP_SECONDS for outage, last in outages)


def _is_shared(model: Expected, other: Series, alarm: Alarm) -> bool:
    """Whether the other arm is worse since the drift began than it was before, or than the reference."""
    split = int(other.at.searchsorted(alarm.since))
    after = len(other) - split
    if after < MIN_SHARED:
        return False
    sd = model.sd / math.sqrt(max(float(other.y.mean()), 1e-12)) if KINDS[model.metric].is_rate else model.sd
    before = other.mean(0, split) if split >= MIN_SHARED else model.safe_mean
    error = sd * math.sqrt(1 / after + (1 / split if split >= MIN_SHARED else 0.0))
    worse = KINDS[model.metric].harm * (other.mean(split) - before)
    return worse > SHARED_Z * error


def _alarm(model: Expected, series: Series, crossing: Crossing, rule: str, config: MonitoringConfig | None) -> Alarm:
    kind, metric = KINDS[model.metric], model.metric
    at, since = float(series.at[crossing.index]), float(series.at[min(crossing.onset, crossing.index)])
    value = shown(metric, series.mean(crossing.onset, crossing.index + 1))
    normal = shown(metric, model.mean)
    sessions = crossing.index + 1 - crossing.onset
    unit = f" {kind.unit}" if kind.unit else ""
    text = (
        f"{kind.words}: {value:.3g}{unit} over {sessions} sessions since {_minute(since)}, "
        f"{normal:.3g} was expected ({rule.upper()})"
    )
    return Alarm(
        id=f"{metric}-{rule}-{at:.3f}",
        kind="infra" if config is None else "drift",
        metric=metric,
        rule=rule,
        at=at,
        since=since,
        sessions=sessions,
        value=value,
        expected=normal,
        may_roll_back=config is not None and _brings_back(metric, config),
        text=text,
    )


def _limit_alarm(metric: str, series: Series, crossing: Crossing, config: MonitoringConfig) -> Alarm:
    kind = KINDS[metric]
    limit = config.limits[metric]  # type: ignore[index]
    at, since = float(series.at[crossing.index]), float(series.at[crossing.onset])
    value = shown(metric, series.mean(crossing.onset, crossing.index + 1))
    sessions = crossing.index + 1 - crossing.onset
    unit = f" {kind.unit}" if kind.unit else ""
    side = "above" if kind.harm > 0 else "below"
    return Alarm(
        id=f"{metric}-window-{at:.3f}",
        kind="limit",
        metric=metric,
        rule="window",
        at=at,
        since=since,
        sessions=sessions,
        value=value,
        expected=limit,
        may_roll_back=_brings_back(metric, config),
        text=f"{kind.words}: {value:.3g}{unit} over {sessions} sessions of {config.window_hours} hours until "
        f"{_minute(at)}, {side} the limit of {limit:g}",
    )


def _brings_back(metric: str, config: MonitoringConfig) -> bool:
    return metric in (config.metrics if config.roll_back_on is None else config.roll_back_on)


def _not_blamed(alarm: Alarm, why: str) -> Alarm:
    return replace(alarm, kind="infra", may_roll_back=False, text=f"{alarm.text}; {why}")


def _minute(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M UTC")
