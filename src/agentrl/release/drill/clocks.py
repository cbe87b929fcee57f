"""An instant of a drill on both clocks: the one that leases are counted by, and the one that records are written in."""

from __future__ import annotations

import time
from dataclasses import dataclass

from agentrl.release.steady_clock import steady_seconds

JUMP_SECONDS = 0.05
"""Two clocks that part by more than this were moved."""


@dataclass(frozen=True)
class Moment:
    """One instant on both clocks."""

    steady: float
    wall: float
    """Seconds since 1970."""

    @classmethod
    def now(cls) -> Moment:
        return cls(steady_seconds(), time.time())

    def of_wall(self, wall: float) -> Moment:
        """Another instant, known by the wall clock alone, which has not been moved since this one."""
        return Moment(self.steady + wall - self.wall, wall)

    def of_steady(self, steady: float) -> Moment:
        """Another instant, known by the steady clock alone."""
        return Moment(steady, self.wall + steady - self.steady)

    def has_jumped_by(self, later: Moment) -> bool:
        """Whether the wall clock was moved between the two."""
        return abs((later.wall - self.wall) - (later.steady - self.steady)) > JUMP_SECONDS
