"""Whether what a controller reads is of now. Who cannot see renews no lease: within its seconds no candidate serves.

Blind is: no gateway has reported lately, the store cannot be read, the audit log cannot be written (a rollback could
not be recorded), or the clock of the machine jumped, so that "lately" means nothing for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import select

from agentrl.errors import ReleaseError
from agentrl.release.lifecycle.audit_log import check_writable
from agentrl.release.place import ReleasePlace
from agentrl.release.steady_clock import steady_seconds
from agentrl.release.store import tables

JUMP_SECONDS = 5.0
"""By which the wall clock may leave the steady one between two ticks; a time server slews far less."""


@dataclass(frozen=True)
class Clocks:
    """The two clocks of a machine."""

    wall: Callable[[], float] = time.time
    """Seconds since 1970: for records, and to compare with what other processes wrote."""
    steady: Callable[[], float] = steady_seconds
    """For durations."""


@dataclass(frozen=True)
class Moment:
    """One reading of both."""

    wall: float
    steady: float


@dataclass
class ClockWatch:
    """Notices that the wall clock was set, or that this process stood still while it was read."""

    clocks: Clocks
    distrusted_seconds: float = 30.0
    """For how long after a jump nothing is believed that has a time."""
    _last: Moment | None = None
    _jumped: float | None = field(default=None, repr=False)
    _by: float = 0.0

    def read(self) -> tuple[Moment, str]:
        """Now, and what is wrong with it; empty where nothing is."""
        now = Moment(self.clocks.wall(), self.clocks.steady())
        if self._last is not None:
            by = (now.wall - self._last.wall) - (now.steady - self._last.steady)
            if abs(by) > JUMP_SECONDS:
                self._jumped, self._by = now.steady, by
        self._last = now
        if self._jumped is not None and now.steady - self._jumped <= self.distrusted_seconds:
            return now, f"the clock jumped by {self._by:+.0f} s"
        return now, ""


def blindness(place: ReleasePlace, *, max_age_seconds: float, now: float) -> str:
    """Why it cannot be seen how the candidate does; empty where it can."""
    try:
        check_writable(place.audit_log)
        with place.store.read() as connection:
            seen = connection.execute(
                select(tables.replicas.c.seen_at).where(tables.replicas.c.workflow == place.workflow)
            ).scalars()
            ages = sorted(abs(now - at) for at in seen)
    except ReleaseError as error:
        return str(error)
    if not ages:
        return "no gateway has reported"
    if ages[0] > max_age_seconds:
        return f"no gateway has reported for {ages[0]:.0f} s (release.max_metrics_age_seconds is {max_age_seconds:g})"
    return ""
