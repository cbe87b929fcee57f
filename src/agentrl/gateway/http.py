"""One HTTP request over ASGI: its headers, its body within limits, its answer; a framework would cost users time."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, NoReturn

from agentrl.gateway.errors import ApiError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_SECONDS = 30.0
"""Until a request has arrived."""


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


class Call:
    """A request and the way back."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self._raw = scope["headers"]
        self.headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in self._raw}
        self._receive, self._send = receive, send
        self.is_begun = False
        """The answer's head is with the client."""
        self.is_ended = False
        """So is its last byte: a client that goes from then on has not left half-way."""
        self.extra: list[tuple[bytes, bytes]] = []
        """Headers that every answer of this request carries."""

    def header(self, name: str) -> str:
        """The value of a header; empty where it is missing.

        Raises:
            ApiError: 400, it is there twice with different values.
        """
        values = {value for key, value in self._raw if key == name.lower().encode()}
        if len(values) > 1:
            raise ApiError(400, f"The header {name} is there more than once.", code="repeated_header")
        return next((_text(value) for value in values), "")

    async def read_json(self, max_bytes: int) -> dict[str, Any]:
        """The body.

        Raises:
            ApiError: it is too long, too slow, or no JSON object.
            ClientGone: it did not come to its end.
        """
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":  # which a page in a browser cannot send elsewhere unasked
            message = f"Found Content-Type {kind!r:.80}; allowed: application/json."
            raise ApiError(415, message, code="unsupported_media_type")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                content = await self._content(max_bytes)
        except TimeoutError:
            message = f"The request did not arrive within {BODY_SECONDS:g} seconds."
            raise ApiError(408, message, code="request_timeout") from None
        try:
            body = json.loads(content.decode("utf-8"), parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else error
            raise ApiError(400, f"The request is not JSON: {reason}.", code="invalid_json") from None
        if not isinstance(body, dict):
            raise ApiError(400, "The request is JSON, but no object.", code="invalid_json")
        return body

    async def gone(self) -> None:
        """Returns when the client has gone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def begin(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """Send the head of the answer."""
        self.is_begun = True
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self.extra]})

    async def send(self, content: bytes, *, is_last: bool = False) -> None:
        """Send a part of the body."""
        self.is_ended = self.is_ended or is_last  # before it is sent: servers tell of the client's going at that moment
        await self._send({"type": "http.response.body", "body": content, "more_body": not is_last})

    async def answer(
        self,
        status: int,
        content: bytes,
        *,
        kind: str = "application/json",
        headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        """Send a whole answer."""
        length = (b"content-length", str(len(content)).encode())
        await self.begin(status, [(b"content-type", kind.encode()), length, *(headers or [])])
        await self.send(content, is_last=True)

    async def answer_json(self, status: int, body: Any) -> None:
        """Send JSON."""
        await self.answer(status, json.dumps(body).encode())

    async def refuse(self, error: ApiError) -> None:
        """Tell why there is no answer."""
        headers = []
        if error.retry_after_seconds is not None:
            headers.append((b"retry-after", str(max(1, math.ceil(error.retry_after_seconds))).encode()))
        await self.answer(error.status, json.dumps(error.body).encode(), headers=headers)

    async def _content(self, max_bytes: int) -> bytes:
        too_large = ApiError(413, f"The request has more than {max_bytes:,} bytes.", code="request_too_large")
        declared = self.headers.get("content-length", "")
        if declared.isascii() and declared.isdigit() and int(declared[:20]) > max_bytes:
            raise too_large
        content = bytearray()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            content += message.get("body", b"")
            if len(content) > max_bytes:
                raise too_large
            if not message.get("more_body"):
                return bytes(content)


def _text(value: bytes) -> str:
    """Clients send UTF-8 or Latin-1; either way an id stays the same id."""
    try:
        return value.decode("utf-8").strip()
    except UnicodeDecodeError:
        return value.decode("latin-1").strip()


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON number")
