"""The share of a candidate is a lease: it ends by itself where nobody renews it.

A renewal is a number that grows in the routing row. Each replica counts `lease_seconds` on its own clock, from just
before it read a new number, so that wall clocks, slow reads and the controller's fate do not matter. The first number
that a replica sees of a release proves nothing: it may be as old as the row.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from agentrl.release.records import Routing


@dataclass(frozen=True)
class Lease:
    """What a replica knows of it. Times are of `steady_seconds`."""

    release_id: str = ""
    renewal: int | None = None
    """The latest number that was seen; None is none."""
    since: float = 0.0
    until: float = 0.0
    """Excluded; not after `since` where no renewal was seen."""

    def after(self, routing: Routing, at: float) -> Lease:
        """The lease once a row was read.

        Args:
            at: before the reading began: the number was there by then, or came later.
        """
        if self.renewal is None or routing.release_id != self.release_id or routing.lease_renewal < self.renewal:
            return Lease(routing.release_id, routing.lease_renewal)
        if routing.lease_renewal == self.renewal:
            return self
        return replace(self, renewal=routing.lease_renewal, since=at, until=at + routing.lease_seconds)

    def holds(self, at: float) -> bool:
        """Whether candidates may be served; not by a clock that went back behind the renewal."""
        return self.since <= at < self.until
