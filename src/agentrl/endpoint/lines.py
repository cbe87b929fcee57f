"""The connections of one endpoint: one for each request under way, kept for the next, and late replies counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import httpcore
import httpx

from agentrl.endpoint.faults import Fault, connection_fault
from agentrl.endpoint.network import Line, Received
from agentrl.endpoint.stats import Tally

T = TypeVar("T")

MAX_LATE = 64
"""Connections on which a late reply is waited for, only to count it."""


class Lines:
    """Sends requests, each over a line of its own.

    Args:
        new_line: makes one.
        late_seconds: how long a late reply is waited for after its attempt has timed out.
    """

    def __init__(self, new_line: Callable[[], Line], tally: Tally, *, late_seconds: float) -> None:
        self._new_line = new_line
        self._tally = tally
        self._late_seconds = late_seconds
        self._idle: list[Line] = []
        self._late: set[asyncio.Task[Any]] = set()

    async def aclose(self) -> None:
        for exchange in self._late:
            exchange.cancel()
        if self._late:
            await asyncio.wait(self._late)
        while self._idle:
            await self._idle.pop().aclose()

    async def connect(self, seconds: float) -> None:
        """Make a connection, or find one that is still there.

        Raises:
            Fault: it cannot be made, or not in that time.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._over_a_line(lambda line: line.connect())
        except TimeoutError as error:
            raise Fault("timeout", f"no connection within {seconds:g} s") from error

    async def send(self, content: bytes, headers: httpx.Headers, seconds: float) -> Received:
        """What came back in that time.

        Raises:
            Fault: nothing, or what is no HTTP.
        """
        exchange = asyncio.ensure_future(self._over_a_line(lambda line: line.exchange(content, headers)))
        try:
            await asyncio.wait((exchange,), timeout=max(0.0, seconds))
        except asyncio.CancelledError:
            exchange.cancel()
            await asyncio.wait((exchange,))
            raise
        if not exchange.done():
            self._listen_on(exchange)
            raise Fault("timeout", f"no complete answer within {seconds:g} s")
        received = exchange.result()
        self._tally.stray_replies += received.has_stray
        return received

    def _listen_on(self, exchange: asyncio.Task[Any]) -> None:
        if len(self._late) >= MAX_LATE:
            exchange.cancel()

        def ended(_: object) -> None:
            timer.cancel()
            self._late.discard(exchange)
            if not exchange.cancelled() and exchange.exception() is None:
                self._tally.late_replies += 1

        self._late.add(exchange)
        timer = asyncio.get_running_loop().call_later(self._late_seconds, exchange.cancel)
        exchange.add_done_callback(ended)

    async def _over_a_line(self, use: Callable[[Line], Awaitable[T]]) -> T:
        try:
            async with self._line() as line:
                return await use(line)
        except (httpx.TimeoutException, httpcore.TimeoutException) as error:
            raise Fault("timeout", f"no complete answer within {self._late_seconds:g} s ({error})") from error
        except (httpx.TransportError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise connection_fault(error) from error
        except ValueError as error:
            raise Fault("protocol", str(error)) from error

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[Line]:
        """The line used last, if any is idle."""
        line = self._idle.pop() if self._idle else self._new_line()
        try:
            yield line
        except BaseException:
            await line.aclose()  # nobody knows what will still come over it
            raise
        self._idle.append(line)
