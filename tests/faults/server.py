"""A tool and a grader that misbehave on purpose, and write down what they did: `python -m tests.faults.server --help`.

The path says how: `/tool/FAULT` and `/grade/FAULT`, with a name of `FAULTS`; `ok` is none, `mix` draws one for a share
of the requests, from the seed, the ids and how often the call came before. `FAULT:2` fails the first two deliveries of
each call and answers after that. `GET /ledger` is all that was done.

What is right depends on the ids alone: `output_of` a call, `score_of` a rollout.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import hashlib
import json
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import cache
from typing import Any

BACKLOG = 1024
LONG_SECONDS = 60.0


def output_of(rollout_id: str, call_id: str) -> str:
    return f"page of {rollout_id} {call_id}"


def score_of(rollout_id: str) -> float:
    return int(hashlib.sha256(rollout_id.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF


@dataclass
class Delivery:
    """One request, and where its answer goes."""

    server: FaultServer
    writer: asyncio.StreamWriter
    is_grade: bool
    rollout_id: str
    call_id: str

    @property
    def right(self) -> dict[str, Any]:
        if self.is_grade:
            return {"score": score_of(self.rollout_id), "trace_id": self.rollout_id}
        return {"output": output_of(self.rollout_id, self.call_id), "call_id": self.call_id}

    def body(self, **changes: Any) -> bytes:
        return json.dumps(self.right | changes).encode()

    def key(self) -> str:
        return f"{self.rollout_id}/{'grade' if self.is_grade else self.call_id}"

    def send(self, body: bytes, status: str = "200 OK", headers: str = "", length: int | None = None) -> None:
        size = len(body) if length is None else length
        head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        connection = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


async def ok(it: Delivery) -> None:
    it.send(it.body())


def status(line: str, headers: str = "", body: bytes = b'{"error": {"message": "on purpose"}}') -> Fault:
    async def answer(it: Delivery) -> None:
        it.send(body, line, headers)

    return answer


def malformed(make: Callable[[Delivery], bytes]) -> Fault:
    async def answer(it: Delivery) -> None:
        it.send(make(it))

    return answer


async def hang(it: Delivery) -> None:
    it.send(b"", length=1000)
    await asyncio.sleep(LONG_SECONDS)


async def silent(it: Delivery) -> None:
    await asyncio.sleep(LONG_SECONDS)


async def drip(it: Delivery) -> None:
    it.send(b"", length=100_000)
    while True:
        it.writer.write(b" ")
        await it.writer.drain()
        await asyncio.sleep(0.05)


async def late(it: Delivery) -> None:
    await asyncio.sleep(it.server.late_seconds)
    await ok(it)


async def reset(it: Delivery) -> None:
    it.send(b'{"output": "', length=1000)
    await it.writer.drain()
    it.reset()


async def half(it: Delivery) -> None:
    it.send(b'{"output": "', length=1000)
    await it.writer.drain()
    it.writer.close()


async def twice(it: Delivery) -> None:
    await ok(it)
    await ok(it)


async def dies(it: Delivery) -> None:
    """The sandbox of a rollout answers one call and is gone."""
    seen = sum(key.startswith(f"{it.rollout_id}/call") for key in it.server.deliveries)
    await (ok(it) if seen == 1 else FAULTS["500"](it))


async def flood(it: Delivery) -> None:
    it.writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        it.writer.write(b"10000\r\n" + b"x" * 65536 + b"\r\n")
        await it.writer.drain()


@cache
def packed() -> bytes:
    return gzip.compress(json.dumps({"score": 1, "output": "x" * 50_000_000}).encode(), compresslevel=1)


async def bomb(it: Delivery) -> None:
    it.send(packed(), headers="Content-Encoding: gzip\r\n")


async def slow_close(it: Delivery) -> None:
    """A reply that ends with the connection, which ends some time later."""
    it.writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + it.body())
    await it.writer.drain()
    await asyncio.sleep(0.1)
    it.writer.close()


Fault = Callable[[Delivery], Awaitable[None]]
TOMORROW = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
FAULTS: dict[str, Fault] = {
    "ok": ok,
    "400": status("400 Bad Request", body=b'{"output": "unknown column"}'),
    "401": status("401 Unauthorized"),
    "403": status("403 Forbidden"),
    "404": status("404 Not Found"),
    "409": status("409 Conflict"),
    "500": status("500 Oops"),
    "503": status("503 Busy"),
    "429": status("429 Slow Down", "Retry-After: 0\r\n"),
    "429-seconds": status("429 Slow Down", "Retry-After: 3\r\n"),
    "429-date": status("429 Slow Down", f"Retry-After: {TOMORROW}\r\n"),
    "429-absurd": status("429 Slow Down", "Retry-After: 1e9\r\n"),
    "429-negative": status("429 Slow Down", "Retry-After: -5\r\n"),
    "redirect": status("307 Elsewhere", "Location: http://169.254.169.254/latest/meta-data\r\n"),
    "hang": hang,
    "silent": silent,
    "drip": drip,
    "late": late,
    "reset": reset,
    "half": half,
    "twice": twice,
    "dies": dies,
    "flood": flood,
    "bomb": bomb,
    "slow-close": slow_close,
    "html": malformed(lambda _: b"<html>It works!</html>"),
    "empty": malformed(lambda _: b""),
    "truncated": malformed(lambda it: it.body()[:-3]),
    "list": malformed(lambda it: b"[" + it.body() + b"]"),
    "nan": malformed(lambda _: b'{"score": NaN, "output": NaN}'),
    "infinity": malformed(lambda _: b'{"score": 1e999, "output": 1e999}'),
    "double-key": malformed(lambda it: it.body()[:-1] + b', "score": 1, "output": "", "output": "", "score": 0}'),
    "bad-utf8": malformed(lambda it: it.body()[:-1] + b', "note": "\xff\xfe"}'),
    "bom": malformed(lambda it: b"\xef\xbb\xbf" + it.body()),
    "nothing": malformed(lambda _: b"{}"),
    "1e308": malformed(lambda it: it.body(score=1e308)),
    "text": malformed(lambda it: it.body(score="high")),
    "wrong-call": malformed(lambda it: it.body(call_id="call_of_another", trace_id="trace_of_another")),
    "wrong-trace": malformed(lambda it: it.body(trace_id="trace_of_another")),
}
MIX = (
    *("500", "503", "429", "hang", "silent", "drip", "late", "reset", "half", "twice", "html", "empty", "truncated"),
    *("list", "nan", "double-key", "bad-utf8", "bom", "nothing", "wrong-call", "wrong-trace", "slow-close"),
)


@dataclass
class FaultServer:
    """What it was asked, and what it answered."""

    seed: int = 0
    share: float = 0.2
    """Of `mix` requests that meet a fault."""
    late_seconds: float = 0.5
    latency_seconds: float = 0.0
    max_at_once: int = 0
    """More than so many requests at once are answered 503; 0 is no limit."""
    deliveries: Counter[str] = field(default_factory=Counter)
    """Requests by `rollout/call`."""
    faults: Counter[str] = field(default_factory=Counter)
    contents: dict[str, set[str]] = field(default_factory=dict)
    """Digests of the bodies that came under one Idempotency-Key."""
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:-2])
                content = await reader.readexactly(int(fields.get(b"content-length", b"0")))
                await self.answer(head, fields, content, writer)
                await writer.drain()
                if writer.is_closing():
                    return

    async def answer(
        self, head: bytes, fields: dict[bytes, bytes], content: bytes, writer: asyncio.StreamWriter
    ) -> None:
        path = head.split(b" ", 2)[1].decode()
        if path == "/ledger":
            raw = json.dumps(self.ledger()).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(raw), raw))
            return
        body = json.loads(content)
        _, kind, fault = path.split("/")
        it = Delivery(self, writer, kind == "grade", body["trace_id"], body.get("call_id", ""))
        key = it.key()
        self.deliveries[key] += 1
        self.contents.setdefault(fields[b"idempotency-key"].decode(), set()).add(hashlib.sha256(content).hexdigest())
        if len(self.heads) < 1000:
            self.heads.append(head)
        name, _, times = fault.partition(":")
        if name == "mix":
            name = self.drawn(key)
        elif times and self.deliveries[key] > int(times):
            name = "ok"
        if self.max_at_once and self.at_once >= self.max_at_once:
            name = "503"
        self.faults[name] += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.latency_seconds:
                await asyncio.sleep(self.latency_seconds)
            await FAULTS[name](it)
        finally:
            self.at_once -= 1

    def drawn(self, key: str) -> str:
        draw = random.Random(f"{self.seed}/{key}/{self.deliveries[key]}")
        return draw.choice(MIX) if draw.random() < self.share else "ok"

    def ledger(self) -> dict[str, Any]:
        changed = [key for key, digests in self.contents.items() if len(digests) > 1]
        return {
            "deliveries": dict(self.deliveries),
            "faults": dict(self.faults),
            "connections": self.connections,
            "most_at_once": self.most_at_once,
            "changed": changed,
        }

    @asynccontextmanager
    async def listening(self, port: int = 0, backlog: int = BACKLOG) -> AsyncIterator[str]:
        """Its base URL. At the end all connections are cut, and nothing of it is left in the loop."""
        tasks: set[asyncio.Task[Any]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            tasks.add(task)
            try:
                with suppress(asyncio.CancelledError):
                    await self.connected(reader, writer)
            finally:
                tasks.discard(task)
                writer.transport.abort()

        server = await asyncio.start_server(connected, "127.0.0.1", port, backlog=backlog)
        try:
            yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        finally:
            server.close()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.sleep(0)  # an aborted transport closes its socket in the loop's next round


async def serve(server: FaultServer) -> None:
    async with server.listening() as url:
        print(f"listening on {url}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tools and a grader that misbehave.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--share", type=float, default=0.2, help="of `mix` requests that meet a fault")
    parser.add_argument("--late-seconds", type=float, default=0.5)
    options = parser.parse_args()
    with suppress(KeyboardInterrupt):
        asyncio.run(serve(FaultServer(options.seed, options.share, options.late_seconds)))
