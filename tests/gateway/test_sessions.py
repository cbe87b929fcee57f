"""Sessions: their ids, whose they are, when they are over, and the record that is left of them."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any, ClassVar

import pytest
from sqlalchemy import update

from agentrl.errors import ReleaseError
from agentrl.gateway.sessions import issued_id, kept_id
from agentrl.monitoring.session_log import read_sessions
from agentrl.release.evidence import live_evidence
from agentrl.release.place import ReleasePlace
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions
from tests.gateway.world import Stub, send_whole, world

LONG = "x" * 10_000


@pytest.mark.parametrize("given", ["größe-日本", LONG, "with blank", "a\u0000b", "\ud800", "x" * 81], ids=[*"abcdef"])
def test_odd_ids_become_digests_that_stay(given: str) -> None:
    """F60"""
    kept = kept_id(given)
    assert len(kept) <= 80
    assert kept.startswith("sha256:")
    assert kept_id(kept) == kept  # a client may send back what it was given


def test_plain_ids_stay_and_issued_ones_differ() -> None:
    assert kept_id("order-17/a.b") == "order-17/a.b"
    assert len({issued_id() for _ in range(100)}) == 100


def test_ids_are_accepted_hashed_and_issued(one_place: ReleasePlace) -> None:
    """F60"""

    async def run() -> None:
        async with world(one_place) as here:
            for given in ("größe-日本", LONG):
                body = {"messages": []}
                headers = {"X-Session-Id": given.encode()}
                answer = await here.client.post("/v1/chat/completions", json=body, headers=headers)
                assert answer.headers["x-session-id"] == kept_id(given)
                told = await here.tell(event_id=given, session_id=given, kind="outcome", success=True)
                assert told.json()["status"] == "recorded"
            issued = (await here.ask()).headers["x-session-id"]
            assert issued.startswith("sess_")
            assert (await here.row(issued))["requests"] == 1

    asyncio.run(run())


def test_two_ids_in_one_request_are_refused(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            headers = [("X-Session-Id", "a"), ("X-Session-Id", "b")]
            answer = await here.client.post("/v1/chat/completions", json={"messages": []}, headers=headers)
            assert answer.json()["error"]["code"] == "repeated_header"

    asyncio.run(run())


def test_sessions_of_one_client_are_closed_to_others(place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """T15"""
    monkeypatch.setenv("KEY_A", "key-of-client-a-0123")
    monkeypatch.setenv("KEY_B", "key-of-client-b-0123")
    keys = [{"name": "a", "env": "KEY_A"}, {"name": "b", "env": "KEY_B"}]
    as_a, as_b = ({"Authorization": f"Bearer key-of-client-{name}-0123"} for name in "ab")

    async def run() -> None:
        async with world(place, api_keys=keys) as here, world(place, api_keys=keys) as there:
            assert (await here.ask(session="s", headers=as_a)).status_code == 200
            await here.written()
            for replica in (here, there):
                refused = await replica.ask(session="s", headers=as_b)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_session")
                event = {"event_id": "1", "session_id": "s", "kind": "outcome", "success": True}
                refused = await replica.client.post("/v1/feedback", json=event, headers=as_b)
                assert (refused.status_code, refused.json()["error"]["code"]) == (403, "foreign_session")
                assert (await replica.client.post("/v1/sessions/s/close", headers=as_b)).status_code == 403
            for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic a"}):
                assert (await here.ask(headers=headers)).status_code == 401
            assert (await here.row("s"))["client"] == "a"
            assert await here.feedback() == []

    asyncio.run(run())


def test_a_response_that_follows_another_stays_in_its_session(place: ReleasePlace) -> None:
    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        number = len(stub.asked)
        item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": stub.name}]}
        usage = {"input_tokens": 7, "output_tokens": 2}
        body = {"id": f"resp_{stub.name}_{number}", "object": "response", "model": asked["model"], "output": [item]}
        await send_whole(send, 200, json.dumps({**body, "status": "completed", "usage": usage}).encode())

    async def run() -> None:
        async with world(place, base=answers, candidate=answers) as here, world(place) as there:
            await here.canary(50.0)
            for _ in range(8):
                first = await here.client.post("/v1/responses", json={"model": "m", "input": "hi"})
                assert first.json()["model"] == "m"
                session = first.headers["x-session-id"]
                follows = {"input": "and?", "previous_response_id": first.json()["id"]}
                second = await here.client.post("/v1/responses", json=follows)
                assert second.headers["x-session-id"] == session
                arm = first.json()["output"][0]["content"][0]["text"]
                assert second.json()["output"][0]["content"][0]["text"] == arm
            row = await here.row(session)
            assert (row["requests"], row["tokens_in"], row["tokens_out"]) == (2, 14, 4)
            await here.written()
            elsewhere = await there.client.post("/v1/responses", json=follows)
            assert elsewhere.headers["x-session-id"] == session

    asyncio.run(run())


def test_an_idle_session_is_closed_recorded_and_kept_on_disk(place: ReleasePlace) -> None:
    now = {"wall": 1_800_000_000.0}

    async def run() -> None:
        async with world(place, wall=lambda: now["wall"], session_idle_seconds=900.0) as here:
            await here.canary(100.0)
            headers = {"X-Intent": "refund", "X-User-Id": "jo@example.org"}
            await here.ask("my card is 4111 1111 1111 1111", session="s", headers=headers)
            await here.tell(event_id="1", session_id="s", kind="grade", score=0.75)
            await here.written()
            here.gateway.closing.run_once()
            assert (await here.row("s"))["status"] == "open"
            now["wall"] += 901.0
            here.gateway.closing.run_once()
            row = await here.row("s")
            assert (row["status"], row["closed_at"], row["quality"]) == ("closed", 1_800_000_000.0, 0.75)
            assert row["human_override"] is None
            (record,) = read_sessions(place.folder / "sessions")
            assert record == row["record"]
            assert (record["arm"], record["release_channel"], record["task_id"]) == ("candidate", "canary", "refund")
            assert (record["tokens_in"], record["score"], record["turns"]) == (10, 0.75, 1)
            assert "jo@example" not in json.dumps(row)
            assert "4111" not in json.dumps(row)
            assert [each.quality for each in live_evidence(place.store, "support", "r1", "canary")] == [0.75]

            now["wall"] += 86_400.0
            here.gateway.closing.run_once()
            row = await here.row("s")
            assert row["human_override"] is False  # the window is over
            assert [each["human_override"] for each in read_sessions(place.folder / "sessions")] == [None, False]

            late = await here.tell(event_id="2", session_id="s", kind="override", override=True, by="ana")
            assert late.json()["is_late"] is True
            row = await here.row("s")
            assert (row["human_override"], row["human_override_by"]) == (True, "ana")
            here.gateway.closing.run_once()
            assert [each["human_override"] for each in read_sessions(place.folder / "sessions")] == [None, False, True]

    asyncio.run(run())


def test_a_session_is_closed_by_any_replica_once(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place) as here, world(place) as there:
            await here.ask(session="s")
            await here.written()
            with place.store.write() as connection:  # its replica is gone, and long since
                connection.execute(update(sessions).values(last_at=1.0))
            await asyncio.gather(*(asyncio.to_thread(each.gateway.closing.run_once) for each in (here, there)))
            assert here.gateway.closing.recorded + there.gateway.closing.recorded == 1
            assert len(list(read_sessions(place.folder / "sessions"))) == 1

    asyncio.run(run())


def test_a_session_that_was_over_goes_on_or_begins_anew(place: ReleasePlace) -> None:
    """Under the same release it goes on; under the next one it is another session, with an arm of its own."""

    async def run() -> None:
        async with world(place) as here:
            await here.canary(0.001)
            assert await here.says("s") == "base"
            await here.client.post("/v1/sessions/s/close")
            assert (await here.row("s"))["status"] == "closed"
            assert await here.says("s") == "base"
            assert ((await here.row("s"))["status"], (await here.row("s"))["requests"]) == ("open", 2)
            await here.client.post("/v1/sessions/s/close")
            await here.canary(100.0, release_id="r2")
            assert await here.says("s") == "candidate"
            rows = {row["release_id"]: row for row in await here.rows()}
            assert (rows["r1"]["arm"], rows["r2"]["arm"]) == ("baseline", "candidate")

    asyncio.run(run())


class Flaky(Store):
    """A database that is away while `away` says so."""

    away: ClassVar[list[bool]] = [False]

    def read(self) -> Any:
        self._refuse()
        return super().read()

    def write(self) -> Any:
        self._refuse()
        return super().write()

    def _refuse(self) -> None:
        if self.away[0]:
            raise ReleaseError("no database")


def test_without_a_database_users_are_answered_by_the_baseline(place: ReleasePlace) -> None:
    """F48: what happened meanwhile is written once it is there again."""
    now = {"steady": 1000.0}
    flaky = replace(place, store=Flaky(place.store.engine, "flaky"))

    async def run() -> None:
        async with world(flaky, clock=lambda: now["steady"]) as here:
            await here.canary(100.0, lease_seconds=30.0)
            assert await here.says("s0") == "candidate"
            await here.written()
            Flaky.away[0] = True
            await here.seen()
            assert here.gateway.poll.trouble
            assert await here.says("s0") == "candidate"  # the lease holds
            now["steady"] += 30.0
            assert await here.says("s1") == "base"
            assert await here.says("s0") == "base"
            event = {"event_id": "1", "session_id": "s1", "kind": "outcome", "success": True}
            refused = await here.tell(**event)
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            Flaky.away[0] = False
            assert (await here.tell(**event)).status_code == 200
            row = await here.row("s1")
            assert (row["requests"], row["success"]) == (1, True)
            assert (await here.row("s0"))["requests"] == 3

    try:
        asyncio.run(run())
    finally:
        Flaky.away[0] = False
