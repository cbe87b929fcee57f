"""A canary's share of sessions, which grows and shrinks without a step: its state and evidence go on."""

from __future__ import annotations

from dataclasses import replace

from agentrl.errors import ConfigError, ConflictError, ReleaseError
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_release, read_workflow
from agentrl.release.lifecycle.transition import release_row, routing_now
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState


def change_share(
    place: ReleasePlace, release_id: str, percent: float, *, actor: str, expected_version: int, now: float
) -> Release:
    """Another share of sessions for a canary; sessions that it serves stay with it where the share grows.

    Raises:
        ConfigError: the share is none.
        ConflictError: the release is of another version.
        ReleaseError: it is no canary, or the workflow is halted and the share would grow.
    """
    if not 0 < percent <= 50:
        raise ConfigError(f"--share {percent:g}: found a share out of range; allowed: above 0, up to 50 percent")
    with ledger(place) as books:
        release = read_release(place, release_id)
        if release.version != expected_version:
            raise ConflictError(f"{release.id} is of version {release.version} by now, not {expected_version}")
        if release.state is not ReleaseState.CANARY:
            raise ReleaseError(f"{release.id} is {release.state}; only a canary has a share")
        if percent > release.share_percent and read_workflow(place).is_halted:
            raise ReleaseError(f"{place.workflow} is halted: no share may grow; `agentrl release resume`")
        changed = replace(release, share_percent=percent, version=release.version + 1, changed_at=now)
        changes = {
            "releases": [release_row(changed)],
            "routing": {**routing_now(place), "share_percent": percent},
        }
        books.record(
            "share",
            actor=actor,
            now=now,
            release_id=release.id,
            changes=changes,
            version=changed.version,
            **{"from": release.share_percent, "to": percent},
        )
    return changed
