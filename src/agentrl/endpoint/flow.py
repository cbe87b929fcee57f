"""How many requests are under way at once, and how many leave in a second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress

FIRST_LIMIT = 16
ROUND = 16
"""Fewer outcomes than this say nothing about the server."""
CONGESTED = 0.25
SHRINK = 0.7


class Slots:
    """As many calls at once as the endpoint copes with; callers wait in the order they came.

    The rule is additive increase, multiplicative decrease, once a round of `max(16, limit)` outcomes:
    - at least a quarter of them congested (timeout, refused or lost connection, 429, 503): limit * 0.7, at least 1;
    - else, if some call had to wait for a slot: twice the limit until the first decrease, limit + 1 after it.
    It begins at 16 and never passes `most`. A share, not one event, decides: faults that come at random would shrink
    the limit to 1 and mend nothing.

    What waits is the caller, with its payload not encoded yet: there is no queue that could overflow.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = min(most, FIRST_LIMIT)
        self.in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_first_rise = True
        self._start_round()

    @property
    def waiting(self) -> int:
        return sum(not waiter.done() for waiter in self._waiting)

    async def acquire(self) -> None:
        if self.in_use < self.limit and not self._waiting:
            self.in_use += 1
            return
        self._was_full = True
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.release()  # the slot came in the same moment
            else:
                with suppress(ValueError):  # it may be off the list already
                    self._waiting.remove(turn)
            raise

    def release(self) -> None:
        self.in_use -= 1
        self._hand_out()

    def outcome(self, *, is_congested: bool) -> None:
        """What came of one attempt."""
        self._outcomes += 1
        self._congested += is_congested
        if self._outcomes < max(ROUND, self.limit):
            return
        if self._congested >= CONGESTED * self._outcomes:
            self.limit = max(1, int(self.limit * SHRINK))
            self._is_first_rise = False
        elif self._was_full:
            self.limit = min(self._most, 2 * self.limit if self._is_first_rise else self.limit + 1)
        self._start_round()
        self._hand_out()

    def restart(self) -> None:
        """Begin again as at first: the endpoint comes back from an outage."""
        self.limit = min(self._most, FIRST_LIMIT)
        self._is_first_rise = True
        self._start_round()
        self._hand_out()

    def _start_round(self) -> None:
        self._outcomes = self._congested = 0
        self._was_full = bool(self._waiting)

    def _hand_out(self) -> None:
        while self._waiting and self.in_use < self.limit:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self.in_use += 1


class Pace:
    """A leaky bucket: requests leave at least 1 / `per_second` apart, without bursts. None is no limit.

    Args:
        clock, sleep: for tests.
    """

    def __init__(
        self,
        per_second: float | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._gap = 1.0 / per_second if per_second else 0.0
        self._clock = clock
        self._sleep = sleep
        self._next = 0.0
        self._order = asyncio.Lock()

    async def wait(self) -> None:
        """Return when a request may leave. Who is cancelled while waiting gives its turn to the next."""
        if not self._gap:
            return
        async with self._order:
            while (left := self._next - self._clock()) > 0:
                await self._sleep(left)
            self._next = self._clock() + self._gap
