"""One `Endpoint` per URL: its headers, its connections, its retries, its breaker."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

import httpx

from agentrl.endpoint.address import is_local, resolve_headers, strike_out, usable_url
from agentrl.endpoint.body import encode, excerpt
from agentrl.endpoint.breaker import Breaker, Health
from agentrl.endpoint.faults import INFRASTRUCTURE_STATUSES, EndpointFailure, Fault, advice
from agentrl.endpoint.flow import Pace, Slots
from agentrl.endpoint.gate import Gate
from agentrl.endpoint.judge import Answer, Check, Request, judge
from agentrl.endpoint.lines import Lines
from agentrl.endpoint.network import (
    Connection,
    Line,
    Relay,
    Resolve,
    VettedNetwork,
    environment_proxy,
    system_resolver,
    tls_context,
)
from agentrl.endpoint.stats import EndpointStats, Tally

FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0


@dataclass(frozen=True)
class Reply:
    """An answer: 2xx or 4xx."""

    status: int
    """413 also stands for a reply that was over the size limit."""
    json: dict[str, Any] | None
    """The body where it is a JSON object; always one for 2xx."""
    text: str
    seconds: float
    """Wall time of the call: `queue_seconds`, all attempts and the pauses between them."""
    attempts: int
    queue_seconds: float = 0.0
    """Of it, waiting for a slot, for the rate limit and for the breaker."""


class Endpoint:
    """One URL with its headers, retries and connections. Use it from one event loop, then `aclose`.

    Args:
        name: for messages, such as "tool search".
        headers: `${NAME}` is replaced from the environment here, once.
        timeout_seconds: deadline of one attempt, from connecting to the last byte.
        total_timeout_seconds: deadline of a call: the queue, all attempts and the pauses between them.
        retries: further attempts after the first. A probe of the breaker that fails counts for all who wait for it.
        max_concurrency: the ceiling of calls under way at once, see `Slots`.
        max_requests_per_second: attempts that leave in a second; None is no limit.
        breaker_failures, breaker_seconds: see `Breaker`.
        allow_private: whether addresses of private networks, and names that lead to them, may be called.
        resolve, transport: replace name lookups and the network in tests.
        sleep, rng: the pauses between attempts and their jitter, for tests.

    Raises:
        ConfigError: a URL that must not be called, an unset environment variable, a secret that would travel in clear
                text.
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
        total_timeout_seconds: float = 300.0,
        max_requests_per_second: float | None = None,
        breaker_failures: int = 10,
        breaker_seconds: float = 1.0,
        allow_private: bool = False,
        resolve: Resolve = system_resolver,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        resolved = resolve_headers(name, headers)
        parsed = usable_url(name, url, has_secrets=bool(resolved.secrets), allow_private=allow_private)
        self.shown_url = str(parsed.copy_with(query=None, fragment=None))  # keys may stand in a query
        self._url = parsed
        self._secrets = resolved.secrets
        self._headers = httpx.Headers({"Content-Type": "application/json", "Accept-Encoding": "identity"})
        self._headers.update(resolved.values)
        self._timeout_seconds = timeout_seconds
        self._total_timeout_seconds = total_timeout_seconds
        self._retries = retries
        self._gate = Gate(
            f"{name} at {self.shown_url}",
            Slots(max_concurrency),
            Pace(max_requests_per_second, sleep=sleep),
            Breaker(breaker_failures, breaker_seconds),
        )
        self._failed_last: tuple[Request, str] | None = None  # with the class of the failure
        self._tally = Tally()
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._lines = Lines(
            self._line_maker(allow_private=allow_private, resolve=resolve, transport=transport),
            self._tally,
            late_seconds=timeout_seconds,
        )

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.shown_url!r})"

    @property
    def health(self) -> Health:
        """What the breaker thinks of it."""
        return self._gate.health

    @property
    def stats(self) -> EndpointStats:
        """What happened so far."""
        slots = self._gate.slots
        return self._tally.snapshot(
            breaker_opened=self._gate.times_opened,
            concurrency=slots.limit,
            in_flight=slots.in_use,
            waiting=slots.waiting,
        )

    async def aclose(self) -> None:
        await self._lines.aclose()

    async def post(
        self,
        payload: Mapping[str, Any],
        *,
        rollout_id: str,
        action: str = "",
        check: Check | None = None,
        is_repeatable: bool = True,
    ) -> Reply:
        """POST the payload as JSON. Every attempt sends the same bytes under the same ids.

        Args:
            action: what it is within the rollout, the payload's `call_id` if left out. With the rollout's id it is the
                `Idempotency-Key`: a server that keeps first answers runs nothing twice.
            check: says what is wrong with a 2xx body; such a reply counts as malformed and is tried again.
            is_repeatable: whether `wait_until_healthy` may send it once more after it was given up. False for what
                would then leave something open.

        Raises:
            EndpointFailure: no answer after all retries or in all the time, a redirect, or a payload that cannot be
                sent.
        """
        started = time.monotonic()
        ends = started + self._total_timeout_seconds
        request: Request | None = None
        attempts = used = 0
        queue_seconds = 0.0
        fault: Fault | None = None
        try:
            async with asyncio.timeout(self._total_timeout_seconds):
                while True:
                    queued = time.monotonic()
                    try:
                        permit, failed_probes = await self._gate.enter(self._retries + 1 - used)
                    finally:
                        queue_seconds += time.monotonic() - queued
                    if request is None:  # not before its turn: what waits in the queue is small
                        request = self._request(payload, rollout_id, action, check, is_repeatable, permit)
                    attempts, used = attempts + 1, used + 1 + failed_probes
                    try:
                        answer = await self._try(request, permit, ends - time.monotonic())
                    except Fault as failed:
                        fault = failed
                        if fault.is_final or used > self._retries:
                            raise
                    else:
                        seconds = time.monotonic() - started
                        return Reply(answer.status, answer.json, answer.text, seconds, attempts, queue_seconds)
                    await self._sleep(self._pause(attempts, fault.retry_after_seconds))
        except Fault as last:
            self._fail(last, attempts)
        except TimeoutError:
            self._fail(self._out_of_time(fault, queue_seconds), attempts)
        finally:
            self._tally.calls += 1
            self._tally.retries += max(0, attempts - 1)
            self._tally.queue_seconds.append(queue_seconds)
            self._tally.call_seconds.append(time.monotonic() - started - queue_seconds)

    async def wait_until_healthy(self) -> None:
        """Return when the endpoint answers; at once while its breaker is closed. Give up by cancelling it.

        What is sent to find out is the call that failed last, once more: the same bytes under the same ids. Any answer
        will do, such as a 404 for a rollout that the server has forgotten. A call that must not be repeated is not:
        then it is enough that a connection can be made, and the next call is the probe.
        """
        while not await self._gate.healed():
            permit, _ = await self._gate.enter()
            if not permit or self._failed_last is None:
                self._gate.withdrawn(permit)
                continue
            request, label = self._failed_last
            if request.is_repeatable:
                with suppress(Fault):
                    forgiven = () if label == "http_404" else (404,)
                    await self._try(request, permit, self._timeout_seconds, forgiven=forgiven)
            elif await self._connects(permit):
                return

    async def _connects(self, permit: int) -> bool:
        """Whether a connection can be made; the gate is told where it cannot."""
        try:
            await self._lines.connect(self._timeout_seconds)
        except Fault as fault:
            self._gate.failed(permit, "lost", self._redact(fault.found))
            return False
        except BaseException:
            self._gate.withdrawn(permit)
            raise
        self._gate.withdrawn(permit)
        return True

    def _request(
        self,
        payload: Mapping[str, Any],
        rollout_id: str,
        action: str,
        check: Check | None,
        is_repeatable: bool,
        permit: int,
    ) -> Request:
        try:
            content = encode(payload)
        except ValueError as error:
            self._gate.withdrawn(permit)
            raise Fault("protocol", str(error), is_final=True) from error
        call_id = str(payload.get("call_id", ""))
        headers = {"X-Rollout-Id": rollout_id}
        if action or call_id:
            headers["Idempotency-Key"] = quote(f"{rollout_id}/{action or call_id}", errors="replace")
        return Request(content, headers, rollout_id, call_id, check, is_repeatable)

    async def _try(
        self, request: Request, permit: int, seconds_left: float, *, forgiven: tuple[int, ...] = ()
    ) -> Answer:
        """One attempt; the gate is told what it says about the endpoint."""
        try:
            headers = self._headers.copy()
            headers.update(request.headers)
            seconds = min(self._timeout_seconds, seconds_left)
            received = await self._lines.send(request.content, headers, seconds)
            answer = judge(repr(self), request, received, self._secrets)
        except Fault as fault:
            if fault.retry_after_seconds:
                self._gate.hold(fault.retry_after_seconds)
            self._failed(request, permit, fault)
            raise
        except BaseException:
            self._gate.withdrawn(permit)
            raise
        if answer.status in INFRASTRUCTURE_STATUSES and answer.status not in forgiven:
            found = f"answered {answer.status}{excerpt(answer.text)}"
            self._failed(request, permit, Fault("status", found, status=answer.status))
        else:
            self._gate.answered()
        return answer

    def _failed(self, request: Request, permit: int, fault: Fault) -> None:
        self._tally.failures[fault.label] += 1
        self._failed_last = request, fault.label
        self._gate.failed(permit, fault.outcome, self._redact(fault.found))

    def _line_maker(
        self, *, allow_private: bool, resolve: Resolve, transport: httpx.AsyncBaseTransport | None
    ) -> Callable[[], Line]:
        url = self._url
        if transport is not None:
            return lambda: Relay(url, transport)
        tls = tls_context() if url.scheme == "https" else None
        # A proxy of the environment must not catch calls to this machine.
        proxy = None if is_local(url.host) else environment_proxy(url)
        if proxy is not None:
            return lambda: Relay.proxy(url, proxy, tls)
        network = VettedNetwork(allow_private=allow_private, resolve=resolve)
        return lambda: Connection(url, network, tls)

    def _pause(self, attempts: int, retry_after_seconds: float | None) -> float:
        """Seconds until the next attempt: exponential with jitter, or what the server asked for."""
        backoff = min(FIRST_BACKOFF_SECONDS * 2.0 ** (attempts - 1), MAX_BACKOFF_SECONDS)
        return max(backoff * self._rng.uniform(0.5, 1.0), retry_after_seconds or 0.0)

    def _redact(self, text: str) -> str:
        return str(strike_out(text, self._secrets))

    def _out_of_time(self, last: Fault | None, queue_seconds: float) -> Fault:
        found = f"no answer within {self._total_timeout_seconds:g} s, {queue_seconds:.1f} s of them in the queue"
        if not self.health.is_healthy:
            return Fault("breaker", f"{found}; it failed last with: {self.health.error}")
        if last is None:
            return Fault("timeout", found)
        return Fault(last.kind, f"{found}; it failed last with: {last.found}", status=last.status)

    def _fail(self, fault: Fault, attempts: int) -> NoReturn:
        self._tally.failed_calls += 1
        if fault.kind == "breaker":  # no attempt that failed is behind it
            self._tally.failures[fault.label] += 1
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        hint = advice(fault.kind, fault.status)
        message = self._redact(f"{self.name} at {self.shown_url}: {fault.found}{tried}{hint}")
        # Without what lies behind it: a library's error may quote the reply, and with it our own headers.
        raise EndpointFailure(message, kind=fault.kind, status=fault.status, attempts=attempts) from None
