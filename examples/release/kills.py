"""Kills as crashes kill, and what users see of them."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from sqlalchemy import select

from agentrl.release.lifecycle.drain import read_drain
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.read import read_release
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.store import tables
from examples.release.scene import Scene
from examples.release.settings import SPANS

BEFORE_KILL = 5
"""Sessions of the candidate, so that the canary is one."""
LEASE_SECONDS = float(SPANS["lease_seconds"])
POLL_SECONDS = 0.02
SETTLE_SECONDS = 1.5
"""In which users come back to a gateway that was started again."""


async def kill_controller(scene: Scene) -> dict[str, Any]:
    """In the middle of a canary; the lease ends, and another controller finds what happened."""
    await _candidates(scene.place, BEFORE_KILL)
    scene.controller.kill()
    killed = time.time()
    while any(row["has_lease"] for row in _replicas(scene.place)):
        await asyncio.sleep(POLL_SECONDS)
    noticed = time.time()
    last = max((row["last_candidate_at"] or killed for row in _replicas(scene.place)), default=killed)
    await asyncio.to_thread(scene.start_controller)
    return {
        "killed": "controller, in the canary",
        "last_candidate_seconds": round(max(last - killed, 0.0), 2),
        "lease_gone_seconds": round(noticed - killed, 2),
        "limit_seconds": LEASE_SECONDS + 1.0,
    }


async def kill_gateway(scene: Scene, canary: Release) -> dict[str, Any]:
    """While it lets go of a candidate that was rolled back; it is started again, and users come back."""
    while (await asyncio.to_thread(read_release, scene.place, canary.id)).state is ReleaseState.CANARY:
        await asyncio.sleep(POLL_SECONDS)
    in_flight = sum(row["candidate_in_flight"] for row in _replicas(scene.place))
    record = next(each for each in read_incidents(scene.place) if each["release_id"] == canary.id)["record"]
    decided, now = record["t_decision"], time.time()
    is_complete = read_drain(
        scene.place, epoch=record["epoch"], t_decision=decided, lease_seconds=LEASE_SECONDS, now=now
    ).is_complete
    scene.gateway.kill()
    killed = time.time()
    await asyncio.to_thread(scene.start_gateway)
    back = time.time()
    await asyncio.sleep(SETTLE_SECONDS)
    return {
        "killed": "gateway, in the rollback",
        "after_decision_seconds": round(killed - decided, 2),
        "candidate_in_flight": in_flight,
        "was_complete": is_complete,
        "back_seconds": round(back - killed, 2),
        "candidates_after_restart": await asyncio.to_thread(_assigned_since, scene.place, back),
        "others_after_restart": await asyncio.to_thread(_assigned_since, scene.place, back, arm="baseline"),
    }


async def _candidates(place: ReleasePlace, wanted: int) -> None:
    """Wait until so many sessions are the candidate's."""
    since = time.time()
    while await asyncio.to_thread(_assigned_since, place, since) < wanted:
        await asyncio.sleep(POLL_SECONDS)


def _assigned_since(place: ReleasePlace, since: float, *, arm: str = "candidate") -> int:
    table = tables.sessions.c
    with place.store.read() as connection:
        found = connection.execute(
            select(table.session_id).where(
                table.workflow == place.workflow, table.arm == arm, table.channel != "shadow", table.assigned_at > since
            )
        ).all()
    return len(found)


def _replicas(place: ReleasePlace) -> list[Any]:
    with place.store.read() as connection:
        rows = connection.execute(select(tables.replicas).where(tables.replicas.c.workflow == place.workflow))
        return [row._mapping for row in rows]
