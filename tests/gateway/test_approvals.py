"""T13, T14 over HTTP: an agent asks, a person answers on the admin port, the session's record says what came of it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest
from sqlalchemy import select, update

from agentrl.config.tool_policy import ToolPolicyConfig
from agentrl.gateway.gateway import Gateway
from agentrl.monitoring.session_log import read_sessions
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import approvals, sessions
from tests.gateway.world import ADMIN_KEY, World, world

RULES = ToolPolicyConfig.model_validate(
    {
        "rules": [
            {"tool": "look", "decision": "allow", "arguments": {"key": {"pattern": "[a-z]+", "required": True}}},
            {"tool": "refund", "decision": "needs_approval", "reason": "money leaves"},
        ]
    }
)
CALL: dict[str, Any] = {"session_id": "s1", "tool": "refund", "arguments": {"amount": 500}}


@pytest.fixture(autouse=True)
def admin_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ADMIN", ADMIN_KEY)


async def decide(here: World, **changes: Any) -> dict[str, Any]:
    answer = await here.client.post("/v1/tools/decide", json={**CALL, **changes})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def say(here: World, request: str, approver: str, approved: bool) -> httpx.Response:
    return await here.admin.post(f"/approvals/{request}", json={"approver": approver, "approved": approved})


def recorded(place: ReleasePlace, gateway: Gateway) -> dict[str, Any]:
    with place.store.write() as connection:
        connection.execute(update(sessions).values(status="closed", closed_at=sessions.c.last_at))
    gateway.closing.run_once()
    (record,) = read_sessions(place.folder / "sessions")
    return record


def test_a_call_is_made_once_a_person_on_the_admin_port_approved_it(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place, admin_key_env="TEST_ADMIN") as here:
            here.gateway.ask_before_calls(RULES)
            await here.says("s1")
            assert (await decide(here, tool="look", arguments={"key": "a"}))["decision"] == "allow"
            assert (await decide(here, tool="look", arguments={"key": "A"}))["outcome"] == "scope"
            assert (await decide(here, tool="made_up"))["decision"] == "deny"
            asked = await decide(here)
            assert (asked["decision"], asked["reason"], asked["outcome"]) == (
                "needs_approval",
                "money leaves",
                "pending",
            )
            request = asked["approval_id"]
            assert (await decide(here, approval_id=request))["decision"] == "needs_approval"
            waiting = (await here.admin.get("/approvals")).json()["data"]
            assert [(row["id"], row["tool"], row["arguments"]) for row in waiting] == [
                (request, "refund", {"amount": 500})
            ]
            assert (await say(here, request, "s1", True)).status_code == 403  # the agent's own word
            assert (await say(here, request, "ada", True)).status_code == 200
            assert (await say(here, request, "ada", False)).status_code == 409
            changed = await decide(here, approval_id=request, arguments={"amount": 5000})
            assert (changed["decision"], changed["outcome"]) == ("deny", "changed")
            assert (await decide(here, approval_id=request))["decision"] == "allow"
            again = await decide(here, approval_id=request)
            assert (again["decision"], again["outcome"]) == ("deny", "used")
            await here.written()
            record = await asyncio.to_thread(recorded, place, here.gateway)
            assert (record["tool_calls_approved"], record["human_approval"], record["approval_timeouts"]) == (
                2,
                True,
                0,
            )

    asyncio.run(run())


def test_t14_nobody_answers_and_the_record_says_so(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place, admin_key_env="TEST_ADMIN") as here:
            here.gateway.ask_before_calls(RULES)
            await here.says("s1")
            request = (await decide(here))["approval_id"]
            with place.store.write() as connection:  # five minutes later
                record = dict(connection.execute(select(approvals.c.record)).scalar_one())
                connection.execute(update(approvals).values(record={**record, "answer_until": 0.0}))
            late = await decide(here, approval_id=request)
            assert (late["decision"], late["outcome"]) == ("deny", "approval_timeout")
            await here.written()
            kept = await asyncio.to_thread(recorded, place, here.gateway)
            assert (kept["tool_calls_approved"], kept["human_approval"], kept["approval_timeouts"]) == (0, None, 1)
            assert kept["tool_error_count"] == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"session_id": "unknown"}, 404),
        ({"session_id": ""}, 400),
        ({"tool": None}, 400),
        ({"arguments": 3}, 400),
    ],
    ids=["unknown-session", "no-session", "no-tool", "no-arguments"],
)
def test_a_question_that_cannot_be_answered_is_refused(
    one_place: ReleasePlace, changes: dict[str, Any], status: int
) -> None:
    async def run() -> int:
        async with world(one_place, admin_key_env="TEST_ADMIN") as here:
            here.gateway.ask_before_calls(RULES)
            await here.says("s1")
            return (await here.client.post("/v1/tools/decide", json={**CALL, **changes})).status_code

    assert asyncio.run(run()) == status


def test_without_a_tool_policy_nothing_decides(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, admin_key_env="TEST_ADMIN") as here:
            await here.says("s1")
            answer = await here.client.post("/v1/tools/decide", json=CALL)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_tool_policy")
            assert (await here.admin.get("/approvals")).status_code == 404

    asyncio.run(run())


def test_people_answer_with_the_admin_key_alone(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, admin_key_env="TEST_ADMIN") as here:
            here.gateway.ask_before_calls(RULES)
            await here.says("s1")
            request = (await decide(here))["approval_id"]
            wrong = {"Authorization": f"Bearer x{ADMIN_KEY}"}
            assert (await here.admin.get("/approvals", headers=wrong)).status_code == 401
            body = json.dumps({"approver": "ada", "approved": True})
            answer = await here.admin.post(f"/approvals/{request}", content=body, headers=wrong)
            assert answer.status_code == 401
            assert (await decide(here, approval_id=request))["outcome"] == "pending"
            assert (await say(here, request, "", True)).status_code == 403
            assert (await say(here, "t-unknown", "ada", True)).status_code == 404

    asyncio.run(run())
