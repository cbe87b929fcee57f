"""One `Endpoint` per URL: its headers, its connections, its retries."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NoReturn

import httpx

from agentrl.endpoint.address import is_local, resolve_headers, usable_url
from agentrl.endpoint.body import MAX_BYTES, excerpt, read_limited, strict_json
from agentrl.endpoint.faults import EndpointFailure, Fault, advice, connection_fault, retry_after_seconds

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER_SECONDS = 10.0
FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0
# Servers such as uvicorn close an idle connection after 5 s; letting go first avoids writing into a closing one.
KEEPALIVE_SECONDS = 3.0


@dataclass(frozen=True)
class Reply:
    """An answer: 2xx or 4xx."""

    status: int
    """413 also stands for a reply that was over the size limit."""
    json: dict[str, Any] | None
    """The body where it is a JSON object; always one for 2xx."""
    text: str
    seconds: float
    """Wall time of the call: waiting for a free slot, all attempts and the pauses between them."""
    attempts: int


class Endpoint:
    """One URL with its headers, retries and connection pool. Use it from one event loop, then `aclose`.

    Args:
        name: for messages, such as "tool search".
        headers: `${NAME}` is replaced from the environment here, once.
        timeout_seconds: deadline of one attempt, from connecting to the last byte.
        retries: further attempts after the first.
        transport: replaces the network in tests.
        sleep, rng: the pauses between attempts and their jitter, for tests.

    Raises:
        ConfigError: an unusable URL, an unset environment variable, a secret that would travel in clear text.
    """

    def __init__(
        self,
        name: str,
        url: str,
        headers: Mapping[str, str],
        *,
        timeout_seconds: float,
        retries: int,
        max_concurrency: int,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        resolved = resolve_headers(name, headers)
        parsed = usable_url(name, url, has_secrets=bool(resolved.secrets))
        self.shown_url = str(parsed.copy_with(query=None, fragment=None))  # keys may stand in a query
        self._url = parsed
        self._secrets = resolved.secrets
        self._headers = httpx.Headers({"Content-Type": "application/json", "Accept-Encoding": "identity"})
        self._headers.update(resolved.values)
        self._timeout_seconds = timeout_seconds
        self._retries = retries
        self._slots = asyncio.Semaphore(max_concurrency)
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._idle: list[httpx.AsyncClient] = []
        is_remote = not is_local(parsed.host)
        self._client_options: dict[str, Any] = {
            "transport": transport,
            "timeout": httpx.Timeout(timeout_seconds, pool=None),
            "limits": httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_SECONDS),
            "verify": httpx.create_ssl_context() if parsed.scheme == "https" and transport is None else False,
            "trust_env": is_remote,  # a proxy of the environment must not catch calls to this machine
            "follow_redirects": False,
        }

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.shown_url!r})"

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def post(self, payload: Mapping[str, Any], *, rollout_id: str) -> Reply:
        """POST the payload as JSON. Every attempt sends the same bytes.

        Raises:
            EndpointFailure: no answer after all retries, a redirect, or a payload that cannot be sent.
        """
        started = time.perf_counter()
        content = self._encode(payload)
        attempts = 0
        while True:
            attempts += 1
            try:
                async with self._slots, self._connection() as client:
                    response, raw, is_cut = await self._exchange(client, content, rollout_id)
                status, body, text = self._judge(response, raw, is_cut)
                return Reply(status, body, text, time.perf_counter() - started, attempts)
            except Fault as fault:
                if fault.is_final or attempts > self._retries:
                    self._fail(fault, attempts)
                pause = self._pause(attempts, fault.retry_after_seconds)
            await self._sleep(pause)

    def _encode(self, payload: Mapping[str, Any]) -> bytes:
        try:
            text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            self._fail(Fault("protocol", f"the request is no JSON ({error})"), 0)
        content = text.encode("utf-8", "replace")  # a policy may write half a surrogate pair
        if len(content) > MAX_BYTES:
            found = f"the request has {len(content):,} bytes, at most {MAX_BYTES:,} are allowed"
            self._fail(Fault("protocol", f"{found}: shorten the item, or leave keys out of item_fields"), 0)
        return content

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of one connection, the one used last if any is idle.

        One shared pool of n connections costs n^2 steps a request (httpcore 1.0): with 64, four times the CPU time.
        """
        if self._idle:
            client = self._idle.pop()
        else:
            # No cookies: one would tie rollouts that follow each other on a connection.
            cookies = CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))
            client = httpx.AsyncClient(cookies=cookies, **self._client_options)
        try:
            yield client
        except BaseException:
            # A call cancelled at the wrong moment leaves a connection that httpcore never gives back (1.0.9): the
            # next call would wait for it until the deadline, and so would every call after that.
            await client.aclose()
            raise
        self._idle.append(client)

    async def _exchange(
        self, client: httpx.AsyncClient, content: bytes, rollout_id: str
    ) -> tuple[httpx.Response, bytes, bool]:
        headers = self._headers.copy()
        headers["X-Rollout-Id"] = rollout_id
        try:
            async with (
                asyncio.timeout(self._timeout_seconds),
                client.stream("POST", self._url, content=content, headers=headers) as response,
            ):
                raw, is_cut = await read_limited(response)
                return response, raw, is_cut
        except (TimeoutError, httpx.TimeoutException) as error:
            raise Fault("timeout", f"no complete answer within {self._timeout_seconds:g} s") from error
        except httpx.TransportError as error:
            raise connection_fault(error) from error
        except httpx.HTTPError as error:
            raise Fault("protocol", str(error)) from error

    def _judge(self, response: httpx.Response, raw: bytes, is_cut: bool) -> tuple[int, dict[str, Any] | None, str]:
        status = response.status_code
        text = self._redact(raw.decode("utf-8", "replace"))
        if status == 429 or status >= 500:
            wait = retry_after_seconds(response.headers.get("Retry-After"))
            if wait is not None and wait > MAX_RETRY_AFTER_SECONDS:
                logger.warning("%r asks for %g s, waiting %g s", self, wait, MAX_RETRY_AFTER_SECONDS)
            raise Fault("status", f"answered {status}{excerpt(text)}", status=status, retry_after_seconds=wait)
        if not (200 <= status < 300 or 400 <= status < 500):
            found = f"answered {status}; redirects are not followed, configure the final address"
            raise Fault("protocol", found, status=status, is_final=True)
        if is_cut:
            message = f"the reply is over {MAX_BYTES:,} bytes"
            return 413, {"error": {"message": message}}, message
        try:
            if 200 <= status < 300:
                raw.decode("utf-8")  # nothing is replaced in what a policy reads or a score is taken from
            body = strict_json(text)
            if not isinstance(body, dict):
                raise ValueError(f"a JSON {type(body).__name__}, where an object is expected")
        except ValueError as error:
            if status >= 400:
                return status, None, text
            found = f"answered {status} with a body that is no JSON object ({error}){excerpt(text)}"
            raise Fault("protocol", found, status=status) from error
        return status, body, text

    def _pause(self, attempts: int, retry_after_seconds: float | None) -> float:
        """Seconds until the next attempt: exponential with jitter, or what the server asked for, up to a cap."""
        backoff = min(FIRST_BACKOFF_SECONDS * 2.0 ** (attempts - 1), MAX_BACKOFF_SECONDS)
        backoff *= self._rng.uniform(0.5, 1.0)
        return max(backoff, min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS))

    def _redact(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text

    def _fail(self, fault: Fault, attempts: int) -> NoReturn:
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        hint = advice(fault.kind, fault.status)
        message = self._redact(f"{self.name} at {self.shown_url}: {fault.found}{tried}{hint}")
        raise EndpointFailure(message, kind=fault.kind, status=fault.status, attempts=attempts) from fault.__cause__
