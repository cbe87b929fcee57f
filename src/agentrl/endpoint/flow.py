"""How many requests are under way at once, and how many leave in a second."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

FIRST_LIMIT = 16
WINDOW = 16
"""Outcomes: fewer say nothing about the server."""
TOO_MANY_LOST = WINDOW // 2
SHRINK = 0.7

Outcome = Literal["fine", "busy", "lost"]
"""`busy`: 429 or 503, the server refused. `lost`: a timeout, or no connection. `fine`: everything else."""


class Slots:
    """As many calls at once as the endpoint copes with; callers wait in the order they came.

    The limit begins at 16 and stays between 1 and `most`:
    - a call that is fine while others wait raises it by 1 until the first trouble, by 1 / limit after that;
    - a busy one lowers it by 1: of 64 sent to a server that takes 20, 44 come back, and 20 are left;
    - half of the latest 16 lost lowers it to 0.7 times itself. A share decides: losses that come at random would else
      shrink it to 1 and mend nothing.

    What waits is the caller, with its payload not encoded yet: there is no queue that could overflow.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = 1.0
        self.in_use = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self.restart()

    @property
    def limit(self) -> int:
        return int(self._limit)

    @property
    def waiting(self) -> int:
        return sum(not waiter.done() for waiter in self._waiting)

    async def acquire(self) -> None:
        if self.in_use < self.limit and not self._waiting:
            self.in_use += 1
            return
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

    def outcome(self, outcome: Outcome) -> None:
        """What came of one attempt."""
        self._latest.append(outcome)
        if outcome == "busy":
            self._limit = max(1.0, self._limit - 1.0)
            self._is_first_rise = False
        elif len(self._latest) == WINDOW and self._latest.count("lost") >= TOO_MANY_LOST:
            self._limit = max(1.0, self._limit * SHRINK)
            self._is_first_rise = False
            self._latest.clear()
        elif outcome == "fine" and self._waiting:
            self._limit = min(self._most, self._limit + (1.0 if self._is_first_rise else 1.0 / self._limit))
            self._hand_out()

    def restart(self) -> None:
        """Begin as at first: the endpoint comes back from an outage."""
        self._limit = min(self._most, FIRST_LIMIT)
        self._is_first_rise = True
        self._latest: deque[Outcome] = deque(maxlen=WINDOW)
        self._hand_out()

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
        if not self._gap and self._clock() >= self._next:
            return
        async with self._order:
            if (left := self._next - self._clock()) > 0:
                await self._sleep(left)
            self._next = max(self._next, self._clock()) + self._gap

    def hold(self, seconds: float) -> None:
        """Let nothing leave for so long."""
        self._next = max(self._next, self._clock() + seconds)
