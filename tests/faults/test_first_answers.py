"""A call that is delivered twice is done once: over sockets, with a server that counts what it did."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentrl.endpoint import CallConflict, Endpoint, FirstAnswers


class Shop:
    """Sells one thing a call, which takes a while. `broken` is how many sales fail first."""

    def __init__(self, seconds: float = 0.0, broken: int = 0, capacity: int = 10_000) -> None:
        self.sold: list[str] = []
        self.requests = 0
        self.broken = broken
        self.answers: FirstAnswers[str] = FirstAnswers(capacity=capacity)
        self._seconds = seconds

    async def sell(self, what: str) -> str:
        await asyncio.sleep(self._seconds)
        if self.broken:
            self.broken -= 1
            raise OSError("the till is stuck")
        self.sold.append(what)
        return f"sale {len(self.sold)}: {what}"

    async def answer(self, content: bytes) -> tuple[str, dict[str, Any]]:
        body = json.loads(content)
        what = body["arguments"]
        try:
            output = await self.answers.once(body["trace_id"], body["call_id"], what, lambda: self.sell(what))
        except CallConflict as conflict:
            return "409 Conflict", {"error": {"message": str(conflict)}}
        except OSError as error:
            return "500 Oops", {"error": {"message": str(error)}}
        return "200 OK", {"output": output, "call_id": body["call_id"]}

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                content = await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r\n")[0]))
                self.requests += 1
                status, body = await self.answer(content)
                raw = json.dumps(body).encode()
                writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @asynccontextmanager
    async def endpoint(self, **options: Any) -> AsyncIterator[Endpoint]:
        server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        settings: dict[str, Any] = {"timeout_seconds": 5, "retries": 3, "max_concurrency": 8} | options

        async def no_pause(_: float) -> None: ...

        endpoint = Endpoint("tool buy", url, {}, sleep=no_pause, **settings)
        yield endpoint
        await endpoint.aclose()
        server.close()


def call(call_id: str = "call_1", rollout_id: str = "trace_1", what: str = "tea") -> dict[str, Any]:
    return {"call_id": call_id, "trace_id": rollout_id, "arguments": what}


async def post(endpoint: Endpoint, payload: dict[str, Any]) -> tuple[int, Any]:
    reply = await endpoint.post(payload, rollout_id=payload["trace_id"])
    assert reply.json
    return reply.status, reply.json.get("output")


def test_f11_a_second_delivery_gets_the_first_answer() -> None:
    async def run() -> None:
        shop = Shop()
        async with shop.endpoint() as endpoint:
            assert await post(endpoint, call()) == await post(endpoint, call()) == (200, "sale 1: tea")
            assert await post(endpoint, call("call_2")) == (200, "sale 2: tea")
            assert await post(endpoint, call(rollout_id="trace_2")) == (200, "sale 3: tea")
        assert shop.sold == ["tea"] * 3

    asyncio.run(run())


def test_f12_the_same_ids_with_another_payload_are_a_conflict_and_nothing_is_done() -> None:
    async def run() -> None:
        shop = Shop()
        async with shop.endpoint() as endpoint:
            await post(endpoint, call())
            assert await post(endpoint, call(what="gold")) == (409, None)
            assert await post(endpoint, call()) == (200, "sale 1: tea")
        assert shop.sold == ["tea"]

    asyncio.run(run())


def test_f13_deliveries_while_the_first_is_under_way_wait_for_it() -> None:
    async def run() -> None:
        shop = Shop(seconds=0.1)
        async with shop.endpoint() as endpoint:
            answers = await asyncio.gather(*(post(endpoint, call()) for _ in range(8)))
        assert answers == [(200, "sale 1: tea")] * 8
        assert (shop.requests, shop.sold) == (8, ["tea"])

    asyncio.run(run())


def test_a_retry_after_a_timeout_gets_the_answer_that_was_late() -> None:
    async def run() -> None:
        shop = Shop(seconds=0.6)
        async with shop.endpoint(timeout_seconds=0.4) as endpoint:
            reply = await endpoint.post(call(), rollout_id="trace_1")
            assert reply.json
            assert (reply.attempts, reply.json["output"]) == (2, "sale 1: tea")
        assert (shop.requests, shop.sold) == (2, ["tea"])

    asyncio.run(run())


def test_an_error_is_no_answer_and_the_next_delivery_tries_again() -> None:
    async def run() -> None:
        shop = Shop(broken=2)
        async with shop.endpoint() as endpoint:
            reply = await endpoint.post(call(), rollout_id="trace_1")
            assert reply.json
            assert (reply.attempts, reply.json["output"]) == (3, "sale 1: tea")

    asyncio.run(run())


def test_what_is_under_way_is_finished_when_the_caller_hangs_up() -> None:
    async def run() -> None:
        shop = Shop(seconds=0.05)
        first = asyncio.ensure_future(shop.answer(json.dumps(call()).encode()))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await shop.answer(json.dumps(call()).encode()))[1]["output"] == "sale 1: tea"
        assert shop.sold == ["tea"]

    asyncio.run(run())


def test_the_oldest_answers_are_forgotten_first_and_none_that_is_under_way() -> None:
    async def run() -> None:
        shop = Shop(capacity=2)
        for number in range(4):
            await shop.answer(json.dumps(call(f"call_{number}")).encode())
        assert len(shop.answers._calls) == 2
        await shop.answer(json.dumps(call("call_3")).encode())
        assert len(shop.sold) == 4
        await shop.answer(json.dumps(call("call_0")).encode())
        assert len(shop.sold) == 5

    asyncio.run(run())
