"""A circuit breaker: an endpoint that fails again and again is left alone, but for one probe at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

MAX_PAUSE_SECONDS = 30.0

State = Literal["closed", "open", "half_open"]


@dataclass(frozen=True)
class Health:
    """What an endpoint's breaker thinks of it."""

    state: State
    """`closed`: calls are sent. `open`: calls wait. `half_open`: one call is under way to see whether it answers."""
    error: str
    """The failure seen last; empty after an answer."""
    since: datetime
    """When the outage began; when it is over, when that was (UTC)."""

    @property
    def is_healthy(self) -> bool:
        return self.state == "closed"


class Breaker:
    """Counts failures in a row.

    closed --`failures` in a row--> open --the pause is over, one probe goes--> half_open --any answer--> closed
    A probe that fails opens it again, for twice the pause, up to 30 s. Nobody has to close it by hand.

    It has no timer and no task: a caller asks `admit` before it sends and tells what came of it. Calls that were under
    way when it opened still count: an answer closes it, a failure changes nothing.

    Args:
        failures: how many in a row open it.
        seconds: the first pause.
        clock: monotonic seconds.
    """

    def __init__(self, failures: int, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.state: State = "closed"
        self.failed_probes = 0
        """Ever; who waits counts from where it came in."""
        self.times_opened = 0
        self._failures = failures
        self._first_pause = self._pause = seconds
        self._clock = clock
        self._streak = 0
        self._due = 0.0
        self._probe = 0  # the number of the probe that counts; an older one may still be under way
        self._error = ""
        self._since = datetime.now(UTC)

    @property
    def health(self) -> Health:
        return Health(self.state, self._error, self._since)

    @property
    def is_untroubled(self) -> bool:
        """Closed, and the last call was answered: another answer is no news."""
        return self.state == "closed" and not self._streak

    def seconds_left(self) -> float:
        """Until a call may be sent: 0 is now, infinity means that a probe is under way."""
        if self.state == "open":
            return max(0.0, self._due - self._clock())
        return 0.0 if self.state == "closed" else float("inf")

    def admit(self) -> int | None:
        """A permit to send: 0 for a call, the probe's number for a probe; None while nothing may be sent."""
        if self.state == "closed":
            return 0
        if self.seconds_left() > 0:
            return None
        self.state = "half_open"
        self._probe += 1
        return self._probe

    def answered(self) -> None:
        """The endpoint did its work, whichever call it was."""
        if self.state != "closed":
            self.state, self._since = "closed", datetime.now(UTC)
        self._streak, self._pause, self._error = 0, self._first_pause, ""

    def failed(self, permit: int, error: str) -> None:
        """The call or probe of that permit failed for a reason that is the endpoint's."""
        self._error = error
        if self.state == "closed":
            self._streak += 1
            if self._streak >= self._failures:
                self.times_opened += 1
                self._since = datetime.now(UTC)
                self._open()
        elif self._is_the_probe(permit):
            self.failed_probes += 1
            self._pause = min(2 * self._pause, max(MAX_PAUSE_SECONDS, self._first_pause))
            self._open()

    def withdrawn(self, permit: int) -> None:
        """The call was cancelled; where it was the probe, the next one may go at once."""
        if self._is_the_probe(permit):
            self.state, self._due = "open", self._clock()

    def _open(self) -> None:
        self.state, self._due = "open", self._clock() + self._pause

    def _is_the_probe(self, permit: int) -> bool:
        return self.state == "half_open" and permit == self._probe
