"""What the gateway adds to an answer: direct and through it, side by side in one run; streams; feedback.

    python -m benchmarks.gateway                 everything, about two minutes
    python -m benchmarks.gateway overhead --seconds 30 --rate 100

`overhead`   requests arrive at seeded random times (open loop: nobody waits for an answer before the next one comes),
             half a beat apart for the two ways, each a new session. The figures are differences of quantiles.
`streams`    answers of 100 events that come every 20 ms, 200 at once each way: time to the first byte, and the gaps.
`feedback`   100,000 events in batches, some twice and all in seeded disorder; what is in the store is counted.

The stub that answers is one process, the gateway another, the clients a third; all on the cores that `--cores` names.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

STUB = """
import asyncio, json, sys
import uvicorn

DELAY, GAP, EVENTS = 0.05, 0.02, 100
WHOLE = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "policy",
         "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 150}, "finish_reason": "stop"}],
         "usage": {"prompt_tokens": 900, "completion_tokens": 150, "total_tokens": 1050}}
PART = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "policy",
        "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}
LAST = dict(PART, choices=[], usage=WHOLE["usage"])

async def app(scope, receive, send):
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    asked = json.loads(body)
    await asyncio.sleep(DELAY)
    if not asked.get("stream"):
        content = json.dumps(WHOLE).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": content})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    event, loop = b"data: " + json.dumps(PART).encode() + b"\\n\\n", asyncio.get_running_loop()
    begun = loop.time()
    for number in range(EVENTS):
        await send({"type": "http.response.body", "body": event, "more_body": True})
        await asyncio.sleep(max(0.0, begun + (number + 1) * GAP - loop.time()))
    if (asked.get("stream_options") or {}).get("include_usage"):
        last = b"data: " + json.dumps(LAST).encode() + b"\\n\\n"
        await send({"type": "http.response.body", "body": last, "more_body": True})
    await send({"type": "http.response.body", "body": b"data: [DONE]\\n\\n"})

uvicorn.run(app, port=int(sys.argv[1]), log_level="warning", access_log=False, timeout_keep_alive=75)
"""
CONFIG = """
workflow: {{target: benchmark, baseline: none, policy_training: ppo_kl}}
release: {{gates: [], folder: {folder}, store: "{store}"}}
gateway:
  port: {port}
  admin_port: {admin}
  general: baseline
  max_concurrent: 4096
  upstreams:
    baseline: {{url: "http://127.0.0.1:{stub}/v1", model: policy, prices: {{usd_per_million_sampled_tokens: 1.0}}}}
"""
PROMPT = [
    {"role": "system", "content": "Answer the user. " * 60},
    {"role": "user", "content": "How is it going? " * 120},
]
"""About 900 tokens, as an agent's second turn has."""


class Connection:
    """A client that adds as little as may be: HTTP/1.1 on a stream that is kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(
        self, path: str, body: bytes, headers: str = "", on_bytes: Callable[[float], None] | None = None
    ) -> bytes:
        """The body of the answer; `on_bytes` is told when each part came."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n{headers}"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answered = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        if " 200 " not in answered.partition("\r\n")[0]:
            raise RuntimeError(answered + (await reader.read(1000)).decode())
        if "content-length: " in answered:
            content = await reader.readexactly(int(answered.partition("content-length: ")[2].partition("\r\n")[0]))
        else:
            parts = []
            while size := int(await reader.readline(), 16):
                parts.append((await reader.readexactly(size + 2))[:-2])
                if on_bytes:
                    on_bytes(time.perf_counter())
            await reader.readline()
            content = b"".join(parts)
        self._idle.append((reader, writer))
        return content


@dataclass
class Place:
    """Where the servers are."""

    stub: int
    gateway: int
    store: str


def quantiles(values: list[float]) -> dict[str, float]:
    """p50, p90, p99 and the largest, in milliseconds."""
    ordered = sorted(values)
    at = {name: ordered[min(len(ordered) - 1, int(q * len(ordered)))] for name, q in QUANTILES.items()}
    return {name: round(1000 * value, 3) for name, value in at.items()}


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


async def overhead(place: Place, *, rate: float, seconds: float, seed: int) -> dict[str, Any]:
    """Both ways at the same rate in the same seconds."""
    body = json.dumps({"model": "policy", "messages": PROMPT}).encode()
    ways = {"direct": Connection(place.stub), "gateway": Connection(place.gateway)}
    took: dict[str, list[float]] = {name: [] for name in ways}
    late: list[float] = []

    async def one(name: str, is_counted: bool) -> None:
        began = time.perf_counter()
        await ways[name].post("/v1/chat/completions", body)
        if is_counted:
            took[name].append(time.perf_counter() - began)

    async def arrivals(name: str, offset: int) -> None:
        chance, tasks = random.Random(seed + offset), []
        begun = at = time.perf_counter()
        while at < begun + seconds + WARM_UP_SECONDS:
            at += chance.expovariate(rate)
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            late.append(time.perf_counter() - at)
            tasks.append(asyncio.create_task(one(name, at > begun + WARM_UP_SECONDS)))
        await asyncio.gather(*tasks)

    await asyncio.gather(*(arrivals(name, offset) for offset, name in enumerate(ways)))
    figures = {name: quantiles(values) for name, values in took.items()}
    added = {name: round(figures["gateway"][name] - figures["direct"][name], 3) for name in QUANTILES}
    return {
        "requests": {name: len(values) for name, values in took.items()},
        "milliseconds": figures | {"added": added},
        "client_late_p99_ms": quantiles(late)["p99"],
    }


WARM_UP_SECONDS = 2.0


async def streams(place: Place, *, at_once: int) -> dict[str, Any]:
    """First one way, then the other, twice, so that a slow moment of the machine is nobody's fault."""
    body = json.dumps({"model": "policy", "messages": PROMPT, "stream": True}).encode()
    first: dict[str, list[float]] = {"direct": [], "gateway": []}
    gaps: dict[str, list[float]] = {"direct": [], "gateway": []}

    async def one(name: str, connection: Connection) -> None:
        times = [time.perf_counter()]
        content = await connection.post("/v1/chat/completions", body, on_bytes=times.append)
        assert content.count(b"data: ") == 101, content[-300:]
        first[name].append(times[1] - times[0])
        gaps[name] += [later - earlier for earlier, later in pairwise(times[1:])]

    ways = {"direct": Connection(place.stub), "gateway": Connection(place.gateway)}
    for _ in range(2):
        for name, connection in ways.items():
            await asyncio.gather(*(one(name, connection) for _ in range(at_once)))
    return {
        "at_once": at_once,
        "first_byte_ms": {name: quantiles(values) for name, values in first.items()},
        "gap_ms": {name: quantiles(values) for name, values in gaps.items()},
    }


async def feedback(place: Place, *, events: int, seed: int) -> dict[str, Any]:
    """What was sent, what was acknowledged, and what is in the store."""
    from sqlalchemy import func, select

    from agentrl.release.store import open_store
    from agentrl.release.store.tables import feedback as table
    from agentrl.release.store.tables import sessions

    chance, connection = random.Random(seed), Connection(place.gateway)
    ask = json.dumps({"messages": PROMPT}).encode()
    ids = [f"feedback-{seed}-{number}" for number in range(500)]
    for some in range(0, len(ids), 50):
        asked = (
            connection.post("/v1/chat/completions", ask, f"X-Session-Id: {session}\r\n")
            for session in ids[some : some + 50]
        )
        await asyncio.gather(*asked)
    now = time.time()
    made = [
        {"event_id": f"e{seed}-{n}", "session_id": ids[n % len(ids)], "kind": "cost", "usd": 0.001, "at": now - n}
        for n in range(events)
    ]
    sent = made + chance.sample(made, events // 10)
    chance.shuffle(sent)
    batches = [sent[start : start + 500] for start in range(0, len(sent), 500)]
    told: dict[str, int] = {}
    places = asyncio.Semaphore(16)

    async def one(batch: list[dict[str, Any]]) -> None:
        async with places:
            answer = json.loads(await connection.post("/v1/feedback", json.dumps({"events": batch}).encode()))
        for each in answer["data"]:
            told[each["status"]] = told.get(each["status"], 0) + 1

    began = time.perf_counter()
    await asyncio.gather(*(one(batch) for batch in batches))
    seconds = time.perf_counter() - began
    store = open_store(place.store)
    with store.read() as read:
        kept = read.execute(
            select(func.count()).select_from(table).where(table.c.event_id.like(f":e{seed}-%"))
        ).scalar()
        wanted = select(func.sum(sessions.c.cost_usd - sessions.c.model_cost_usd))
        cost = read.execute(wanted.where(sessions.c.session_id.like(f"feedback-{seed}-%"))).scalar()
    store.close()
    return {
        "sent": len(sent),
        "told": told,
        "in_store": kept,
        "lost": events - (kept or 0),
        "counted_usd": round(cost or 0.0, 6),
        "expected_usd": round(0.001 * events, 6),
        "events_per_second": round(len(sent) / seconds),
    }


def started(command: list[str], *, until: str = "", env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """A process, once it has said that it listens."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, **(env or {})})
    if until:
        assert process.stdout is not None
        line = process.stdout.readline()
        if until not in line:
            raise RuntimeError(f"{command[:3]}: said {line!r}")
    return process


async def reachable(port: int) -> None:
    """Return when something listens."""
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise RuntimeError(f"nothing listens on {port}")


def free_port() -> int:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as made:
        return int(made.getsockname()[1])


async def measured(place: Place, asked: argparse.Namespace) -> dict[str, Any]:
    await reachable(place.stub)
    parts: dict[str, Callable[[], Awaitable[dict[str, Any]]]] = {
        "overhead": lambda: overhead(place, rate=asked.rate, seconds=asked.seconds, seed=asked.seed),
        "streams": lambda: streams(place, at_once=asked.streams),
        "feedback": lambda: feedback(place, events=asked.events, seed=asked.seed),
    }
    return {name: await part() for name, part in parts.items() if asked.part in (name, "all")}


def main() -> None:
    read = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    read.add_argument("part", nargs="?", default="all", choices=["all", "overhead", "streams", "feedback"])
    read.add_argument("--rate", type=float, default=100.0, help="requests per second, each way")
    read.add_argument("--seconds", type=float, default=30.0)
    read.add_argument("--streams", type=int, default=200)
    read.add_argument("--events", type=int, default=100_000)
    read.add_argument("--seed", type=int, default=17)
    read.add_argument("--runs", type=int, default=1, help="medians of the figures of `overhead` are printed last")
    read.add_argument("--cores", default="0,1")
    read.add_argument("--store", default="", help="a database by URL instead of SQLite in a temporary folder")
    asked = read.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(core) for core in asked.cores.split(",")})
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or f"sqlite:///{folder}/release.db"
        place = Place(free_port(), free_port(), store)
        file = Path(folder) / "gateway.yaml"
        file.write_text(
            CONFIG.format(folder=folder, store=store, port=place.gateway, admin=free_port(), stub=place.stub)
        )
        stub = started([sys.executable, "-c", STUB, str(place.stub)])
        gateway = started([sys.executable, "-m", "agentrl", "gateway", str(file)], until="http://")
        try:
            runs = []
            for number in range(asked.runs):
                asked.seed += number
                runs.append(asyncio.run(measured(place, asked)))
                print(json.dumps(runs[-1]), flush=True)
        finally:
            for process in (gateway, stub):
                process.send_signal(signal.SIGTERM)
                process.wait(20)
    if asked.runs > 1 and "overhead" in runs[0]:
        for name in ("p50", "p99"):
            values = [run["overhead"]["milliseconds"]["added"][name] for run in runs]
            print(f"added {name}: median {statistics.median(values):.2f} ms of {asked.runs} runs ({sorted(values)})")


if __name__ == "__main__":
    main()
