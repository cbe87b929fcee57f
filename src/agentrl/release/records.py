"""The words of a release: its states, arms and channels, one session's evidence, a verdict, what the gateway serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

MAX_ROLLBACK_SECONDS = 300.0
"""Excluded: a drill whose rollback took as long does not count."""


class ReleaseState(StrEnum):
    """Where a release stands. The last three are ends."""

    DRAFT = "draft"
    OFFLINE_EVAL = "offline_eval"
    SHADOW = "shadow"
    CANARY = "canary"
    GENERAL = "general"
    REJECTED = "rejected"
    ROLLED_BACK = "rolled_back"
    SUPERSEDED = "superseded"

    @property
    def is_end(self) -> bool:
        """Whether nothing follows."""
        return self in (ReleaseState.REJECTED, ReleaseState.ROLLED_BACK, ReleaseState.SUPERSEDED)


class Arm(StrEnum):
    """Which policy a session talks to."""

    BASELINE = "baseline"
    CANDIDATE = "candidate"


class Outcome(StrEnum):
    """Of a gate. Only `pass` lets a release go on; only `fail` brings it back and counts towards a halt."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"
    INVALID = "invalid"


@dataclass(frozen=True)
class SessionEvidence:
    """What gates know of one session, or of one rollout of an evaluation. None was not measured: neither 0 nor false.

    The unit of analysis; never the request.
    """

    session_id: str
    arm: Arm
    at: float = 0.0
    """When it was assigned, in seconds since 1970; 0 of an evaluation."""
    cluster: str = ""
    """Sessions that are not independent share it, such as those of one user; empty is a cluster of its own."""
    pair: str = ""
    """Evidence of both arms on the same task, item and sample share it; empty has no partner."""
    intent: str = ""
    success: bool | None = None
    quality: float | None = None
    """A grader's score."""
    safety_violations: int | None = None
    zero_tolerance: bool = False
    """A violation here fails its gate by itself."""
    seconds: float | None = None
    """What the user waited for."""
    cost_usd: float | None = None
    human_override: bool | None = None
    """None: the window in which people may override is still open."""
    tool_calls: int | None = None
    tool_errors: int | None = None
    """Of `tool_calls`, those the policy is to blame for."""
    tool_infra_errors: int | None = None
    policy_kl: float | None = None
    """Nats per token, candidate from the frozen reference."""
    policy_kl_tokens: int | None = None
    extra: Mapping[str, float] = field(default_factory=dict)
    """Measured by a metric that the team added."""
    conditions: str = ""
    """Digest of the graders, tools and prompts that it was made under; evidence of two of them never combines."""


@dataclass(frozen=True)
class Verdict:
    """One look at one gate. The same inputs give the same bytes of `to_record`, but for `at`, which is an input."""

    gate: str
    stage: str
    release_id: str
    at: str
    """ISO 8601, UTC."""
    look_no: int
    n_candidate: int
    n_baseline: int
    estimate: float | None
    """Of the candidate against the baseline (difference or ratio, see `scale`), or of the candidate alone."""
    lower: float | None
    upper: float | None
    candidate: float | None
    """The metric on each arm."""
    baseline: float | None
    scale: str
    """difference, ratio, or value."""
    margin: float | None
    """In the estimate's own unit: the bound that must be cleared."""
    alpha: float
    test: str
    verdict: Outcome
    reason: str
    severity: str
    data_digest: str
    gate_digest: str
    code_version: str
    is_shown_only: bool = False
    """Printed in tables and briefs; decides nothing."""
    alpha_rollback: float | None = None
    """Of the side of harm, this gate's share of it; `alpha` is that of the side which must be clear."""
    adjusted: float | None = None
    """The estimate at one mix of intents on both arms; shown beside it, decides nothing."""

    def to_record(self) -> dict[str, Any]:
        """As plain JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Release:
    """One candidate's way to users."""

    id: str
    workflow: str
    candidate_bundle: str
    candidate_upstream: str
    baseline_bundle: str
    baseline_upstream: str
    state: ReleaseState
    version: int
    """Grows by one with every change: a change names the version that it saw, and is refused if that is old."""
    share_percent: float
    """Of sessions, while it is a canary."""
    created_at: float
    changed_at: float
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Resolved `release`, `monitoring` and `gateway` sections: the rules that it is judged by are frozen with it."""
    entered_at: float = 0.0
    """When its state began; a share that grows within a canary does not change it."""
    evidence_since: float = 0.0
    """Sessions that were assigned earlier count no longer: they were graded by other graders, or by none yet."""
    verdicts_since: float = 0.0
    """Verdicts from before count no longer: graders changed, though some sessions from before stay comparable."""
    started_by: str = ""


@dataclass(frozen=True)
class Routing:
    """What every replica of a gateway serves. Changes with `epoch`; a lease is renewed without."""

    workflow: str
    epoch: int
    general_upstream: str
    """Empty: the gateway's own `general`."""
    general_bundle: str
    release_id: str
    """The one in shadow or canary, or else the one that serves all users; empty: there has been none."""
    channel: str
    """shadow, canary or general; empty without a release."""
    candidate_upstream: str
    candidate_bundle: str
    share_percent: float
    salt: str
    """Of the hash that assigns sessions; the release's own, and the same at every share."""
    lease_renewal: int
    """Grows with every renewal. A replica counts `lease_seconds` on its own monotonic clock from when it first saw a
    number: wall clocks may jump, and a replica that starts trusts no lease until the next renewal."""
    lease_seconds: float
