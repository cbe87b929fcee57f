"""T13, T14: an approval is for one call, once, in time, and by somebody else; anything else is a no."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from agentrl.config.tool_policy import ToolPolicyConfig
from agentrl.errors import ConfigError, ConflictError, ReleaseError
from agentrl.release import approvals as room
from agentrl.release.approvals import StoreApprover, ToolApprovals
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import approvals
from agentrl.tools.approval import ApprovalRequest

ARGUMENTS = '{"order": "AB-1234", "amount": 500}'
RULES = ToolPolicyConfig(default="needs_approval", approval_timeout_seconds=300, approval_valid_seconds=600)


class Wall:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def desk(place: ReleasePlace, wall: Wall) -> ToolApprovals:
    return ToolApprovals(place, RULES, wall=wall)


def refund(
    arguments: str = ARGUMENTS, *, session: str = "s1", tool: str = "refund", bundle: str = "b1"
) -> ApprovalRequest:
    return ApprovalRequest(tool, arguments, session, "large refunds", {"bundle": bundle})


def approved(desk: ToolApprovals) -> str:
    asked = desk.request(refund(), agent="support-app")
    desk.answer(asked.id, approver="ada", is_approved=True)
    return asked.id


def test_a_call_is_made_once_a_person_has_approved_it(desk: ToolApprovals) -> None:
    asked = desk.request(refund(), agent="support-app")
    assert desk.use(asked.id, refund()).outcome == "pending"
    assert [row["id"] for row in desk.waiting()] == [asked.id]
    desk.answer(asked.id, approver="ada", is_approved=True)
    assert desk.waiting() == []
    use = desk.use(asked.id, refund('{"amount": 500, "order": "AB-1234"}'))  # the same call, written otherwise
    assert (use.may_call, use.reason) == (True, "approved by ada")


def test_t13_an_approval_is_used_once(desk: ToolApprovals) -> None:
    request = approved(desk)
    assert desk.use(request, refund()).may_call
    assert desk.use(request, refund()).outcome == "used"


def test_t13_of_many_who_use_it_at_once_one_may_call(desk: ToolApprovals) -> None:
    request = approved(desk)
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: desk.use(request, refund()).may_call, range(12)))
    assert outcomes.count(True) == 1


@pytest.mark.parametrize(
    "other",
    [
        refund('{"order": "AB-1234", "amount": 501}'),
        refund('{"order": "AB-1234", "amount": "500"}'),
        refund('{"order": "AB-1234", "amount": 500, "to": "x"}'),
        refund(tool="transfer"),
        refund(session="s2"),
        refund(bundle="b2"),
        refund("no json"),
    ],
    ids=["amount", "type", "more", "tool", "session", "bundle", "broken"],
)
def test_t13_an_approval_of_another_call_counts_for_nothing(desk: ToolApprovals, other: ApprovalRequest) -> None:
    request = approved(desk)
    assert desk.use(request, other).outcome == "changed"
    assert desk.use(request, refund()).may_call  # a wrong try does not use it up


@pytest.mark.parametrize("name", ["support-app", " Support-App ", "s1"])
def test_t13_an_agent_does_not_approve_itself(desk: ToolApprovals, name: str) -> None:
    asked = desk.request(refund(), agent="support-app")
    with pytest.raises(ConfigError, match="cannot approve it"):
        desk.answer(asked.id, approver=name, is_approved=True)
    assert desk.use(asked.id, refund()).outcome == "pending"


def test_t13_a_row_that_was_moved_to_a_later_hour_is_another_approval(
    desk: ToolApprovals, place: ReleasePlace, wall: Wall
) -> None:
    request = approved(desk)
    with place.store.write() as connection:
        connection.execute(update(approvals).values(expires_at=wall.now + 10**6))
    wall.now += 5000
    assert desk.use(request, refund()).outcome == "changed"


def test_t14_nobody_answers_and_the_call_is_denied(desk: ToolApprovals, wall: Wall) -> None:
    asked = desk.request(refund(), agent="support-app")
    wall.now += 300
    use = desk.use(asked.id, refund())
    assert (use.outcome, use.may_call) == ("approval_timeout", False)
    assert desk.waiting() == []
    with pytest.raises(ConflictError, match="too late"):
        desk.answer(asked.id, approver="ada", is_approved=True)
    counts = desk.counts("s1")
    assert counts is not None
    assert (counts.timeouts, counts.refused_by_person, counts.human_approval) == (1, 0, None)


def test_an_approval_expires(desk: ToolApprovals, wall: Wall) -> None:
    request = approved(desk)
    wall.now += 900
    assert desk.use(request, refund()).outcome == "expired"


def test_a_clock_that_jumps_back_makes_no_old_word_young(desk: ToolApprovals, wall: Wall) -> None:
    """F37: an approval from the future is none."""
    request = approved(desk)
    wall.now -= 3600
    assert desk.use(request, refund()).outcome == "expired"


def test_a_no_is_a_no_and_an_answer_is_given_once(desk: ToolApprovals) -> None:
    asked = desk.request(refund(), agent="support-app")
    desk.answer(asked.id, approver="ada", is_approved=False, reason="too much; ask jane@example.com")
    with pytest.raises(ConflictError, match="ada has denied it before"):
        desk.answer(asked.id, approver="bob", is_approved=True)
    assert desk.use(asked.id, refund()).outcome == "refused"
    counts = desk.counts("s1")
    assert counts is not None
    assert (counts.refused_by_person, counts.human_approval) == (1, False)


def test_unknown_ids_and_nameless_people_are_refused(desk: ToolApprovals) -> None:
    assert desk.use("t-unknown", refund()).outcome == "unknown"
    with pytest.raises(ReleaseError, match="no tool call waits under this id"):
        desk.answer("t-unknown", approver="ada", is_approved=True)
    asked = desk.request(refund(), agent="support-app")
    with pytest.raises(ConfigError, match="needs a name"):
        desk.answer(asked.id, approver="  ", is_approved=True)
    with pytest.raises(ConfigError, match="no JSON"):
        desk.request(refund("{"), agent="support-app")


def test_another_workflows_requests_are_not_ours(place: ReleasePlace, desk: ToolApprovals, wall: Wall) -> None:
    other = ToolApprovals(ReleasePlace("suppor_", place.folder, place.store), RULES, wall=wall)
    request = approved(desk)
    assert other.use(request, refund()).outcome == "unknown"
    assert other.waiting() == []


def test_t8_t9_what_people_are_shown_is_redacted_and_what_they_approve_is_not(
    desk: ToolApprovals, place: ReleasePlace
) -> None:
    call = refund('{"mail": "jane@example.com", "api_key": "planted-secret-value-1"}')
    asked = desk.request(call, agent="support-app")
    (row,) = desk.waiting()
    assert row["arguments"] == {"mail": "[email]", "api_key": "[secret]"}
    with place.store.read() as connection:
        kept = json.dumps([dict(each._mapping) for each in connection.execute(select(approvals))])
    assert "jane" not in kept
    assert "planted" not in kept
    desk.answer(asked.id, approver="ada", is_approved=True)
    assert (
        desk.use(asked.id, refund('{"mail": "joe@example.com", "api_key": "planted-secret-value-1"}')).outcome
        == "changed"
    )
    assert desk.use(asked.id, call).may_call


def test_an_agent_that_asks_without_end_is_stopped(desk: ToolApprovals, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MAX_PENDING", 3)
    for _ in range(3):
        desk.request(refund(), agent="support-app")
    with pytest.raises(ReleaseError, match="3 requests wait for people"):
        desk.request(refund(), agent="support-app")
    desk.request(refund(session="s2"), agent="support-app")


def test_decisions_are_counted_by_session(desk: ToolApprovals) -> None:
    assert desk.counts("s1") is None
    for decision in ("allow", "allow", "deny", "scope", "needs_approval"):
        desk.note("s1", "refund", decision)
    assert desk.use(approved(desk), refund()).may_call
    counts = desk.counts("s1")
    assert counts is not None
    assert (counts.approved, counts.denied, counts.out_of_scope) == (3, 1, 1)
    assert (counts.approved_by_person, counts.human_approval) == (1, True)


@pytest.mark.parametrize(("word", "outcome"), [(True, "approved"), (False, "refused"), (None, "approval_timeout")])
def test_t14_a_rollout_waits_for_people_and_not_for_ever(place: ReleasePlace, word: bool | None, outcome: str) -> None:
    desk = ToolApprovals(place, RULES)
    seconds = 0.2 if word is None else 30.0
    approver = StoreApprover(desk, agent="support-app", timeout_seconds=seconds, poll_seconds=0.01)

    async def person() -> None:
        while not (found := await asyncio.to_thread(desk.waiting)):
            await asyncio.sleep(0.01)
        if word is not None:
            await asyncio.to_thread(desk.answer, found[0]["id"], approver="ada", is_approved=word)

    async def run() -> str:
        said, _ = await asyncio.gather(approver.ask(refund()), person())
        return said

    assert asyncio.run(run()) == outcome
