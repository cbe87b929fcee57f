"""Clients, candidates and servers that do what nobody should: users are served, and the candidate answers for it."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentrl.errors import ReleaseError
from agentrl.gateway.lookup import Lookup
from agentrl.gateway.server import _options, listener
from agentrl.gateway.streaming import END_OF_EVENT, EventStream, Renaming, Reply
from agentrl.release.evidence import live_evidence
from agentrl.release.place import ReleasePlace
from tests.gateway.world import QuickServer, Stub, begin_stream, fails, part, says, send_event, until, world


async def floods(stub: Stub, asked: dict[str, Any], send: Any) -> None:
    """A stream without end."""
    await begin_stream(send)
    while True:
        await send_event(send, part(asked, "x" * 20_000))
        await asyncio.sleep(0)


def test_a_client_that_does_not_read_holds_up_no_rollback(one_place: ReleasePlace) -> None:
    """F50: what is cut is cut, although nobody takes in that it was."""

    async def run() -> None:
        async with world(one_place, candidate=floods, drain_seconds=0.1) as here:
            await here.canary(100.0)
            reader, writer = await asyncio.open_connection("127.0.0.1", here.client.base_url.port, limit=1024)
            body = json.dumps({"messages": [], "stream": True}).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(body)}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode() + body)
            await reader.readline()
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(0.5)  # until all buffers on the way are full
            await here.withdraw()
            await until(lambda: not here.gateway.flights.candidate, seconds=5.0)
            assert here.gateway.flights.cut == 1
            writer.transport.abort()

    asyncio.run(run())


@pytest.mark.parametrize("is_stream", [False, True], ids=["whole", "streamed"])
def test_what_the_candidate_refuses_and_the_baseline_answers_is_the_candidates_failure(
    one_place: ReleasePlace, is_stream: bool
) -> None:
    """Such as a server that was started without its tool parser, or with a shorter context."""

    async def run() -> None:
        async with world(one_place, candidate=fails(400)) as here:
            await here.canary(100.0)
            answer = await here.ask(session="s", stream=is_stream)
            assert answer.status_code == 200
            await here.tell(event_id="1", session_id="s", kind="outcome", success=True)
            row = await here.row("s")
            assert (row["arm"], row["fallbacks"], row["success"]) == ("candidate", 1, False)
            assert here.gateway.counts.failures["candidate", "refused"] == 1

    asyncio.run(run())


def test_what_both_refuse_is_the_requests_own_fault(one_place: ReleasePlace) -> None:
    async def run() -> None:
        refusal = fails(400, b'{"error": {"message": "temperature"}}')
        async with world(one_place, base=refusal, candidate=refusal) as here:
            await here.canary(100.0)
            answer = await here.ask(session="s")
            assert (answer.status_code, answer.json()["error"]["message"]) == (400, "temperature")
            row = await here.row("s")
            assert (row["fallbacks"], row["errors"], row["status"]) == (0, 0, "open")
            assert not here.gateway.counts.failures
            here.candidate.answers = says
            assert await here.says("s") == "candidate"

    asyncio.run(run())


def test_a_session_that_the_baseline_ended_is_no_success_of_the_candidate(place: ReleasePlace) -> None:
    """A replica that starts anew moves it, and the release goes on: its outcome is the work of both."""

    async def run() -> None:
        async with world(place) as here:
            epoch = await here.canary(100.0)
            assert await here.says("s") == "candidate"
        async with world(place) as here:
            assert await here.says("s") == "base"
            await here.renew(epoch)
            await here.tell(event_id="1", session_id="s", kind="outcome", success=True)
            await here.tell(event_id="2", session_id="s", kind="safety", violations=1)
            await here.client.post("/v1/sessions/s/close")
            (found,) = live_evidence(place.store, "support", "r1", "canary")
            assert (found.success, found.seconds, found.cost_usd) == (None, None, None)
            assert found.safety_violations == 1  # which is never the less for it

    asyncio.run(run())


def test_a_database_that_hangs_keeps_nobody_waiting_for_a_look_up() -> None:
    """One that refuses says so at once; one that only hangs would hold every user whose session is not in memory."""
    answers = threading.Event()

    def query(keys: Any) -> dict[str, str]:
        answers.wait(30.0)
        return dict.fromkeys(keys, "found")

    async def run() -> None:
        lookup = Lookup(query, seconds=0.05)
        try:
            for _ in range(3):
                with pytest.raises(ReleaseError, match=r"longer than 0\.05 s"):
                    await lookup.find("s")
        finally:
            answers.set()
        await until(lambda: not lookup._is_running)
        assert await lookup.find("s") == "found"

    asyncio.run(run())


def test_users_are_answered_while_the_database_hangs(one_place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what cannot be written is refused in time, to be sent again."""
    monkeypatch.setattr("agentrl.gateway.ledger.ANSWER_SECONDS", 0.2)

    async def run() -> None:
        async with world(one_place) as here:
            assert await here.says("known") == "base"
            await here.written()
            with one_place.store.write():  # a writer that does not end
                assert await here.says("known") == "base"
                assert await here.says("new") == "base"
                event = {"event_id": "1", "session_id": "known", "kind": "outcome", "success": True}
                told = await here.tell(**event)
                assert (told.status_code, told.json()["error"]["code"]) == (503, "feedback_not_written")
            await until(lambda: not here.gateway.ledger._next)
            assert (await here.tell(**event)).json()["status"] in ("recorded", "duplicate")
            assert (await here.row("known"))["success"] is True
            assert len(await here.feedback()) == 1

    asyncio.run(run())


def test_a_database_that_is_away_for_hours_takes_no_memory(
    one_place: ReleasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentrl.gateway.ledger.MAX_HELD", 5)

    async def run() -> None:
        async with world(one_place) as here:
            with one_place.store.write():
                for number in range(12):
                    assert await here.says(f"s{number}") == "base"
                assert len(here.gateway.ledger._next.sessions) <= 5
            await until(lambda: not here.gateway.ledger._next)
            assert await here.says("s11") == "base"
            assert (await here.row("s11"))["requests"] == 2  # the first is told with the next

    asyncio.run(run())


@pytest.mark.parametrize("said", [b"", b"GET /healthz HT"], ids=["nothing", "half_a_head"])
@pytest.mark.parametrize("is_first", [True, False], ids=["at_first", "after_a_request"])
def test_a_client_that_does_not_end_its_head_is_sent_away(
    said: bytes, is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow-loris: a thousand such connections are all files that the process may open."""
    monkeypatch.setattr("agentrl.gateway.prompt_heads.HEAD_SECONDS", 0.1)

    async def answers(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.3)  # an answer may take longer
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    async def run() -> None:
        listening = listener("test", "127.0.0.1", 0)
        options = _options(answers)
        options.timeout_keep_alive = 1
        server = QuickServer(options)
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        await until(lambda: server.started)
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        if not is_first:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\nok")).startswith(b"HTTP/1.1 200")
        writer.write(said)
        assert await asyncio.wait_for(reader.read(), 5.0) == b""
        writer.close()
        server.should_exit = server.force_exit = True
        await serving

    asyncio.run(run())


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r"], ids=["lf", "crlf", "cr"])
def test_events_are_the_same_wherever_they_are_cut(end: bytes) -> None:
    events = [b'data: {"model": "served", "id": "1"}', b'data: {"x": "' + b"y" * 9 + b'"}', b"data: [DONE]"]
    whole = end.join(events) + end
    wanted = whole.replace(b'"served"', b'"mine"')
    for size in range(1, len(whole) + 1):
        reply = Reply(False)
        stream = EventStream(reply, Renaming.of("served", "mine"), drops_counts=False)
        passed = [stream.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert b"".join([*passed, stream.rest()]) == wanted
        assert (reply.is_done, reply.id) == (True, "1")


def test_an_event_that_comes_in_crumbs_is_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searched from its beginning at each crumb, one of a megabyte kept every other user waiting for a minute."""
    searched = 0

    class Counting:
        def finditer(self, held: bytes, at: int = 0) -> Iterator[re.Match[bytes]]:
            nonlocal searched
            searched += len(held) - at
            return END_OF_EVENT.finditer(held, at)

    monkeypatch.setattr("agentrl.gateway.streaming.END_OF_EVENT", Counting())
    stream = EventStream(Reply(False), Renaming.of("a", "b"), drops_counts=False)
    for _ in range(5000):
        stream.feed(b"x" * 100)
    assert stream.feed(b"\n\n") == b"x" * 500_000 + b"\n\n"
    assert searched < 600_000


def test_a_replica_that_cannot_write_serves_no_candidate_for_longer_than_a_lease(one_place: ReleasePlace) -> None:
    """Other replicas report, so that the controller renews: of the candidate's sessions here nobody would know."""
    now = [100.0]

    def refuses(waiting: Any) -> Any:
        raise ReleaseError("read-only")

    async def run() -> None:
        async with world(one_place, clock=lambda: now[0]) as here:
            epoch = await here.canary(100.0, lease_seconds=10.0)
            ledger = here.gateway.ledger
            writes, ledger._write = ledger._write, refuses  # type: ignore[method-assign]
            assert await here.says("s1") == "candidate"
            await until(lambda: bool(ledger.trouble))
            now[0] += 6.0
            await here.renew(epoch)
            assert await here.says("s2") == "candidate"  # a moment's trouble costs nothing
            now[0] += 6.0
            await here.renew(epoch)
            assert await here.says("s3") == "base"
            ledger._write = writes  # type: ignore[method-assign]
            await until(lambda: not ledger.trouble)
            await here.renew(epoch)
            assert await here.says("s4") == "candidate"

    asyncio.run(run())
