"""A gateway in this process, in front of servers of this process, over real sockets, with a real store.

async with world(place, candidate=Stub("candidate")) as here:
    here.canary(share_percent=100.0)
    answer = await here.ask(session="s1")
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import uvicorn
from sqlalchemy import select

from agentrl.config import GatewayConfig
from agentrl.gateway.admin import AdminApp
from agentrl.gateway.app import ClientsApp
from agentrl.gateway.gateway import Gateway
from agentrl.gateway.server import Server, listener
from agentrl.release.place import ReleasePlace
from agentrl.release.routing import renew_lease
from agentrl.release.store.tables import feedback, replicas, sessions
from tests.release_fixtures import change_routing

ADMIN_KEY = "an-admin-key-of-tests"
Answers = Callable[["Stub", dict[str, Any], Callable[[Mapping[str, Any]], Awaitable[None]]], Awaitable[None]]


@dataclass
class Stub:
    """A server of one policy; `answers` may be changed at any time."""

    name: str
    answers: Answers | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    under_way: int = 0
    port: int = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.asked.append({**json.loads(body or b"{}"), "path": scope["path"]})
        self.headers.append({key.decode(): value.decode() for key, value in scope["headers"]})
        self.under_way += 1
        work = asyncio.ensure_future((self.answers or says)(self, self.asked[-1], send))
        gone = asyncio.ensure_future(receive())  # http.disconnect
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel(), gone.cancel()
            self.under_way -= 1
        if work.done() and not work.cancelled() and (error := work.exception()):
            raise error


async def send_whole(send: Any, status: int, content: bytes, kind: str = "application/json", **more: str) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
    headers += [(key.replace("_", "-").encode(), value.encode()) for key, value in more.items()]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})


def whole(stub: Stub, asked: Mapping[str, Any], **message: Any) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": asked["model"],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": stub.name, **message}}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5},
    }
    return json.dumps(body).encode()


async def begin_stream(send: Any) -> None:
    head = [(b"content-type", b"text/event-stream; charset=utf-8")]
    await send({"type": "http.response.start", "status": 200, "headers": head})


async def send_event(send: Any, body: Any, is_last: bool = False) -> None:
    content = body if isinstance(body, bytes) else b"data: " + json.dumps(body).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": content, "more_body": not is_last})


def part(asked: Mapping[str, Any], text: str) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": asked["model"], "choices": [choice]}


async def says(stub: Stub, asked: dict[str, Any], send: Any) -> None:
    """Its name, streamed or not."""
    if not asked.get("stream"):
        return await send_whole(send, 200, whole(stub, asked))
    await begin_stream(send)
    for letter in stub.name:
        await send_event(send, part(asked, letter))
    if (asked.get("stream_options") or {}).get("include_usage"):
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        await send_event(send, {**part(asked, ""), "choices": [], "usage": usage})
    return await send_event(send, b"data: [DONE]\n\n", is_last=True)


async def hangs(stub: Stub, asked: dict[str, Any], send: Any) -> None:
    await asyncio.sleep(3600)


async def hangs_after_one(stub: Stub, asked: dict[str, Any], send: Any) -> None:
    await begin_stream(send)
    await send_event(send, part(asked, "one"))
    await asyncio.sleep(3600)


async def breaks_off(stub: Stub, asked: dict[str, Any], send: Any) -> None:
    await begin_stream(send)
    await send_event(send, part(asked, "one"))
    raise ConnectionAbortedError


def fails(status: int, content: bytes = b'{"error": {"message": "no"}}', **headers: str) -> Answers:
    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        await send_whole(send, status, content, **headers)

    return answers


@dataclass
class World:
    """What a test may do."""

    gateway: Gateway
    place: ReleasePlace
    base: Stub
    candidate: Stub
    client: httpx.AsyncClient
    admin: httpx.AsyncClient

    def route(self, **values: Any) -> int:
        with self.place.store.write() as connection:
            return change_routing(connection, self.place.store, self.place.workflow, **values)

    async def canary(self, share_percent: float = 100.0, **values: Any) -> int:
        """A canary that is served; returns its epoch."""
        row = {"release_id": "r1", "channel": "canary", "candidate_upstream": "candidate", "salt": "pepper"}
        epoch = self.route(**(row | {"share_percent": share_percent, "lease_seconds": 300.0} | values))
        await self.seen()
        await self.renew(epoch)
        return epoch

    async def renew(self, epoch: int) -> None:
        renew_lease(self.place.store, self.place.workflow, epoch=epoch)
        await self.seen()

    async def withdraw(self) -> None:
        self.route(share_percent=0.0, channel="", candidate_upstream="", release_id="")
        await self.seen()

    async def seen(self) -> None:
        """The replica looks at the routing, and acts on it."""
        await asyncio.to_thread(self.gateway.poll.look)
        if self.gateway.flights.look(self.gateway.served):
            self.gateway._report()

    async def ask(self, text: str = "hello", session: str | None = None, **more: Any) -> httpx.Response:
        headers = {**more.pop("headers", {}), **({"X-Session-Id": session} if session else {})}
        body = {"model": "mine", "messages": [{"role": "user", "content": text}], **more}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def says(self, session: str, **more: Any) -> str:
        """Who answers a session."""
        answer = await self.ask(session=session, **more)
        assert answer.status_code == 200, answer.text
        content: str = answer.json()["choices"][0]["message"]["content"]
        return content

    async def tell(self, **event: Any) -> httpx.Response:
        return await self.client.post("/v1/feedback", json=event)

    async def written(self) -> None:
        """Everything that has happened is in the store."""
        await until(lambda: not len(self.gateway.flights))
        await self.gateway.ledger.written()

    async def rows(self, table: Any = sessions) -> list[dict[str, Any]]:
        await self.written()
        with self.place.store.read() as connection:
            return [dict(row) for row in connection.execute(select(table)).mappings()]

    async def row(self, session: str) -> dict[str, Any]:
        (found,) = [row for row in await self.rows() if row["session_id"] == session]
        return found

    async def feedback(self) -> list[dict[str, Any]]:
        return await self.rows(feedback)

    async def replica(self) -> dict[str, Any]:
        (found,) = [row for row in await self.rows(replicas) if row["id"] == self.gateway.id]
        return found


class QuickServer(Server):
    """Ends when it is told to, and not at the next tenth of a second."""

    async def main_loop(self) -> None:
        while not self.should_exit:
            await asyncio.sleep(0.003)


class Listeners:
    """Applications on ports of this machine, ended together: uvicorn takes a tenth of a second to end one."""

    def __init__(self) -> None:
        self._started: list[tuple[QuickServer, asyncio.Task[None]]] = []

    async def start(self, app: Any) -> int:
        """Its port."""
        made = listener("test", "127.0.0.1", 0)
        options = uvicorn.Config(
            app, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=0, access_log=False
        )
        server = QuickServer(options)
        self._started.append((server, asyncio.create_task(server.serve(sockets=[made]))))
        while not server.started:
            await asyncio.sleep(0.001)
        port: int = made.getsockname()[1]
        return port

    async def aclose(self) -> None:
        for server, _ in self._started:
            server.should_exit = server.force_exit = True
        await asyncio.gather(*(task for _, task in self._started))


def config_of(base: Stub, candidate: Stub, **changes: Any) -> GatewayConfig:
    upstreams = {
        stub.name: {
            "url": f"http://127.0.0.1:{stub.port}/v1",
            "model": f"{stub.name}-model",
            "prices": {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_sampled_tokens": 2.0},
            **changes.pop(f"of_{stub.name}", {}),
        }
        for stub in (base, candidate)
    }
    return GatewayConfig.model_validate(
        {"upstreams": upstreams, "general": base.name, "poll_seconds": 0.05, "port": 0, "admin_port": 0} | changes
    )


@asynccontextmanager
async def world(
    place: ReleasePlace,
    *,
    base: Answers | None = None,
    candidate: Answers | None = None,
    client: Mapping[str, str] | None = None,
    clock: Callable[[], float] | None = None,
    wall: Callable[[], float] | None = None,
    **changes: Any,
) -> AsyncIterator[World]:
    """A gateway that answers; ADMIN_KEY is its admin key where `admin_key_env` is TEST_ADMIN."""
    one, other, listeners = Stub("base", base), Stub("candidate", candidate), Listeners()
    one.port, other.port = await listeners.start(one), await listeners.start(other)
    clocks = {name: value for name, value in (("clock", clock), ("wall", wall)) if value is not None}
    gateway = Gateway(config_of(one, other, **changes), place, **clocks)
    await gateway.start()
    try:
        port, admin_port = await listeners.start(ClientsApp(gateway)), await listeners.start(AdminApp(gateway))
        limits = httpx.Limits(max_connections=500, max_keepalive_connections=500)
        here, admin_key = "http://127.0.0.1", {"Authorization": f"Bearer {ADMIN_KEY}"}
        async with (
            httpx.AsyncClient(
                base_url=f"{here}:{port}", timeout=20, headers=client, limits=limits, verify=False
            ) as users,
            httpx.AsyncClient(base_url=f"{here}:{admin_port}", headers=admin_key, verify=False) as admins,
        ):
            yield World(gateway, place, one, other, users, admins)
    finally:
        await listeners.aclose()
        await gateway.aclose()


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for what happens in other tasks."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.002)
