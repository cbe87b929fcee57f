"""The circuit breaker: its rules over random histories, and how calls behave while it is open."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.endpoint import Endpoint, EndpointFailure
from agentrl.endpoint.breaker import MAX_PAUSE_SECONDS, Breaker

FAILURES, PAUSE = 3, 1.0
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.just(0)),
        st.tuples(st.just("wait"), st.floats(0.0, 40.0)),
        st.tuples(st.sampled_from(["answer", "fail", "withdraw"]), st.integers(0, 50)),  # which call under way
    ),
    max_size=80,
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(EVENTS)
def test_whatever_happens_the_breaker_keeps_its_rules(events: list[tuple[str, float]]) -> None:
    clock = Clock()
    breaker = Breaker(FAILURES, PAUSE, clock=clock)
    under_way: list[int] = []
    streak, opened_at, pause = 0, 0.0, PAUSE
    for event, value in events:
        before = breaker.state
        if event == "wait":
            clock.now += value
        elif event == "send":
            permit = breaker.admit()
            if before == "closed":
                assert permit == 0
            elif before == "half_open":
                assert permit is None  # one probe at a time
            else:
                assert (permit is not None) == (clock.now >= opened_at + pause)
            if permit is not None:
                under_way.append(permit)
        elif under_way:
            permit = under_way.pop(int(value) % len(under_way))
            is_probe = before == "half_open" and permit == breaker._probe
            if event == "answer":
                breaker.answered()
                assert breaker.state == "closed"
                assert not breaker.health.error
                streak, pause = 0, PAUSE
            elif event == "withdraw":
                breaker.withdrawn(permit)
                assert breaker.state == ("open" if is_probe else before)
                if is_probe:
                    opened_at, pause = clock.now - pause, pause
            else:
                breaker.failed(permit, "down")
                assert breaker.health.error == "down"
                if before == "closed":
                    streak += 1
                    assert (breaker.state == "open") == (streak >= FAILURES)
                    opened_at = clock.now
                elif is_probe:
                    assert breaker.state == "open"
                    opened_at, pause = clock.now, min(2 * pause, MAX_PAUSE_SECONDS)
                else:
                    assert breaker.state == before  # calls from before it opened change nothing
        assert breaker.seconds_left() >= 0
        assert breaker.health.is_healthy == (breaker.state == "closed")


@given(st.lists(st.booleans(), max_size=60))
def test_it_opens_after_exactly_so_many_failures_in_a_row(answers: list[bool]) -> None:
    breaker = Breaker(FAILURES, PAUSE, clock=Clock())
    streak = 0
    for is_answered in answers:
        if breaker.admit() is None:
            break
        streak = 0 if is_answered else streak + 1
        if is_answered:
            breaker.answered()
        else:
            breaker.failed(0, "down")
        assert (breaker.state == "open") == (streak == FAILURES)


class Server:
    """Down until it is told otherwise."""

    def __init__(self, down: httpx.Response | Exception | None) -> None:
        self.down = down
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.down, Exception):
            raise self.down
        if self.down is not None:
            return httpx.Response(self.down.status_code, content=self.down.content)
        return httpx.Response(200, json={"output": "fine"})

    def endpoint(self, **options: Any) -> Endpoint:
        async def no_pause(_: float) -> None:
            await asyncio.sleep(0)

        settings: dict[str, Any] = {"timeout_seconds": 5, "retries": 3, "max_concurrency": 8, "breaker_failures": 5}
        transport = httpx.MockTransport(self)
        settings |= {"breaker_seconds": 0.01} | options
        return Endpoint("tool search", "http://localhost/", {}, transport=transport, sleep=no_pause, **settings)


def post(endpoint: Endpoint, index: int = 0) -> Any:
    return endpoint.post({"call_id": f"call_{index}"}, rollout_id=f"trace_{index}")


async def crowd(endpoint: Endpoint, calls: int) -> list[Any]:
    return await asyncio.gather(*(post(endpoint, index) for index in range(calls)), return_exceptions=True)


DOWN = [httpx.Response(503), httpx.Response(401), httpx.ConnectError("refused"), httpx.Response(200, text="<html>")]


@pytest.mark.parametrize("down", DOWN, ids=["503", "401", "refused", "html"])
def test_an_open_breaker_sends_probes_only_and_names_the_cause(down: httpx.Response | Exception) -> None:
    async def run() -> None:
        server = Server(down)
        endpoint = server.endpoint(max_concurrency=2)
        results = await crowd(endpoint, 100)
        failed = [result for result in results if isinstance(result, EndpointFailure)]
        assert len(failed) >= 90  # a 401 is an answer for the calls that were sent
        assert {failure.kind for failure in failed} >= {"breaker"}
        unsent = next(failure for failure in failed if failure.kind == "breaker")
        assert "not called: it failed again and again" in str(unsent)
        assert endpoint.health.error
        assert endpoint.health.error in str(unsent)
        assert len(server.requests) < 30  # of 400 attempts
        assert endpoint.stats.breaker_opened == 1
        assert endpoint.stats.failures["breaker"] == sum(failure.kind == "breaker" for failure in failed)
        await endpoint.aclose()

    asyncio.run(run())


def test_no_call_is_lost_in_a_short_outage() -> None:
    async def run() -> None:
        server = Server(httpx.Response(503))
        endpoint = server.endpoint(breaker_seconds=0.02)
        calls = asyncio.ensure_future(crowd(endpoint, 200))
        while endpoint.health.is_healthy:
            await asyncio.sleep(0)
        assert endpoint.health.state == "open"
        server.down = None
        assert [reply.status for reply in await calls] == [200] * 200
        assert endpoint.health.is_healthy
        assert endpoint.health.error == ""
        await endpoint.aclose()

    asyncio.run(run())


def trip(endpoint: Endpoint) -> Callable[[], Any]:
    async def fail() -> None:
        while endpoint.health.is_healthy:
            with pytest.raises(EndpointFailure):
                await post(endpoint, 7)

    return fail


def test_wait_until_healthy_repeats_the_last_failed_call_until_it_is_answered() -> None:
    async def run() -> None:
        server = Server(httpx.ConnectError("refused"))
        endpoint = server.endpoint(retries=0)
        await trip(endpoint)()
        waiters = [asyncio.ensure_future(endpoint.wait_until_healthy()) for _ in range(5)]
        sent = len(server.requests)
        while len(server.requests) < sent + 2:
            await asyncio.sleep(0.001)
        assert not any(waiter.done() for waiter in waiters)
        server.down = None
        await asyncio.wait_for(asyncio.gather(*waiters), 5)
        assert endpoint.health.is_healthy
        assert len({(each.content, each.headers["Idempotency-Key"]) for each in server.requests}) == 1
        assert server.requests[-1].headers["X-Rollout-Id"] == "trace_7"
        await endpoint.wait_until_healthy()  # at once
        assert endpoint.stats.in_flight == 0
        await endpoint.aclose()

    asyncio.run(run())


def test_a_cancelled_probe_gives_way_to_the_next() -> None:
    async def run() -> None:
        server = Server(httpx.ConnectError("refused"))
        endpoint = server.endpoint(retries=0)
        await trip(endpoint)()
        stopped = asyncio.ensure_future(endpoint.wait_until_healthy())
        await asyncio.sleep(0)
        stopped.cancel()
        await asyncio.wait([stopped])
        server.down = None
        await asyncio.wait_for(endpoint.wait_until_healthy(), 5)
        assert endpoint.stats.in_flight == 0
        await endpoint.aclose()

    asyncio.run(run())


def test_a_call_that_waits_for_a_dead_endpoint_ends_at_its_total_deadline() -> None:
    async def run() -> None:
        server = Server(httpx.Response(503))
        endpoint = server.endpoint(retries=0, breaker_seconds=60, total_timeout_seconds=0.1, timeout_seconds=0.1)
        await trip(endpoint)()
        with pytest.raises(EndpointFailure, match=r"no answer within 0\.1 s.*answered 503") as caught:
            await post(endpoint)
        assert (caught.value.kind, caught.value.attempts) == ("breaker", 0)
        await endpoint.aclose()

    asyncio.run(run())


@pytest.mark.parametrize(("down", "answers"), [(503, True), (404, False)])
def test_a_404_to_the_repeated_call_is_an_answer_unless_404s_were_the_trouble(down: int, answers: bool) -> None:
    """A server may have forgotten the rollout whose call is repeated."""

    async def run() -> None:
        server = Server(httpx.Response(down))
        endpoint = server.endpoint(retries=0, breaker_failures=1, max_concurrency=1)
        with suppress(EndpointFailure):
            await post(endpoint)
        assert endpoint.health.state == "open"
        server.down = httpx.Response(404)
        healed = asyncio.ensure_future(endpoint.wait_until_healthy())
        await asyncio.wait([healed], timeout=5 if answers else 0.1)
        assert healed.done() == answers
        healed.cancel()
        await asyncio.wait([healed])
        await endpoint.aclose()

    asyncio.run(run())


def test_what_must_not_be_repeated_is_not() -> None:
    """A sandbox that is opened for a rollout that was given up would never be closed."""

    async def run() -> None:
        heads = 0

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal heads
            with suppress(asyncio.IncompleteReadError):
                await reader.readuntil(b"\r\n\r\n")
                heads += 1
            writer.close()

        port = free_port()
        settings: dict[str, Any] = {"timeout_seconds": 5, "retries": 0, "max_concurrency": 1, "breaker_failures": 1}
        endpoint = Endpoint("sandbox open", f"http://127.0.0.1:{port}/", {}, breaker_seconds=0.01, **settings)
        with pytest.raises(EndpointFailure, match="refused"):
            await endpoint.post({}, rollout_id="trace_1", action="open", is_repeatable=False)
        healed = asyncio.ensure_future(endpoint.wait_until_healthy())
        await asyncio.sleep(0.1)
        assert not healed.done()
        server = await asyncio.start_server(serve, "127.0.0.1", port)
        await asyncio.wait_for(healed, 5)
        assert (heads, endpoint.stats.in_flight) == (0, 0)
        assert endpoint.health.state == "open"  # the next call is the probe
        await endpoint.aclose()
        server.close()

    asyncio.run(run())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
