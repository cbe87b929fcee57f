"""The clock that leases and drills are counted by: the same in all processes of a machine, set by nobody."""

from __future__ import annotations

import time


def steady_seconds() -> float:
    """A clock that no operator and no time server moves, and that goes on while a machine sleeps."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)  # Linux; elsewhere the monotonic clock may stop with the machine
    return time.monotonic() if clock is None else time.clock_gettime(clock)
