"""Which policy a session talks to: a pure function of the routing, the lease and the session."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from agentrl.gateway.lease import Lease
from agentrl.release.records import Arm, Routing

CANARY = "canary"
SHADOW = "shadow"
GENERAL = "general"


def position(salt: str, session_id: str) -> float:
    """In [0, 100): where a session lies. At a share of p percent those below p are the candidate's.

    HMAC-SHA256 of the id under the release's salt, its first 8 bytes as a fraction: who does not know the salt cannot
    choose an id that becomes the candidate's, and sessions of one release say nothing about those of the next.
    """
    digest = hmac.digest(salt.encode(), session_id.encode(), hashlib.sha256)
    return int.from_bytes(digest[:8]) / 2**64 * 100


@dataclass(frozen=True)
class Served:
    """What a replica serves: the row that it saw last, and what it knows of the lease."""

    general: str
    """Upstream of everybody who is no candidate's."""
    routing: Routing | None = None
    """None: there was no release, or the store could not be read since the start."""
    lease: Lease = field(default_factory=Lease)
    problem: str = ""
    """Why the row's candidate is not served though the row says so."""

    @property
    def epoch(self) -> int:
        return 0 if self.routing is None else self.routing.epoch

    @property
    def release_id(self) -> str:
        return "" if self.routing is None else self.routing.release_id

    @property
    def channel(self) -> str:
        """canary, shadow or general: under which sessions are recorded."""
        return (self.routing.channel if self.routing else "") or GENERAL

    @property
    def candidate(self) -> str:
        """The upstream of a canary's candidate; empty where there is none."""
        row = self.routing
        return row.candidate_upstream if row and row.channel == CANARY and not self.problem else ""

    @property
    def shadow(self) -> str:
        """The upstream that is sent copies; empty where there is none."""
        row = self.routing
        return row.candidate_upstream if row and row.channel == SHADOW and not self.problem else ""

    @property
    def share_percent(self) -> float:
        return self.routing.share_percent if self.routing and self.candidate else 0.0

    def may_serve_candidate(self, at: float) -> bool:
        """Whether a session may talk to a canary's candidate at a time of `steady_seconds`."""
        return self.share_percent > 0 and self.lease.holds(at)

    def bundle_of(self, upstream: str) -> str:
        """What the row says that an upstream serves."""
        if self.routing is None:
            return ""
        if upstream == self.routing.candidate_upstream:
            return self.routing.candidate_bundle
        return self.routing.general_bundle if upstream == self.general else ""


def served(
    routing: Routing | None, lease: Lease, *, general: str, bundles: Mapping[str, str], salted_share: bool = True
) -> Served:
    """What a row means at a gateway.

    Args:
        general: the config's own, for a row that names none.
        bundles: of the config's upstreams, by name; empty where the config does not say.
        salted_share: refuse a canary without a salt, which anybody could choose an id for.
    """
    if routing is None:
        return Served(general, None, lease)
    problem = ""
    name = routing.general_upstream or general
    if name not in bundles:
        problem = f"the routing's general upstream '{name}' is not in gateway.upstreams; '{general}' serves"
        name = general
    candidate = routing.candidate_upstream
    if routing.channel in (CANARY, SHADOW):
        declared = bundles.get(candidate, "")
        if candidate not in bundles:
            problem = f"the candidate's upstream '{candidate}' is not in gateway.upstreams"
        elif declared and routing.candidate_bundle and declared != routing.candidate_bundle:
            problem = f"gateway.upstreams.{candidate} serves {declared}, the release is of {routing.candidate_bundle}"
        elif salted_share and routing.channel == CANARY and routing.share_percent > 0 and not routing.salt:
            problem = "the canary has no salt"
    return Served(name, routing, lease, problem)


def choose_arm(served: Served, session_id: str, at: float) -> Arm:
    """The arm of a session that begins."""
    if served.routing is None or not served.may_serve_candidate(at):
        return Arm.BASELINE
    is_candidate = position(served.routing.salt, session_id) < served.share_percent
    return Arm.CANDIDATE if is_candidate else Arm.BASELINE


class Assigned(Protocol):
    """What is known of a session that has begun."""

    @property
    def release_id(self) -> str: ...
    @property
    def arm(self) -> Arm: ...
    @property
    def upstream(self) -> str: ...
    @property
    def channel(self) -> str: ...
    @property
    def is_moved(self) -> bool: ...


def upstream_of(session: Assigned, served: Served, at: float, *, known: Mapping[str, object]) -> str:
    """Who answers a session's next request: for its life the one that it began with, unless that was taken back.

    - A candidate's session stays while the candidate may be served, and after its promotion. Once it was moved to the
      baseline it stays there, whatever is renewed later.
    - Any other stays with its upstream: also with the previous policy after a promotion, which is kept ready. A
      promoted policy that was taken back (the row's release is no longer the one that the session began under, or
      serves nobody) answers nobody.

    Args:
        known: upstreams of the config, by name.
    """
    if session.is_moved or session.upstream == served.general:
        return served.general
    if session.arm is Arm.CANDIDATE:
        is_current = session.upstream == served.candidate and session.release_id == served.release_id
        return session.upstream if is_current and served.may_serve_candidate(at) else served.general
    is_hot = session.channel == CANARY and session.release_id == served.release_id and served.channel == GENERAL
    return session.upstream if is_hot and session.upstream in known else served.general
