"""Looks at the routing row a few times a second, in a thread: a database that hangs holds up nobody's answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from agentrl.errors import ReleaseError
from agentrl.gateway.arms import Served, served
from agentrl.gateway.lease import Lease
from agentrl.release.records import Routing
from agentrl.release.steady_clock import steady_seconds

logger = logging.getLogger(__name__)


class RoutingPoll:
    """What is served, as of the latest look.

    `served` is replaced whole, by the thread alone, and read by everybody.

    Args:
        read: the workflow's row; raises ReleaseError where the store cannot be read.
        on_change: called in the thread after a look that found another epoch, or the lease renewed.
        may_renew: whether a renewal is one for this replica, too.
    """

    def __init__(
        self,
        read: Callable[[], Routing | None],
        *,
        general: str,
        bundles: Mapping[str, str],
        poll_seconds: float,
        on_change: Callable[[], None] = lambda: None,
        may_renew: Callable[[], bool] = lambda: True,
        clock: Callable[[], float] = steady_seconds,
    ) -> None:
        self._read = read
        self._general, self._bundles = general, dict(bundles)
        self._poll_seconds = poll_seconds
        self.on_change, self._may_renew = on_change, may_renew
        self._clock = clock
        self.served = Served(general)
        self.trouble = ""
        """Why the latest look saw nothing."""
        self.looked_at: float | None = None
        """Beginning of the latest look that saw something, on the steady clock."""
        self._end = threading.Event()
        self._one_look = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="agentrl-routing", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """End; a look that hangs is left behind."""
        self._end.set()
        self._thread.join(self._poll_seconds + 1.0)

    def look(self) -> None:
        """Read the row once. What cannot be read changes nothing: the lease runs out by itself."""
        with self._one_look:  # of two at once, the one that read first must not have the last word
            self._look()

    def _look(self) -> None:
        at = self._clock()  # before the reading: a slow answer makes no lease longer
        before = self.served
        try:
            row = self._read()
        except ReleaseError as error:
            if not self.trouble:
                logger.error("the routing cannot be read: %s", error)
            self.trouble = str(error)
            return
        if self.trouble:
            logger.warning("the routing can be read again")
        self.trouble, self.looked_at = "", at
        lease = before.lease if row is None else before.lease.after(row, at)
        if lease.until > before.lease.until and not self._may_renew():
            lease = before.lease
        now = Lease() if row is None else lease
        self.served = served(row, now, general=self._general, bundles=self._bundles)
        if self.served.problem and self.served.problem != before.problem:
            logger.error("%s; no candidate is served", self.served.problem)
        if (before.epoch, before.lease) != (self.served.epoch, self.served.lease):
            self.on_change()

    def _run(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # what is served stays, and its lease runs out
                logger.exception("the routing could not be looked at")
            if self._end.wait(self._poll_seconds):
                return
