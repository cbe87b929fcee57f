"""The map: which state follows which, and what a release that leaves it ends as."""

from __future__ import annotations

from collections.abc import Mapping

from agentrl.errors import ReleaseError
from agentrl.release.records import ReleaseState

S = ReleaseState

NEXT: Mapping[ReleaseState, tuple[ReleaseState, ...]] = {
    S.DRAFT: (S.OFFLINE_EVAL, S.REJECTED),
    S.OFFLINE_EVAL: (S.SHADOW, S.REJECTED),
    S.SHADOW: (S.CANARY, S.REJECTED),
    S.CANARY: (S.GENERAL, S.ROLLED_BACK),
    S.GENERAL: (S.ROLLED_BACK, S.SUPERSEDED),
    S.REJECTED: (),
    S.ROLLED_BACK: (),
    S.SUPERSEDED: (),
}
FORWARD: Mapping[ReleaseState, ReleaseState] = {
    S.DRAFT: S.OFFLINE_EVAL,
    S.OFFLINE_EVAL: S.SHADOW,
    S.SHADOW: S.CANARY,
    S.CANARY: S.GENERAL,
}
UNDER_WAY = (S.DRAFT, S.OFFLINE_EVAL, S.SHADOW, S.CANARY)
"""A workflow has at most one release in these."""


def way_back(state: ReleaseState) -> ReleaseState:
    """What a release is that is taken back now: rejected, as long as no user has seen it."""
    return S.ROLLED_BACK if state in (S.CANARY, S.GENERAL) else S.REJECTED


def check_legal(release_id: str, state: ReleaseState, to: ReleaseState) -> None:
    """Whether the map has this step.

    Raises:
        ReleaseError: it has not; names the steps that it has.
    """
    if to in NEXT[state]:
        return
    legal = ", ".join(NEXT[state]) or "nothing, it is an end"
    raise ReleaseError(f"{release_id} is {state}: found a step to {to}; allowed: {legal}")
