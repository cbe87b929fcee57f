"""Who may send when: the breaker, the slots and the pace of one endpoint, taken together."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from contextlib import suppress

from agentrl.endpoint.breaker import Breaker, Health
from agentrl.endpoint.faults import Fault
from agentrl.endpoint.flow import Outcome, Pace, Slots

logger = logging.getLogger(__name__)


class Gate:
    """Lets requests through one by one, and is told what came of each.

    Args:
        where: the endpoint's name and address, for messages.
    """

    def __init__(self, where: str, slots: Slots, pace: Pace, breaker: Breaker) -> None:
        self.slots = slots
        self._where = where
        self._pace = pace
        self._breaker = breaker
        self._changed = asyncio.Event()

    @property
    def health(self) -> Health:
        return self._breaker.health

    @property
    def times_opened(self) -> int:
        return self._breaker.times_opened

    async def enter(self, tries_left: float = math.inf) -> tuple[int, int]:
        """Wait until a request may be sent: its permit (0, or a probe's number), and how many probes failed meanwhile.

        Whoever entered tells how it ended: `answered`, `failed` or `withdrawn`, once.

        Raises:
            Fault: `breaker`, as many probes failed as the call had tries left.
        """
        failed_before = self._breaker.failed_probes
        while True:
            await self._until_closed_or_due(failed_before + tries_left)
            await self.slots.acquire()
            try:
                await self._pace.wait()
                permit = self._breaker.admit()
            except BaseException:
                self.slots.release()
                raise
            if permit is not None:
                return permit, self._breaker.failed_probes - failed_before
            self.slots.release()  # it opened while we waited for the slot

    async def healed(self) -> bool:
        """Wait until the breaker is closed (True), or a probe is due (False)."""
        await self._until_closed_or_due(math.inf)
        return self.health.is_healthy

    def answered(self) -> None:
        """The endpoint did its work."""
        self.slots.outcome("fine")
        self.slots.release()
        if not self._breaker.is_untroubled:
            self._tell(Breaker.answered)

    def failed(self, permit: int, outcome: Outcome, error: str) -> None:
        """It failed, for a reason that is its own."""
        self.slots.outcome(outcome)
        self.slots.release()
        if outcome == "busy" and self.slots.limit > 1 and not permit:
            return  # fewer calls at once may be all that it needs
        self._tell(lambda breaker: breaker.failed(permit, error))

    def withdrawn(self, permit: int) -> None:
        """Nothing came of it: cancelled, or never sent."""
        self.slots.release()
        self._tell(lambda breaker: breaker.withdrawn(permit))

    def hold(self, seconds: float) -> None:
        """Send nothing for so long: the endpoint asked for it."""
        self._pace.hold(seconds)

    async def _until_closed_or_due(self, most_failed_probes: float) -> None:
        while (seconds := self._breaker.seconds_left()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), None if math.isinf(seconds) else seconds)
            if self._breaker.failed_probes >= most_failed_probes:
                since = f"{self.health.since:%H:%M:%S} UTC"
                found = f"not called: it failed again and again since {since}, last with: {self.health.error}"
                raise Fault("breaker", found, is_final=True)

    def _tell(self, news: Callable[[Breaker], None]) -> None:
        """Change the breaker, and wake who waits for it."""
        before = self.health
        news(self._breaker)
        if self.health.state == before.state:
            return
        if self.health.is_healthy:
            self.slots.restart()
            logger.warning("%s: answers again", self._where)
        elif before.is_healthy:
            logger.warning("%s: fails again and again; calls wait. %s", self._where, self.health.error)
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
