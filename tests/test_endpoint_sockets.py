"""Endpoint against a small misbehaving server on a real socket: drip, hang, reset, 500 then 200."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentrl.endpoint import Endpoint, EndpointFailure, Reply

Behaviour = Callable[[asyncio.StreamWriter, int], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"


async def drip(writer: asyncio.StreamWriter, _: int) -> None:
    writer.write(HEAD)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.02)


async def hang(writer: asyncio.StreamWriter, _: int) -> None:
    writer.write(HEAD)
    await writer.drain()
    await asyncio.sleep(60)


async def reset(writer: asyncio.StreamWriter, _: int) -> None:
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def half(writer: asyncio.StreamWriter, _: int) -> None:
    writer.write(HEAD + b'{"output": "')
    await writer.drain()


async def recover(writer: asyncio.StreamWriter, request: int) -> None:
    status, body = (b"500 Oops", b"{}") if request == 1 else (b"200 OK", b'{"output": "fine"}')
    writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
    await writer.drain()


async def flood(writer: asyncio.StreamWriter, _: int) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    while True:
        writer.write(chunk)
        await writer.drain()


@asynccontextmanager
async def listening(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The URL of a server; at the end all its connections are closed, or the next tests would inherit them."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next round


async def next_request(reader: asyncio.StreamReader) -> None:
    await reader.readuntil(b"\r\n\r\n")
    assert await reader.readexactly(2) == b"{}"


def call(behaviour: Behaviour, **options: Any) -> tuple[Reply | EndpointFailure, int, float]:
    """What a call came to, how many requests the server saw, and the seconds it took."""

    async def run() -> tuple[Reply | EndpointFailure, int, float]:
        requests = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            while True:
                await next_request(reader)
                requests += 1
                await behaviour(writer, requests)
                if behaviour is not recover:
                    writer.close()
                    await writer.wait_closed()
                    return

        settings: dict[str, Any] = {"timeout_seconds": 0.3, "retries": 1, "max_concurrency": 2} | options
        async with listening(serve) as url:
            endpoint = Endpoint("tool search", url, {}, **settings)
            started = time.perf_counter()
            result: Reply | EndpointFailure
            try:
                result = await endpoint.post({}, rollout_id="trace_1")
            except EndpointFailure as failure:
                result = failure
            seconds = time.perf_counter() - started
            await endpoint.aclose()
        return result, requests, seconds

    return asyncio.run(run())


@pytest.mark.parametrize("behaviour", [drip, hang])
def test_a_server_that_never_finishes_is_left_at_the_deadline(behaviour: Behaviour) -> None:
    failure, requests, seconds = call(behaviour)
    assert isinstance(failure, EndpointFailure)
    assert (failure.kind, failure.attempts, requests) == ("timeout", 2, 2)
    assert seconds < 2


@pytest.mark.parametrize("behaviour", [reset, half])
def test_a_lost_connection_is_a_connection_failure(behaviour: Behaviour) -> None:
    failure, requests, _ = call(behaviour)
    assert isinstance(failure, EndpointFailure)
    assert (failure.kind, failure.attempts, requests) == ("connect", 2, 2)


def test_500_then_200_is_an_answer() -> None:
    reply, requests, _ = call(recover)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.json, reply.attempts, requests) == (200, {"output": "fine"}, 2, 2)


def test_an_endless_reply_is_cut_at_the_limit() -> None:
    reply, requests, _ = call(flood, timeout_seconds=10)
    assert isinstance(reply, Reply)
    assert (reply.status, requests) == (413, 1)


def test_a_refused_connection_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/"

        async def run() -> None:
            endpoint = Endpoint("tool search", url, {}, timeout_seconds=1, retries=0, max_concurrency=1)
            try:
                await endpoint.post({}, rollout_id="trace_1")
            finally:
                await endpoint.aclose()

        with pytest.raises(EndpointFailure, match=r"connection refused.*is the server running"):
            asyncio.run(run())


def test_calls_cancelled_at_any_moment_leave_nothing_behind() -> None:
    async def run() -> None:
        pauses = random.Random(1)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while True:
                await next_request(reader)
                await asyncio.sleep(pauses.uniform(0, 0.004))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
                await asyncio.sleep(pauses.uniform(0, 0.004))
                writer.write(b"{}")

        async with listening(serve) as url:
            endpoint = Endpoint("tool search", url, {}, timeout_seconds=2, retries=0, max_concurrency=2)
            for _ in range(100):
                calls = (endpoint.post({}, rollout_id="trace_1") for _ in range(4))
                hasty = (asyncio.wait_for(call, pauses.uniform(0, 0.012)) for call in calls)
                await asyncio.gather(*hasty, return_exceptions=True)
            replies = await asyncio.gather(*(endpoint.post({}, rollout_id="trace_1") for _ in range(20)))
            assert [reply.attempts for reply in replies] == [1] * 20
            await endpoint.aclose()

    asyncio.run(run())


def test_proxies_of_the_environment_do_not_catch_local_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    reply, _, _ = call(recover)
    assert isinstance(reply, Reply)


def test_a_reply_that_comes_twice_answers_no_second_call() -> None:
    """Left in the connection, the copy would be read as the next call's reply: one rollout's score as another's."""

    async def run() -> None:
        requests = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal requests
            while True:
                await next_request(reader)
                requests += 1
                body = b'{"score": %d}' % requests
                writer.write((b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)) * 2)

        async with listening(serve) as url:
            endpoint = Endpoint("grader", url, {}, timeout_seconds=5, retries=0, max_concurrency=1)
            replies = [(await endpoint.post({}, rollout_id="trace_1")).json for _ in range(5)]
            assert replies == [{"score": number} for number in range(1, 6)]
            assert endpoint.stats.stray_replies == 5
            await endpoint.aclose()

    asyncio.run(run())


def test_connections_are_kept_and_every_one_is_closed_at_the_end() -> None:
    async def run() -> None:
        opened = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal opened
            opened += 1
            while True:
                await next_request(reader)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

        async with listening(serve) as url:
            before = open_sockets()
            endpoint = Endpoint("tool search", url, {}, timeout_seconds=5, retries=0, max_concurrency=4)
            await asyncio.gather(*(endpoint.post({}, rollout_id="trace_1") for _ in range(100)))
            assert opened == 4
            await endpoint.aclose()
            await asyncio.sleep(0.05)  # the server's side closes when it reads the end
            assert open_sockets() == before

    asyncio.run(run())


def open_sockets() -> int:
    folder = Path("/proc/self/fd")
    if not folder.is_dir():
        pytest.skip("counts open files in /proc")
    return sum(os.path.realpath(each).rpartition("/")[2].startswith("socket:") for each in folder.iterdir())
