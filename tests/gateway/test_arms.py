"""Which policy a session talks to."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from agentrl.gateway.arms import Served, choose_arm, position, served, upstream_of
from agentrl.gateway.lease import Lease
from agentrl.release.records import Arm
from tests.gateway.test_lease import ROW

BUNDLES = {"base": "", "candidate": ""}
HELD = Lease("r1", 8, 0.0, 1e9)


def serving(**row: object) -> Served:
    return served(replace(ROW, **row), HELD, general="base", bundles=BUNDLES)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Begun:
    arm: Arm
    upstream: str
    release_id: str = "r1"
    channel: str = "canary"
    is_moved: bool = False


def where(session: Begun, now: Served) -> str:
    return upstream_of(session, now, 5.0, known=BUNDLES)


@given(st.text(max_size=40), st.floats(0.0, 50.0), st.floats(0.0, 50.0))
def test_a_larger_share_keeps_the_candidates_sessions(session: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    if choose_arm(serving(share_percent=small), session, 1.0) is Arm.CANDIDATE:
        assert choose_arm(serving(share_percent=large), session, 1.0) is Arm.CANDIDATE


def test_the_share_is_what_was_asked_for() -> None:
    n, share = 20_000, 5.0
    found = sum(position("pepper", f"session-{i}") < share for i in range(n))
    assert abs(found - n * 0.05) < 4 * math.sqrt(n * 0.05 * 0.95)


def test_another_salt_is_another_draw() -> None:
    both = sum(position("a", f"{i}") < 50 and position("b", f"{i}") < 50 for i in range(4000))
    assert abs(both - 1000) < 4 * math.sqrt(4000 * 0.25 * 0.75)


def test_nobody_is_the_candidates_without_share_lease_or_salt() -> None:
    assert choose_arm(serving(), "s", 1.0) is Arm.CANDIDATE
    for changed in ({"share_percent": 0.0}, {"channel": "shadow"}, {"channel": "general"}, {"salt": ""}):
        assert choose_arm(serving(**changed), "s", 1.0) is Arm.BASELINE
    assert choose_arm(Served("base", ROW, Lease()), "s", 1.0) is Arm.BASELINE
    assert choose_arm(Served("base"), "s", 1.0) is Arm.BASELINE


def test_a_candidate_that_the_config_does_not_know_serves_nobody() -> None:
    unknown = serving(candidate_upstream="nobody")
    assert "nobody" in unknown.problem
    assert choose_arm(unknown, "s", 1.0) is Arm.BASELINE
    other = served(
        replace(ROW, candidate_bundle="sha256:a"), HELD, general="base", bundles={"base": "", "candidate": "sha256:b"}
    )
    assert "sha256:b" in other.problem
    assert choose_arm(other, "s", 1.0) is Arm.BASELINE


def test_a_candidates_session_stays_and_is_promoted_with_it() -> None:
    session = Begun(Arm.CANDIDATE, "candidate")
    assert where(session, serving(share_percent=1.0)) == "candidate"
    promoted = serving(channel="general", candidate_upstream="", share_percent=0.0, general_upstream="candidate")
    assert where(session, promoted) == "candidate"


def test_a_candidate_that_was_taken_back_answers_nobody() -> None:
    session = Begun(Arm.CANDIDATE, "candidate")
    assert where(session, serving(share_percent=0.0)) == "base"
    assert where(session, serving(release_id="r2")) == "base"
    assert where(session, Served("base", ROW, Lease())) == "base"
    assert where(replace(session, is_moved=True), serving()) == "base"


def test_a_baseline_session_keeps_the_previous_policy_after_a_promotion() -> None:
    promoted = serving(channel="general", candidate_upstream="", share_percent=0.0, general_upstream="candidate")
    assert where(Begun(Arm.BASELINE, "base"), promoted) == "base"
    assert where(Begun(Arm.BASELINE, "base", release_id="", channel="general"), promoted) == "candidate"


def test_a_promoted_policy_that_was_taken_back_answers_nobody() -> None:
    began = Begun(Arm.BASELINE, "candidate", channel="general")
    back = serving(channel="", candidate_upstream="", share_percent=0.0, general_upstream="base", release_id="")
    assert where(began, back) == "base"


@given(
    st.sampled_from(Arm), st.sampled_from(["base", "candidate", "gone"]), st.booleans(),
    st.sampled_from(["canary", "general", "shadow"]), st.sampled_from(["", "canary", "general", "shadow"]),
    st.sampled_from([0.0, 5.0]), st.sampled_from(["r1", "r2"]),
)  # fmt: skip
def test_who_answers_is_always_somebody_who_may(
    arm: Arm, upstream: str, is_moved: bool, channel: str, now: str, share: float, release: str
) -> None:
    serves = serving(channel=now, share_percent=share, release_id=release)
    found = where(Begun(arm, upstream, channel=channel, is_moved=is_moved), serves)
    assert found in BUNDLES
    if found == "candidate" and arm is Arm.CANDIDATE:
        assert serves.may_serve_candidate(5.0)
        assert not is_moved
