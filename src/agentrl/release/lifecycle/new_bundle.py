"""Another bundle under a release that is under way: other graders, rubric, suites or tool policy, the same policy.

A grader that changes is a new bundle, and what was seen under the old one says nothing under the new: evidence counts
from this instant, verdicts begin anew, approvals lapse as what they were given for has changed, and the shortest time
as a canary starts again. Another policy is another release.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentrl.errors import ConflictError, ReleaseError
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.states import UNDER_WAY
from agentrl.release.lifecycle.transition import release_row, routing_now
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.registry import diff_bundles, read_bundle
from agentrl.release.registry.differences import SAME

FIXED = ("policy", "baseline", "prompts")
"""Parts that make another candidate of it."""


def change_bundle(
    place: ReleasePlace, release_id: str, bundle: str, *, actor: str, expected_version: int, now: float
) -> tuple[Release, list[str]]:
    """Go on with another bundle and without the evidence so far; returns the release and what is different.

    Raises:
        ConfigError: there is no such bundle, or release.
        ConflictError: the release is of another version.
        ReleaseError: it is not under way, the bundle is the same, or of another policy.
    """
    wanted = read_bundle(place, bundle)
    with ledger(place) as books:
        release = read_release(place, release_id)
        if release.version != expected_version:
            raise ConflictError(f"{release.id} is of version {release.version} by now, not {expected_version}")
        if release.state not in UNDER_WAY:
            raise ReleaseError(f"{release.id} is {release.state}; its bundle stays what it is")
        if wanted.id == release.candidate_bundle:
            raise ReleaseError(f"{release.id} is of {wanted.id[:19]} already")
        parts = diff_bundles(place, release.candidate_bundle, wanted.id)
        said = [each.part for each in parts if each.state != SAME and each.part != "parent"]
        if other := [part for part in said if part.partition("/")[0] in FIXED]:
            raise ReleaseError(
                f"{wanted.id[:19]}: {', '.join(other)} differ; that is another candidate: start a release of its own"
            )
        reason = f"evidence counts from now: {', '.join(said) or 'the bundle'} changed"
        changed = replace(
            release, candidate_bundle=wanted.id, evidence_since=now, changed_at=now, version=release.version + 1
        )
        rows: dict[str, Any] = {"releases": [release_row(changed)]}
        routing = routing_now(place)
        if release.state in (ReleaseState.SHADOW, ReleaseState.CANARY):
            rows["routing"] = {**routing, "candidate_bundle": wanted.id}
        books.record(
            "bundle",
            actor=actor,
            now=now,
            release_id=release.id,
            changes=rows,
            version=changed.version,
            reason=reason,
            **{"from": release.candidate_bundle, "to": wanted.id},
        )
    return changed, said
