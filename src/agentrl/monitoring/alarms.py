"""Watching a policy that serves users: what its figures are now, and an alarm where they have drifted to harm.

`watch` is the one function to call, as often as one likes; it is pure, and its alarms keep their ids from call to call:

    watched = watch(config.monitoring, sessions, reference=canary, concurrent=baseline, now=clock())
    for alarm in watched.alarms: ...      # keep by alarm.id; roll back where alarm.may_roll_back
    if watched.is_shared_outage: ...      # both arms are worse: no gate is read, nobody is blamed
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrl.config.monitoring import MonitoringConfig


class WatchedSession(Protocol):
    """What is known of one session: gates' evidence has these fields. None was not measured."""

    @property
    def at(self) -> float: ...
    @property
    def success(self) -> bool | None: ...
    @property
    def quality(self) -> float | None: ...
    @property
    def seconds(self) -> float | None: ...
    @property
    def cost_usd(self) -> float | None: ...
    @property
    def human_override(self) -> bool | None: ...
    @property
    def tool_calls(self) -> int | None: ...
    @property
    def tool_errors(self) -> int | None: ...
    @property
    def tool_infra_errors(self) -> int | None: ...
    @property
    def policy_kl(self) -> float | None: ...


@dataclass(frozen=True)
class Alarm:
    """A figure that has drifted to harm, or an outage."""

    id: str
    """Of its metric, its rule and the session at which it began: the same at every later call, so keep it once."""
    kind: str
    """drift or limit (the policy's), infra (an outage), or blind (nothing could be told)."""
    metric: str
    rule: str
    """cusum, ewma, or window."""
    at: float
    """When the session began that made it true, in seconds since 1970: the breach."""
    sessions: int
    """Measured until then."""
    value: float
    """Now: the mean since the drift began."""
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
    is_shared_outage: bool
    """Both arms, or the tools' own servers, are worse: comparisons are not to be read, and the policy is not blamed."""
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
            Those after `now` and those before the rolling window do not count.
        reference: sessions that say what is normal: for general, the candidate's own in its canary; for a canary, the
            baseline's of the time before.
        concurrent: sessions of the other policy in the same period, where there is one: harm that it shares is an
            outage.
        now: seconds since 1970.
    """
    raise NotImplementedError
