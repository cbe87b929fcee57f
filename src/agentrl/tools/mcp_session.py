"""One connection to an MCP server: a task that holds it open, and an HTTP client that calls vetted addresses only."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, TypeVar

import httpx

from agentrl.endpoint.address import is_local
from agentrl.endpoint.network import VettedNetwork, environment_proxy

if TYPE_CHECKING:
    import httpx2
    from mcp import Client

CONNECTION_LOST = (-32000, -32600)  # the SDK's: the transport closed, the server ended the session
CLOSE_SECONDS = 10.0
"""Most time for closing a session; the SDK gives a stdio server 2 s to end and 2 s more after SIGTERM."""
CANCEL_SECONDS = 1.0
"""For telling the server that nobody waits for an answer; a full pipe may block that."""

Answer = TypeVar("Answer")


class MCPSession:
    """A connected client, held open by a task of its own: the SDK closes only in the task that opened."""

    def __init__(self, connected: AbstractAsyncContextManager[Client], seconds: float) -> None:
        self._ready: asyncio.Future[Client] = asyncio.get_running_loop().create_future()
        self._may_close = asyncio.Event()
        self._owner = asyncio.create_task(self._own(connected, seconds))

    async def _own(self, connected: AbstractAsyncContextManager[Client], seconds: float) -> None:
        try:
            async with AsyncExitStack() as stack:
                async with asyncio.timeout(seconds):
                    client = await stack.enter_async_context(connected)
                self._ready.set_result(client)
                await self._may_close.wait()
        except BaseException as error:
            if not self._ready.done():
                cancelled = isinstance(error, asyncio.CancelledError)
                self._ready.set_exception(ConnectionError("the session was closed") if cancelled else error)
                self._ready.exception()  # seen, even if nobody waits for it any more
            elif not isinstance(error, Exception):
                raise  # what an open session dies of is told to the calls that it was running

    @property
    def is_over(self) -> bool:
        return self._owner.done()

    async def client(self) -> Client:
        return await asyncio.shield(self._ready)

    async def run(self, request: Callable[[Client], Awaitable[Answer]], seconds: float) -> Answer:
        """Make a request.

        Raises:
            TimeoutError: no answer in time.
            ConnectionError: the connection was lost.
        """
        client = await self.client()
        task = asyncio.ensure_future(request(client))
        try:
            await asyncio.wait({task, self._owner}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            if self._owner.done():
                raise ConnectionError("the connection was lost")
            raise TimeoutError
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=CANCEL_SECONDS)

    async def close(self) -> None:
        self._may_close.set()
        await asyncio.wait({self._owner}, timeout=CLOSE_SECONDS if self._ready.done() else 0)
        self._owner.cancel()
        await asyncio.wait({self._owner}, timeout=CLOSE_SECONDS)


def is_lost(error: Exception) -> bool:
    """Whether the connection is gone, for whoever shares it. Late is not lost: the others may still be answered."""
    return isinstance(error, ConnectionError) or getattr(error, "code", None) in CONNECTION_LOST


def http_client(
    url: httpx.URL, headers: dict[str, str], tls: ssl.SSLContext | None, network: VettedNetwork, seconds: float
) -> httpx2.AsyncClient:
    """A client for the SDK. A proxy of the environment, never used for this machine, vets the addresses itself."""
    import httpx2

    proxy = None if is_local(url.host) else environment_proxy(url)
    through = httpx2.AsyncHTTPTransport(verify=tls or False, trust_env=False, proxy=proxy)

    class Vetted(httpx2.AsyncBaseTransport):
        """Connects to the address that was vetted; the certificate is still checked against the name."""

        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            if proxy is not None:
                return await through.handle_async_request(request)
            host, port = request.url.host, request.url.port or (443 if request.url.scheme == "https" else 80)
            address, *_ = await network.vetted(host, port)
            return await through.handle_async_request(
                httpx2.Request(
                    request.method,
                    request.url.copy_with(host=address),
                    headers=request.headers,
                    stream=request.stream,
                    extensions={**request.extensions, "sni_hostname": host},
                )
            )

        async def aclose(self) -> None:
            await through.aclose()

    timeout = httpx2.Timeout(seconds, read=None)  # a stream may be silent for long
    return httpx2.AsyncClient(transport=Vetted(), headers=headers, timeout=timeout, trust_env=False)
