"""Answers under way, and what becomes of them when their candidate is taken back: moved, drained, and at last cut."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from agentrl.gateway.arms import Served, upstream_of
from agentrl.gateway.sessions import Session
from agentrl.release.records import Arm


@dataclass(eq=False)
class Flight:
    """One request that is being answered. It is stopped through its scope, a timeout that can be brought forward."""

    session: Session
    upstream: str = ""
    is_begun: bool = False
    """Bytes of the answer are with the client: nobody else can answer any more."""
    stopped_for: str = ""
    """withdrawn: before the first byte, so the baseline answers. cut: the time to end was over. ending: so is the
    replica's own."""
    withdrawn_at: float | None = None
    """When its upstream was taken back, on the steady clock."""
    scope: asyncio.Timeout | None = field(default=None, repr=False)

    def stop(self, why: str) -> None:
        """End what it waits for, now."""
        if self.stopped_for or self.scope is None:
            return
        self.stopped_for = why
        with suppress(RuntimeError):  # it has just ended by itself
            self.scope.reschedule(asyncio.get_running_loop().time())

    @property
    def is_candidates(self) -> bool:
        """Whether a candidate answers: it is waited for after a rollback."""
        is_of_candidate = self.session.arm is Arm.CANDIDATE and self.upstream == self.session.upstream
        return is_of_candidate or self.withdrawn_at is not None


class Flights:
    """All answers under way at a replica, and when its candidates had drained.

    Args:
        drain_seconds: for answers whose candidate was taken back.
        clock, wall: steady seconds, and seconds since 1970.
    """

    def __init__(
        self, known: dict[str, object], drain_seconds: float, *, clock: Callable[[], float], wall: Callable[[], float]
    ) -> None:
        self._known = known
        self._drain_seconds = drain_seconds
        self._clock, self._wall = clock, wall
        self._flights: set[Flight] = set()
        self._was_served = False
        self.drained_at: float | None = None
        """End of the last candidate's answer since its share went to 0; None while it is served or drains."""
        self.last_candidate_at: float | None = None
        self.cut = 0
        self.on_drained: Callable[[], None] = lambda: None
        """Called when the last answer of a candidate that was taken back has ended."""

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def candidate(self) -> int:
        """How many a candidate answers."""
        return sum(flight.is_candidates for flight in self._flights)

    def begin(self, session: Session) -> Flight:
        """A request that begins."""
        flight = Flight(session)
        session.in_flight += 1
        self._flights.add(flight)
        return flight

    def end(self, flight: Flight) -> None:
        """It has been answered, or not."""
        flight.session.in_flight -= 1
        self._flights.discard(flight)
        if self._note_drained():
            self.on_drained()

    def look(self, served: Served) -> bool:
        """Bring what is under way in line with what is served now; True where others should be told of a change.

        Called at each change and a few times a second besides, as a lease ends without anybody saying so.
        """
        now = self._clock()
        is_served = served.may_serve_candidate(now)
        is_changed = is_served != self._was_served
        self._was_served = is_served
        if is_served:
            self.drained_at = None
        for flight in list(self._flights):
            self._look_at(flight, served, now)
        return self._note_drained() or is_changed

    def cut_all(self) -> None:
        """The replica ends: what is still under way is told so, rather than left hanging."""
        for flight in list(self._flights):
            flight.stop("ending")

    def assigned_candidate(self) -> None:
        """A session began as the candidate's."""
        self.last_candidate_at = self._wall()

    def _look_at(self, flight: Flight, served: Served, now: float) -> None:
        if not flight.upstream or flight.upstream == served.general:
            return
        is_served = upstream_of(flight.session, served, now, known=self._known) == flight.upstream
        if is_served:
            flight.withdrawn_at = None
            return
        if flight.withdrawn_at is None:
            flight.withdrawn_at = now
        if not flight.is_begun:
            flight.stop("withdrawn")
        elif now - flight.withdrawn_at >= self._drain_seconds and not flight.stopped_for:
            self.cut += 1
            flight.stop("cut")

    def _note_drained(self) -> bool:
        if self._was_served or self.drained_at is not None or self.candidate:
            return False
        self.drained_at = self._wall()
        return True
