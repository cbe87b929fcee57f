"""A server that answers for one policy, over connections to addresses that were vetted.

Read `agentrl.endpoint.network` for what is connected to: a name is looked up once and what was vetted is what is
connected to, no redirect is followed, no cookie and no credential goes from one host to another. Here nothing is tried
again but a request on a connection that the server had closed meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpcore
import httpx

from agentrl.config import UpstreamConfig
from agentrl.endpoint.address import usable_url
from agentrl.endpoint.faults import connection_fault
from agentrl.endpoint.network import Resolve, VettedNetwork, system_resolver, tls_context
from agentrl.gateway.connection import BrokenOff, Connection, Head
from agentrl.strict_json import strict_json

MAX_REPLY_BYTES = 32_000_000
"""Of an answer that is not streamed."""
MAX_IDLE = 128
"""Connections that are kept for the next requests."""
CONNECT_SECONDS = 5.0

FailureKind = Literal["connect", "timeout", "status", "refused", "protocol", "full"]


class UpstreamFailure(Exception):
    """No answer, or none that is the client's to see: neither of a server that is well."""

    def __init__(self, kind: FailureKind, found: str, *, status: int | None = None, retry_after: str = "") -> None:
        super().__init__(found)
        self.kind: FailureKind = kind
        self.status = status
        self.retry_after = retry_after


@dataclass
class Answer:
    """A response that has begun: its head and the first bytes of its body are there."""

    status: int
    headers: httpx.Headers
    first: bytes
    connection: Connection = field(repr=False)

    @property
    def is_event_stream(self) -> bool:
        return str(self.headers.get("content-type", "")).partition(";")[0].strip().lower() == "text/event-stream"

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes.

        Raises:
            UpstreamFailure: it broke off.
        """
        if self.first:
            yield self.first
        try:
            while chunk := await self.connection.read():
                yield chunk
        except BrokenOff as error:
            raise UpstreamFailure("protocol", f"the answer broke off ({error})") from error

    async def whole(self) -> bytes:
        """The body.

        Raises:
            UpstreamFailure: it broke off, or is too long.
        """
        body = bytearray()
        async for chunk in self.chunks():
            body += chunk
            if len(body) > MAX_REPLY_BYTES:
                raise UpstreamFailure("protocol", f"the answer has more than {MAX_REPLY_BYTES:,} bytes")
        return bytes(body)


class Upstream:
    """One of `gateway.upstreams`.

    Args:
        key: its API key; empty is none.
        resolve: looks names up, for tests.

    Raises:
        ConfigError: its address must not be called, or the key would travel in clear text.
    """

    def __init__(self, name: str, config: UpstreamConfig, key: str = "", *, resolve: Resolve = system_resolver) -> None:
        self.name, self.config = name, config
        where = f"gateway.upstreams.{name}"
        base = config.url.rstrip("/")
        self._url = usable_url(where, base, has_secrets=bool(key), allow_private=config.allow_private)
        self._tls = tls_context() if self._url.scheme == "https" else None
        self._network = VettedNetwork(allow_private=config.allow_private, resolve=resolve)
        port = self._url.port or (443 if self._tls else 80)
        self._origin = (self._url.raw_host.decode("ascii"), port)
        self._headers = [
            (b"Host", self._url.netloc),
            (b"User-Agent", b"agentrl-gateway"),
            (b"Accept-Encoding", b"identity"),
        ]
        if key:
            self._headers.append((b"Authorization", b"Bearer " + key.encode("ascii")))
        self._idle: deque[Connection] = deque()
        self.in_flight = 0

    @asynccontextmanager
    async def ask(
        self, method: str, path: str, content: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Answer]:
        """Send a request; the block is entered once the first bytes of the answer's body are there.

        However the block is left, nothing goes on: a request whose answer was not read to its end is given up, which
        the server sees as its connection closing.

        Args:
            path: behind the config's url, such as chat/completions.
            headers: beside the gateway's own.

        Raises:
            UpstreamFailure: there is no answer.
        """
        if self.in_flight >= self.config.max_concurrency:
            raise UpstreamFailure("full", f"{self.in_flight} requests are in flight at {self.name}")
        self.in_flight += 1
        connection: Connection | None = None
        try:
            try:
                async with asyncio.timeout(self.config.first_byte_seconds):
                    connection, head, first = await self._begun(method, path, content, headers or {})
            except TimeoutError:
                found = f"no first byte within {self.config.first_byte_seconds:g} seconds"
                raise UpstreamFailure("timeout", found) from None
            yield Answer(head.status, httpx.Headers(list(head.headers)), first, connection)
        finally:
            self.in_flight -= 1
            if connection is not None:
                if len(self._idle) < MAX_IDLE and connection.rest():
                    self._idle.append(connection)
                else:
                    connection.close()

    async def ask_json(self, path: str, body: bytes) -> dict[str, Any]:
        """A whole answer, for those who ask beside the users.

        Raises:
            UpstreamFailure: there is none, it is an error, or no JSON object.
        """
        try:
            async with asyncio.timeout(self.config.timeout_seconds):
                async with self.ask("POST", path, body, {"Content-Type": "application/json"}) as answer:
                    raw = await answer.whole()
        except TimeoutError:
            raise UpstreamFailure("timeout", f"no answer within {self.config.timeout_seconds:g} seconds") from None
        if answer.status != 200:
            raise UpstreamFailure("status", f"status {answer.status}", status=answer.status)
        try:
            value = strict_json(raw.decode())
        except ValueError as error:
            raise UpstreamFailure("protocol", f"the answer is no JSON ({error})") from None
        if not isinstance(value, dict):
            raise UpstreamFailure("protocol", "the answer is JSON, but no object")
        return value

    async def aclose(self) -> None:
        """Close what is idle."""
        while self._idle:
            self._idle.pop().close()

    async def _begun(
        self, method: str, path: str, content: bytes, headers: Mapping[str, str]
    ) -> tuple[Connection, Head, bytes]:
        target = self._url.raw_path.rstrip(b"/") + b"/" + path.encode("ascii")
        sent = [*self._headers, *((key.encode(), value.encode()) for key, value in headers.items())]
        sent.append((b"Content-Length", str(len(content)).encode()))
        while True:
            connection, is_reused = await self._connection()
            try:
                head = await connection.send(method, target, sent, content)
                return connection, head, await connection.read()
            except BaseException as error:
                connection.close()
                if not isinstance(error, BrokenOff):
                    raise
                if not is_reused:
                    raise UpstreamFailure("protocol", f"the answer broke off ({error})") from error
            # the server had closed it while it rested; the next one is another, or new

    async def _connection(self) -> tuple[Connection, bool]:
        """The one that was used last, so that those too many grow old; or a new one."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection, True
            connection.close()
        host, port = self._origin
        try:
            return await Connection.connect(self._network, host, port, self._tls, CONNECT_SECONDS), False
        except TimeoutError as error:
            raise UpstreamFailure("connect", f"no connection within {CONNECT_SECONDS:g} seconds") from error
        except (httpcore.NetworkError, OSError) as error:
            raise UpstreamFailure("connect", connection_fault(error).found) from error
