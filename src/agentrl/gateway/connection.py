"""One HTTP/1.1 connection to a server: h11 decides what the bytes mean, asyncio carries them.

Through httpcore each part of a chunked answer costs three times as much. What has come together is handed on together:
a stream that is read too slowly comes in fewer and larger parts, and nothing waits for more.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import h11
import httpcore

from agentrl.endpoint.network import KEEPALIVE_SECONDS, NEXT_ADDRESS_SECONDS, VettedNetwork

READ_BYTES = 65_536
MAX_HEAD_BYTES = 65_536
Headers = Sequence[tuple[bytes, bytes]]


class BrokenOff(Exception):
    """The connection ended before the answer did, or what came is no HTTP."""


@dataclass(frozen=True)
class Head:
    """Of an answer."""

    status: int
    headers: Headers


class Connection:
    """Carries one request at a time. Made by `connect`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._idle_since = 0.0

    @classmethod
    async def connect(
        cls, network: VettedNetwork, host: str, port: int, tls: ssl.SSLContext | None, seconds: float
    ) -> Connection:
        """To an address that was vetted, of several the first that answers; TLS checks the certificate by the name.

        Raises:
            OSError, TimeoutError: none could be connected to.
            httpcore.ConnectError: the name leads to none that may be called.
        """
        addresses = await network.vetted(host, port)
        for address in addresses:
            is_last = address == addresses[-1]
            try:
                async with asyncio.timeout(seconds if is_last else NEXT_ADDRESS_SECONDS):
                    name = None if tls is None else host
                    made = await asyncio.open_connection(address, port, limit=READ_BYTES, ssl=tls, server_hostname=name)
                    return cls(*made)
            except (OSError, TimeoutError):
                if is_last:
                    raise
        raise httpcore.ConnectError(f"{host} has no address")

    async def send(self, method: str, target: bytes, headers: Headers, content: bytes) -> Head:
        """Send a request, head and body in one write; returns once the head of the answer is there.

        Raises:
            BrokenOff: it is not.
        """
        request = h11.Request(method=method, target=target, headers=list(headers))
        try:
            sent = [self._http.send(request), self._http.send(h11.Data(content)) if content else b""]
            sent.append(self._http.send(h11.EndOfMessage()))
            self._writer.write(b"".join(part for part in sent if part))
            with suppress(ConnectionError):  # who refuses a request while it is sent may have said why
                await self._writer.drain()
            while True:
                event = await self._event()
                if isinstance(event, h11.Response):
                    return Head(event.status_code, list(event.headers.raw_items()))
        except (h11.ProtocolError, OSError) as error:
            raise BrokenOff(f"{type(error).__name__}: {error}") from error

    async def read(self) -> bytes:
        """All of the body that has come; waits where nothing has. Empty at its end.

        Raises:
            BrokenOff: there is no more, and it was not the end.
        """
        parts: list[bytes] = []
        try:
            while not self.is_at_end:
                event = self._http.next_event()
                if isinstance(event, h11.Data):
                    parts.append(bytes(event.data))
                elif event is h11.NEED_DATA:
                    if parts:
                        return b"".join(parts)
                    await self._receive()
                else:
                    break
            return b"".join(parts)
        except (h11.ProtocolError, OSError) as error:
            raise BrokenOff(f"{type(error).__name__}: {error}") from error

    @property
    def is_at_end(self) -> bool:
        """Whether the answer has been read to its end."""
        return self._http.their_state in (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)

    def rest(self) -> bool:
        """Make ready for the next request; False where there can be none.

        A connection on which more than the answer came is not used again: the next request would read it as its own.
        """
        if self._http.their_state is not h11.DONE or self._http.our_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False
        self._http.start_next_cycle()
        self._idle_since = time.monotonic()
        return True

    @property
    def is_usable(self) -> bool:
        """Whether a connection that rested may be used: the server did not end it, and will not do so just now."""
        is_young = time.monotonic() - self._idle_since < KEEPALIVE_SECONDS
        is_silent = not self._reader.at_eof() and not getattr(self._reader, "_buffer", b"")
        return is_young and is_silent and not self._writer.is_closing()

    def close(self) -> None:
        """End it, whatever is under way: the server sees that nobody waits any more."""
        with suppress(Exception):
            self._writer.transport.abort()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            await self._receive()
        return event

    async def _receive(self) -> None:
        data = await self._reader.read(READ_BYTES)
        self._http.receive_data(data)
        if not data and self._http.their_state is h11.SEND_RESPONSE:
            raise ConnectionResetError("closed before the answer")
