"""A canary at a replica: who is whose, what a failure costs, what a rollback does to answers under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agentrl.release.place import ReleasePlace
from tests.gateway.world import (
    ADMIN_KEY,
    World,
    breaks_off,
    fails,
    hangs,
    hangs_after_one,
    says,
    until,
    world,
)


def test_sessions_keep_their_arm_while_the_share_grows(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            ids = [f"s{number}" for number in range(60)]
            await here.canary(20.0)
            first = {each: await here.says(each) for each in ids}
            assert set(first.values()) == {"base", "candidate"}
            await here.canary(60.0)
            assert {each: await here.says(each) for each in ids} == first
            more = [await here.says(f"t{number}") for number in range(60)]
            assert more.count("candidate") > list(first.values()).count("candidate")

    asyncio.run(run())


def test_another_replica_knows_the_sessions_of_the_first(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place) as here, world(place) as there:
            epoch = await here.canary(50.0)
            await there.seen()
            await there.renew(epoch)
            arms = {f"s{number}": await here.says(f"s{number}") for number in range(20)}
            await here.written()
            here.route(share_percent=50.0, salt="another")  # the hash alone would tell otherwise
            await there.seen()
            assert {each: await there.says(each) for each in arms} == arms
            row = await there.row("s0")
            assert row["requests"] == 2

    asyncio.run(run())


def test_a_restarted_replica_serves_no_candidate_until_the_next_renewal(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place) as here:
            epoch = await here.canary(100.0)
            assert await here.says("s1") == "candidate"
        async with world(place) as here:
            assert await here.says("s1") == "base"
            assert await here.says("s2") == "base"
            await here.renew(epoch)
            assert await here.says("s3") == "candidate"
            assert await here.says("s1") == "base"  # it was moved, for good
            assert (await here.row("s1"))["moved_at"] is not None

    asyncio.run(run())


def test_after_a_rollback_the_candidates_sessions_go_to_the_baseline(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place) as here:
            await here.canary(100.0)
            assert await here.says("s1") == "candidate"
            await here.withdraw()
            assert await here.says("s1") == "base"
            row = await here.row("s1")
            assert (row["arm"], row["release_id"], row["upstream"]) == ("candidate", "r1", "candidate")
            assert row["moved_at"] is not None
            assert await here.says("s2") == "base"
            replica = await here.replica()
            assert (replica["epoch"], replica["candidate_in_flight"]) == (2, 0)
            assert replica["last_candidate_at"] <= replica["drained_at"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answers", "is_stream"),
    [
        (fails(500), False),
        (fails(500), True),
        (fails(404), False),
        (fails(429), False),
        (fails(302, location="http://127.0.0.1/"), False),
        (fails(200, b"<html>"), False),
        (fails(200, b"", content_type="text/event-stream"), True),
        (hangs, True),
        (hangs, False),
    ],
    ids=["500", "500_streamed", "404", "429", "redirect", "html", "empty_stream", "hangs_streamed", "hangs"],
)
def test_the_baseline_steps_in_once_before_the_first_byte(
    one_place: ReleasePlace, answers: Any, is_stream: bool
) -> None:
    """Recorded as the candidate's failure: the user's success is not the candidate's."""

    async def run() -> None:
        async with world(one_place, candidate=answers, of_candidate={"first_byte_seconds": 0.2}) as here:
            await here.canary(100.0)
            answer = await here.ask(session="s", stream=is_stream)
            assert answer.status_code == 200
            assert ("base" if not is_stream else "[DONE]") in answer.text
            assert (len(here.candidate.asked), len(here.base.asked)) == (1, 1)
            told = await here.tell(event_id="1", session_id="s", kind="outcome", success=True)
            assert told.status_code == 200
            row = await here.row("s")
            assert (row["arm"], row["fallbacks"], row["success"]) == ("candidate", 1, False)
            here.candidate.answers = says
            assert await here.says("s") == "candidate"  # it stays the candidate's

    asyncio.run(run())


def test_a_candidate_that_cannot_be_reached_is_stepped_in_for(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, of_candidate={"url": "http://127.0.0.1:9/v1"}) as here:
            await here.canary(100.0)
            assert await here.says("s") == "base"
            assert (await here.row("s"))["fallbacks"] == 1

    asyncio.run(run())


def test_a_full_candidate_is_stepped_in_for(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, candidate=hangs_after_one, of_candidate={"max_concurrency": 1}) as here:
            await here.canary(100.0)
            body = {"messages": [], "stream": True}
            async with here.client.stream("POST", "/v1/chat/completions", json=body) as answer:
                chunks = answer.aiter_raw()  # a name: unnamed, it would be closed with the connection
                await anext(chunks)
                assert await here.says("s2") == "base"

    asyncio.run(run())


def test_when_both_fail_the_user_is_told(one_place: ReleasePlace) -> None:
    """F51: nobody is sent back to the candidate."""

    async def run() -> None:
        async with world(one_place, candidate=fails(500), base=fails(500)) as here:
            await here.canary(100.0)
            answer = await here.ask(session="s")
            assert answer.status_code == 502
            assert (len(here.candidate.asked), len(here.base.asked)) == (1, 1)
            row = await here.row("s")
            assert (row["fallbacks"], row["errors"], row["status"]) == (1, 1, "failed")

    asyncio.run(run())


def test_after_the_first_byte_nobody_steps_in(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, candidate=breaks_off) as here:
            await here.canary(100.0)
            answer = await here.ask(session="s", stream=True)
            assert "upstream_error" in answer.text
            assert "[DONE]" not in answer.text
            assert here.base.asked == []
            row = await here.row("s")
            assert (row["fallbacks"], row["errors"], row["success"]) == (0, 1, False)

    asyncio.run(run())


async def _streams(here: World, number: int) -> tuple[list[asyncio.Task[str]], asyncio.Semaphore]:
    """So many streams, each with its first part read; their whole texts come later."""
    begun = asyncio.Semaphore(0)

    async def one() -> str:
        body = {"messages": [], "stream": True}
        async with here.client.stream("POST", "/v1/chat/completions", json=body) as answer:
            text = ""
            async for chunk in answer.aiter_text():
                text += chunk
                begun.release()
            return text

    tasks = [asyncio.create_task(one()) for _ in range(number)]
    for _ in range(number):
        await begun.acquire()
    return tasks, begun


def test_a_hanging_candidate_is_cut_when_its_time_is_over(place: ReleasePlace) -> None:
    """F50"""
    now = {"steady": 1000.0}

    async def run() -> None:
        async with world(place, candidate=hangs_after_one, drain_seconds=60.0, clock=lambda: now["steady"]) as here:
            await here.canary(100.0)
            tasks, _ = await _streams(here, 20)
            assert (here.candidate.under_way, here.gateway.flights.candidate) == (20, 20)
            await here.withdraw()
            now["steady"] += 59.9
            await here.seen()
            assert (here.candidate.under_way, here.gateway.flights.drained_at) == (20, None)
            assert (await _replica_with_streams(here))["candidate_in_flight"] == 20
            now["steady"] += 0.1
            await here.seen()
            texts = await asyncio.gather(*tasks)
            assert all("policy_withdrawn" in text and "[DONE]" not in text for text in texts)
            await until(lambda: here.candidate.under_way == 0)
            replica = await here.replica()
            assert (replica["epoch"], replica["candidate_in_flight"], here.gateway.flights.cut) == (2, 0, 20)
            assert replica["drained_at"] is not None
            assert {row["status"] for row in await here.rows()} == {"failed"}

    asyncio.run(run())


async def _replica_with_streams(here: World) -> dict[str, Any]:
    """This replica's row, while answers are under way."""
    from sqlalchemy import select

    from agentrl.release.store.tables import replicas

    here.gateway._report()
    await here.gateway.ledger.written()
    with here.place.store.read() as connection:
        return dict(connection.execute(select(replicas)).mappings().one())


def test_whoever_waits_for_a_candidate_that_is_taken_back_gets_the_baseline_at_once(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, candidate=hangs) as here:
            await here.canary(100.0)
            asked = asyncio.create_task(here.ask(session="s"))
            await until(lambda: here.candidate.under_way == 1)
            await here.withdraw()
            answer = await asked
            assert answer.json()["choices"][0]["message"]["content"] == "base"
            await until(lambda: here.candidate.under_way == 0)
            assert (await here.row("s"))["fallbacks"] == 0  # the rollback's doing, not a new failure

    asyncio.run(run())


def test_a_lease_that_ends_unsaid_drains_like_a_rollback(one_place: ReleasePlace) -> None:
    now = {"steady": 1000.0}

    async def run() -> None:
        clock = {"clock": lambda: now["steady"]}
        async with world(one_place, candidate=hangs_after_one, drain_seconds=5.0, **clock) as here:
            epoch = await here.canary(100.0, lease_seconds=30.0)
            tasks, _ = await _streams(here, 3)
            now["steady"] += 30.0
            await here.seen()
            assert await here.says("new") == "base"
            now["steady"] += 4.0
            await here.renew(epoch)  # the controller is there again: what is under way may go on
            now["steady"] += 4.0
            await here.seen()
            assert here.candidate.under_way == 3
            await here.withdraw()
            now["steady"] += 5.0
            await here.seen()
            await asyncio.gather(*tasks)

    asyncio.run(run())


@pytest.fixture
def admin_key(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("TEST_ADMIN", ADMIN_KEY)
    return {"admin_key_env": "TEST_ADMIN"}


def test_an_arm_is_forced_with_the_admin_key_alone_and_is_in_no_statistics(
    place: ReleasePlace, admin_key: dict[str, Any]
) -> None:
    """T15"""
    from agentrl.release.evidence import live_evidence

    async def run() -> None:
        async with world(place, **admin_key) as here:
            await here.canary(0.001)
            wish = {"X-AgentRL-Arm": "candidate"}
            for key in ({}, {"X-AgentRL-Admin-Key": "wrong"}, {"X-AgentRL-Admin-Key": ""}):
                answer = await here.ask(session="s", headers=wish | key)
                assert (answer.status_code, here.candidate.asked) == (403, [])
            right = wish | {"X-AgentRL-Admin-Key": ADMIN_KEY}
            assert await here.says("s", headers=right) == "candidate"
            assert await here.says("s") == "candidate"  # for the session's life
            assert await here.says("t") == "base"
            for headers in (right, right | {"X-AgentRL-Arm": "neither"}):
                assert (await here.ask(session="t", headers=headers)).status_code in (400, 409)
            for session in "st":
                await here.client.post(f"/v1/sessions/{session}/close")
            assert [each.session_id for each in live_evidence(place.store, "support", "r1", "canary")] == ["t"]
            assert here.candidate.headers[0].keys().isdisjoint({"x-agentrl-arm", "x-agentrl-admin-key"})
            assert (await here.replica())["last_candidate_at"] is None

    asyncio.run(run())


def test_no_arm_is_forced_against_a_rollback(one_place: ReleasePlace, admin_key: dict[str, Any]) -> None:
    """T15"""

    async def run() -> None:
        async with world(one_place, **admin_key) as here:
            await here.canary(50.0)
            await here.withdraw()
            wish = {"X-AgentRL-Arm": "candidate", "X-AgentRL-Admin-Key": ADMIN_KEY}
            assert (await here.ask(session="s", headers=wish)).json()["error"]["code"] == "no_candidate"
            assert here.candidate.asked == []

    asyncio.run(run())
