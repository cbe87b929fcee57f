"""One `Endpoint` per URL: its headers, its connections, its retries, its breaker."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote

import httpcore
import httpx

from agentrl.endpoint.address import is_local, resolve_headers, strike_out, usable_url
from agentrl.endpoint.body import MAX_BYTES, excerpt, strict_json
from agentrl.endpoint.breaker import Breaker, Health
from agentrl.endpoint.faults import (
    INFRASTRUCTURE_STATUSES,
    EndpointFailure,
    Fault,
    advice,
    connection_fault,
    retry_after_seconds,
)
from agentrl.endpoint.flow import Pace, Slots
from agentrl.endpoint.network import (
    Connection,
    Line,
    Received,
    Relay,
    Resolve,
    VettedNetwork,
    environment_proxy,
    system_resolver,
    tls_context,
)
from agentrl.endpoint.stats import EndpointStats, Tally

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER_SECONDS = 10.0
FIRST_BACKOFF_SECONDS = 0.25
MAX_BACKOFF_SECONDS = 8.0

Check = Callable[[dict[str, Any]], str]
"""What is wrong with the body of a 2xx reply; empty where it can be used."""


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


@dataclass(frozen=True)
class _Request:
    content: bytes
    headers: dict[str, str]
    rollout_id: str
    call_id: str
    check: Check | None


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
        self._slots = Slots(max_concurrency)
        self._pace = Pace(max_requests_per_second)
        self._breaker = Breaker(breaker_failures, breaker_seconds)
        self._breaker_changed = asyncio.Event()
        self._failed_last: _Request | None = None
        self._tally = Tally()
        self._sleep = sleep
        self._rng = rng or random.Random()
        self._idle: list[Line] = []
        self._late: set[asyncio.Task[Any]] = set()
        self._network = VettedNetwork(allow_private=allow_private, resolve=resolve)
        self._tls = tls_context() if parsed.scheme == "https" and transport is None else None
        # A proxy of the environment must not catch calls to this machine.
        self._proxy = None if is_local(parsed.host) else environment_proxy(parsed)
        self._stand_in = None if transport is None else Relay(parsed, transport)

    def __repr__(self) -> str:
        return f"Endpoint({self.name!r}, {self.shown_url!r})"

    @property
    def health(self) -> Health:
        return self._breaker.health

    @property
    def stats(self) -> EndpointStats:
        return self._tally.snapshot(
            breaker_opened=self._breaker.times_opened,
            concurrency=self._slots.limit,
            in_flight=self._slots.in_use,
            waiting=self._slots.waiting,
        )

    async def aclose(self) -> None:
        for exchange in self._late:
            exchange.cancel()
        if self._late:
            await asyncio.wait(self._late)
        while self._idle:
            await self._idle.pop().aclose()
        if self._stand_in is not None:
            await self._stand_in.aclose()

    async def post(
        self, payload: Mapping[str, Any], *, rollout_id: str, action: str = "", check: Check | None = None
    ) -> Reply:
        """POST the payload as JSON. Every attempt sends the same bytes under the same ids.

        Args:
            action: what it is within the rollout, the payload's `call_id` if left out. With the rollout's id it is the
                `Idempotency-Key`: a server that keeps first answers runs nothing twice.
            check: says what is wrong with a 2xx body; such a reply counts as malformed and is tried again.

        Raises:
            EndpointFailure: no answer after all retries or in all the time, a redirect, or a payload that cannot be
                sent.
        """
        started = time.monotonic()
        ends = started + self._total_timeout_seconds
        request: _Request | None = None
        attempts = used = 0
        queue_seconds = 0.0
        fault: Fault | None = None
        try:
            async with asyncio.timeout(self._total_timeout_seconds):
                while True:
                    queued = time.monotonic()
                    try:
                        permit, waited_for = await self._admission(self._retries + 1 - used)
                    finally:
                        queue_seconds += time.monotonic() - queued
                    try:
                        # Not before its turn: what waits in the queue is small.
                        request = request or self._request(payload, rollout_id, action, check)
                    except BaseException:
                        self._leave(permit)
                        raise
                    attempts, used = attempts + 1, used + 1 + waited_for
                    try:
                        status, body, text = await self._try(request, permit, ends - time.monotonic())
                    except Fault as failed:
                        fault = failed
                        if fault.is_final or used > self._retries:
                            raise
                        pause = self._pause(attempts, fault.retry_after_seconds)
                    else:
                        seconds = time.monotonic() - started
                        return Reply(status, body, text, seconds, attempts, queue_seconds)
                    await self._sleep(pause)
        except Fault as last:
            self._tally.failed_calls += 1
            self._fail(last, attempts)
        except TimeoutError:
            self._tally.failed_calls += 1
            self._fail(self._out_of_time(fault, queue_seconds), attempts)
        finally:
            self._tally.calls += 1
            self._tally.retries += max(0, attempts - 1)
            self._tally.queue_seconds.append(queue_seconds)
            self._tally.call_seconds.append(time.monotonic() - started - queue_seconds)

    async def wait_until_healthy(self) -> None:
        """Return when the endpoint answers; at once while its breaker is closed. Give up by cancelling it.

        What is sent to find out is the call that failed last, once more: the same bytes under the same ids. It goes
        when the breaker lets a probe through, unless another call is the probe.
        """
        while not self.health.is_healthy:
            if (seconds := self._breaker.seconds_left()) > 0:
                await self._change(seconds)
                continue
            permit, _ = await self._admission(1)
            request = self._failed_last
            if request is None or permit == 0:
                self._leave(permit)
                continue
            with suppress(Fault):
                await self._try(request, permit, self._timeout_seconds)

    async def _admission(self, tries_left: int) -> tuple[int, int]:
        """Wait until a request may be sent: the breaker's permit, and how many probes failed meanwhile.

        The caller then owns a slot, which `_try` or `_leave` gives back.
        """
        failed_before = self._breaker.failed_probes
        while True:
            while (seconds := self._breaker.seconds_left()) > 0:
                await self._change(seconds)
                if self._breaker.failed_probes - failed_before >= tries_left:
                    raise self._given_up()
            await self._slots.acquire()
            try:
                await self._pace.wait()
                permit = self._breaker.admit()
            except BaseException:
                self._slots.release()
                raise
            if permit is not None:
                return permit, self._breaker.failed_probes - failed_before
            self._slots.release()

    def _given_up(self) -> Fault:
        found = f"not called: it failed again and again since {self.health.since:%H:%M:%S} UTC, last with: "
        return self._counted(Fault("breaker", found + self.health.error, is_final=True))

    async def _change(self, seconds: float) -> None:
        """Wait for a change of the breaker's state, at most that long."""
        changed = self._breaker_changed
        with suppress(TimeoutError):
            await asyncio.wait_for(changed.wait(), None if seconds == float("inf") else seconds)

    def _leave(self, permit: int) -> None:
        """Nothing came of an admission."""
        self._tell(lambda breaker: breaker.withdrawn(permit))
        self._slots.release()

    def _tell(self, news: Callable[[Breaker], None]) -> None:
        """Change the breaker and wake who waits for it."""
        before = self._breaker.health
        news(self._breaker)
        if (now := self._breaker.health).state == before.state:
            return
        if now.is_healthy:
            self._slots.restart()
            logger.warning("%s at %s: answers again", self.name, self.shown_url)
        elif before.is_healthy:
            logger.warning("%s at %s: fails again and again; calls wait. %s", self.name, self.shown_url, now.error)
        changed, self._breaker_changed = self._breaker_changed, asyncio.Event()
        changed.set()

    async def _try(self, request: _Request, permit: int, seconds_left: float) -> tuple[int, dict[str, Any] | None, str]:
        """One attempt, and what it says about the endpoint. Gives the slot back."""
        try:
            received = await self._attempt(request, min(self._timeout_seconds, seconds_left))
            status, body, text = self._judge(request, received)
        except Fault as fault:
            self._slots.outcome(fault.outcome)
            self._failed(request, permit, self._counted(fault))
            raise
        except BaseException:
            self._tell(lambda breaker: breaker.withdrawn(permit))
            raise
        finally:
            self._slots.release()
        self._slots.outcome("fine")
        if status in INFRASTRUCTURE_STATUSES:
            self._failed(
                request, permit, self._counted(Fault("status", f"answered {status}{excerpt(text)}", status=status))
            )
        elif not self._breaker.is_untroubled:
            self._tell(Breaker.answered)
        return status, body, text

    def _failed(self, request: _Request, permit: int, fault: Fault) -> None:
        if fault.outcome == "busy" and self._slots.limit > 1 and not permit:
            return  # fewer calls at once may be all that it needs
        self._failed_last = request
        self._tell(lambda breaker: breaker.failed(permit, self._redact(fault.found)))

    def _counted(self, fault: Fault) -> Fault:
        self._tally.failures[fault.label] += 1
        return fault

    def _request(self, payload: Mapping[str, Any], rollout_id: str, action: str, check: Check | None) -> _Request:
        try:
            text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except (TypeError, ValueError, RecursionError) as error:
            raise Fault("protocol", f"the request is no JSON ({error})", is_final=True) from error
        content = text.encode("utf-8", "replace")  # a policy may write half a surrogate pair
        if len(content) > MAX_BYTES:
            found = f"the request has {len(content):,} bytes, at most {MAX_BYTES:,} are allowed"
            found += ": shorten the item, or leave keys out of item_fields"
            raise Fault("protocol", found, is_final=True)
        call_id = str(payload.get("call_id", ""))
        headers = {"X-Rollout-Id": rollout_id}
        if action or call_id:
            headers["Idempotency-Key"] = quote(f"{rollout_id}/{action or call_id}")
        return _Request(content, headers, rollout_id, call_id, check)

    @asynccontextmanager
    async def _line(self) -> AsyncIterator[Line]:
        """A connection of its own for each request, the one used last if any is idle."""
        line = self._stand_in or (self._idle.pop() if self._idle else self._new_line())
        try:
            yield line
        except BaseException:
            await line.aclose()  # nobody knows what will still come over it
            raise
        if line is not self._stand_in:
            self._idle.append(line)

    def _new_line(self) -> Line:
        if self._proxy is not None:
            return Relay.proxy(self._url, self._proxy, self._tls)
        return Connection(self._url, self._network, self._tls)

    async def _attempt(self, request: _Request, seconds: float) -> Received:
        exchange = asyncio.ensure_future(self._exchange(request))
        try:
            await asyncio.wait((exchange,), timeout=seconds)
        except asyncio.CancelledError:
            exchange.cancel()
            await asyncio.wait((exchange,))
            raise
        if exchange.done():
            return exchange.result()
        self._listen_on(exchange)
        raise Fault("timeout", f"no complete answer within {seconds:g} s")

    def _listen_on(self, exchange: asyncio.Task[Any]) -> None:
        """Wait for the late reply to an attempt that timed out, as long again, only to count it."""
        if len(self._late) >= self._slots.limit:
            exchange.cancel()

        def ended(_: object) -> None:
            timer.cancel()
            self._late.discard(exchange)
            if not exchange.cancelled() and exchange.exception() is None:
                self._tally.late_replies += 1

        self._late.add(exchange)
        timer = asyncio.get_running_loop().call_later(self._timeout_seconds, exchange.cancel)
        exchange.add_done_callback(ended)

    async def _exchange(self, request: _Request) -> Received:
        headers = self._headers.copy()
        headers.update(request.headers)
        try:
            async with self._line() as line:
                received = await line.exchange(request.content, headers)
        except (httpx.TimeoutException, httpcore.TimeoutException) as error:
            raise Fault("timeout", f"no complete answer within {self._timeout_seconds:g} s ({error})") from error
        except (httpx.TransportError, httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise connection_fault(error) from error
        except ValueError as error:
            raise Fault("protocol", str(error)) from error
        self._tally.stray_replies += received.has_stray
        return received

    def _judge(self, request: _Request, received: Received) -> tuple[int, dict[str, Any] | None, str]:
        status = received.status
        text = self._redact(received.raw.decode("utf-8", "replace"))
        if status == 429 or status >= 500:
            wait = retry_after_seconds(received.retry_after)
            if wait is not None and wait > MAX_RETRY_AFTER_SECONDS:
                logger.warning("%r asks for %g s, waiting %g s", self, wait, MAX_RETRY_AFTER_SECONDS)
            raise Fault("status", f"answered {status}{excerpt(text)}", status=status, retry_after_seconds=wait)
        if not (200 <= status < 300 or 400 <= status < 500):
            found = f"answered {status}; redirects are not followed, configure the final address"
            raise Fault("protocol", found, status=status, is_final=True)
        if received.is_cut:
            message = f"the reply is over {MAX_BYTES:,} bytes"
            return 413, {"error": {"message": message}}, message
        try:
            if 200 <= status < 300:
                received.raw.decode("utf-8")  # nothing is replaced in what a policy reads or a score is taken from
            body = strict_json(text)
            if not isinstance(body, dict):
                raise ValueError(f"a JSON {type(body).__name__}, where an object is expected")
            if "\\" in text:  # a secret may stand there with escapes: PHP writes a/b as a\/b
                body = strike_out(body, self._secrets)
        except ValueError as error:
            if status >= 400:
                return status, None, text
            found = f"answered {status} with a body that is no JSON object ({error}){excerpt(text)}"
            raise Fault("protocol", found, status=status) from error
        if found := _stranger(request, body):
            raise Fault("protocol", found, status=status)
        if status < 300 and request.check and (found := request.check(body)):
            raise Fault("protocol", found, status=status)
        return status, body, text

    def _pause(self, attempts: int, retry_after_seconds: float | None) -> float:
        """Seconds until the next attempt: exponential with jitter, or what the server asked for, up to a cap."""
        backoff = min(FIRST_BACKOFF_SECONDS * 2.0 ** (attempts - 1), MAX_BACKOFF_SECONDS)
        backoff *= self._rng.uniform(0.5, 1.0)
        return max(backoff, min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS))

    def _redact(self, text: str) -> str:
        return str(strike_out(text, self._secrets))

    def _out_of_time(self, last: Fault | None, queue_seconds: float) -> Fault:
        found = f"no answer within {self._total_timeout_seconds:g} s, {queue_seconds:.1f} s of them in the queue"
        if not self.health.is_healthy:
            return self._counted(Fault("breaker", f"{found}; it failed last with: {self.health.error}"))
        if last is None:
            return self._counted(Fault("timeout", found))
        return Fault(last.kind, f"{found}; it failed last with: {last.found}", status=last.status)

    def _fail(self, fault: Fault, attempts: int) -> NoReturn:
        tried = f" ({attempts} attempts)" if attempts > 1 else ""
        hint = advice(fault.kind, fault.status)
        message = self._redact(f"{self.name} at {self.shown_url}: {fault.found}{tried}{hint}")
        raise EndpointFailure(message, kind=fault.kind, status=fault.status, attempts=attempts) from fault.__cause__


def _stranger(request: _Request, body: dict[str, Any]) -> str:
    """How a reply shows that it belongs to another call or rollout; empty where it does not."""
    if request.call_id and (answered := body.get("call_id", request.call_id)) != request.call_id:
        return (
            f"call {request.call_id} was answered with call_id {answered!r:.80}; a reply repeats the call's own call_id"
        )
    # Only ids of our form: a server's own tracing may use the same word.
    trace = body.get("trace_id")
    if isinstance(trace, str) and trace.startswith("trace_") and trace != request.rollout_id:
        return f"rollout {request.rollout_id} was answered with trace_id {trace!r:.80}"
    return ""
