"""Connections to servers: what came together goes on together, and none is used that says more than it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from agentrl.config import UpstreamConfig
from agentrl.gateway.upstream import Upstream, UpstreamFailure

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"


@asynccontextmanager
async def upstream(serve: Serve, **changes: object) -> AsyncIterator[Upstream]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    made = Upstream(
        "base", UpstreamConfig.model_validate({"url": f"http://127.0.0.1:{port}/v1", "model": "m", **changes})
    )
    try:
        yield made
    finally:
        await made.aclose()
        server.close()


async def body_of(made: Upstream) -> bytes:
    async with made.ask("POST", "chat/completions", b"{}") as answer:
        return await answer.whole()


def answering(content: bytes, seen: list[int]) -> Serve:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(0)
        while await reader.readuntil(b"\r\n\r\n{}"):
            seen[-1] += 1
            writer.write(content)
            await writer.drain()

    return serve


def test_a_connection_is_used_again() -> None:
    seen: list[int] = []

    async def run() -> None:
        async with upstream(answering(HEAD + b"content-length: 2\r\n\r\n{}", seen)) as made:
            assert [await body_of(made) for _ in range(3)] == [b"{}"] * 3

    asyncio.run(run())
    assert seen == [3]


def test_one_that_said_more_than_its_answer_is_not() -> None:
    """The next request would read it as its own answer."""
    seen: list[int] = []

    async def run() -> None:
        async with upstream(answering(HEAD + b"content-length: 2\r\n\r\n{}HTTP/1.1 200 OK", seen)) as made:
            assert [await body_of(made) for _ in range(2)] == [b"{}"] * 2

    asyncio.run(run())
    assert seen == [1, 1]


def test_one_that_the_server_closed_meanwhile_is_replaced() -> None:
    seen: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(1)
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(HEAD + b"content-length: 2\r\n\r\n{}")
        await reader.read(1)  # the second request: no answer
        writer.close()

    async def run() -> None:
        async with upstream(serve) as made:
            assert await body_of(made) == b"{}"
            assert await body_of(made) == b"{}"

    asyncio.run(run())
    assert seen == [1, 1]


def test_parts_that_came_together_go_on_together() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        parts = b"".join(b"5\r\npart%d\r\n" % number for number in range(9))
        writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + parts)
        await asyncio.sleep(0.05)
        writer.write(b"3\r\nend\r\n0\r\n\r\n")

    async def run() -> None:
        async with upstream(serve) as made, made.ask("POST", "chat/completions", b"{}") as answer:
            parts = [chunk async for chunk in answer.chunks()]
            assert parts == [b"".join(b"part%d" % number for number in range(9)), b"end"]

    asyncio.run(run())


@pytest.mark.parametrize(
    "content",
    [b"", b"HTTP/1.1 200", b"SSH-2.0\r\n\r\n", HEAD + b"content-length: 9\r\n\r\n{}", HEAD + b"x: " + b"y" * 100_000],
    ids=["nothing", "half_a_head", "no_http", "half_a_body", "endless_head"],
)
def test_what_is_no_answer_is_named(content: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(content)
        writer.close()

    async def run() -> None:
        async with upstream(serve) as made:
            with pytest.raises(UpstreamFailure, match="broke off"):
                await body_of(made)
            assert made.in_flight == 0

    asyncio.run(run())


def test_an_answer_that_ends_with_its_connection_is_whole() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        writer.write(HEAD + b"\r\n{}")
        writer.close()

    async def run() -> None:
        async with upstream(serve) as made:
            assert await body_of(made) == b"{}"

    asyncio.run(run())


def test_a_server_that_drips_is_given_up_in_time() -> None:
    """F6, F7: the deadline is of the whole, not of each byte."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n{}")
        for byte in HEAD * 20:
            writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    async def run() -> None:
        async with upstream(serve, first_byte_seconds=0.2) as made:
            with pytest.raises(UpstreamFailure, match="no first byte"):
                await body_of(made)

    asyncio.run(run())
