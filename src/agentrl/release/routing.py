"""What gateways serve: one row a workflow, changed by the controller and the state machine, read by every replica.

A change grows `epoch`. A renewal of the lease grows `lease_renewal` and nothing else, and is refused once the epoch is
another: a controller that was away too long does not give back what was taken.
"""

from __future__ import annotations

import time
from dataclasses import fields

from sqlalchemy import select, update

from agentrl.errors import ConflictError
from agentrl.release.records import Routing
from agentrl.release.store import Store
from agentrl.release.store.tables import routing


def read_routing(store: Store, workflow: str) -> Routing | None:
    """The row of a workflow; None before its first release.

    Raises:
        ReleaseError: the store cannot be read; a replica then counts on with the lease that it has.
    """
    with store.read() as connection:
        row = connection.execute(select(routing).where(routing.c.workflow == workflow)).one_or_none()
    if row is None:
        return None
    return Routing(**{field.name: row._mapping[field.name] for field in fields(Routing)})


def renew_lease(store: Store, workflow: str, *, epoch: int, now: float | None = None) -> int:
    """Let candidates be served for another `lease_seconds`; returns the number of this renewal.

    Args:
        now: seconds since 1970, kept for people; nothing is counted from it.

    Raises:
        ConflictError: the routing is of another epoch by now.
        ReleaseError: the store cannot be written.
    """
    with store.write() as connection:
        changed: int | None = connection.execute(
            update(routing)
            .where(routing.c.workflow == workflow, routing.c.epoch == epoch)
            .values(lease_renewal=routing.c.lease_renewal + 1, lease_renewed_at=time.time() if now is None else now)
            .returning(routing.c.lease_renewal)
        ).scalar_one_or_none()
    if changed is None:
        raise ConflictError(f"{workflow}: the routing is no longer of epoch {epoch}; the lease was not renewed")
    return changed
