"""Endpoint over httpx.MockTransport: what is tried again, what is refused, what is never shown."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
import random
import ssl
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentrl.endpoint import MAX_BYTES, Endpoint, EndpointFailure, Reply
from agentrl.errors import ConfigError

Handler = Callable[[httpx.Request], httpx.Response]


class Calls:
    """A server made of answers: the n-th request gets the n-th, the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception | Handler) -> None:
        self.answers = answers
        self.requests: list[httpx.Request] = []
        self.pauses: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        # A response is read once, so each request gets its own.
        return (
            answer(request)
            if callable(answer)
            else httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)
        )

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def endpoint(
        self, url: str = "http://127.0.0.1:1/call", headers: dict[str, str] | None = None, **options: Any
    ) -> Endpoint:
        settings: dict[str, Any] = {"timeout_seconds": 5, "retries": 3, "max_concurrency": 8} | options
        transport = httpx.MockTransport(self)
        return Endpoint("tool search", url, headers or {}, transport=transport, sleep=self.sleep, **settings)

    def post(self, payload: dict[str, Any] | None = None, **options: Any) -> Reply:
        async def call() -> Reply:
            endpoint = self.endpoint(**options)
            try:
                return await endpoint.post(payload or {"trace_id": "trace_1"}, rollout_id="trace_1")
            finally:
                await endpoint.aclose()

        return asyncio.run(call())

    def failure(self, **options: Any) -> EndpointFailure:
        with pytest.raises(EndpointFailure) as caught:
            self.post(**options)
        return caught.value


OK = httpx.Response(200, json={"output": "fine"})


def test_a_500_is_tried_again_with_the_same_bytes() -> None:
    calls = Calls(httpx.Response(500), OK)
    reply = calls.post({"call_id": "call_7", "trace_id": "trace_1"})
    assert (reply.status, reply.json, reply.attempts) == (200, {"output": "fine"}, 2)
    first, second = calls.requests
    assert first.content == second.content
    assert first.headers["X-Rollout-Id"] == second.headers["X-Rollout-Id"] == "trace_1"


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (httpx.Response(503, text="overloaded"), "status", 503),
        (httpx.Response(429), "status", 429),
        (httpx.ReadTimeout("slow"), "timeout", None),
        (httpx.ConnectError("refused"), "connect", None),
        (httpx.RemoteProtocolError("disconnected"), "connect", None),
        (httpx.Response(200, text="<html>"), "protocol", 200),
        (httpx.Response(200), "protocol", 200),
        (httpx.Response(200, text='{"output": "tru'), "protocol", 200),
        (httpx.Response(200, json=["output"]), "protocol", 200),
        (httpx.Response(200, text='{"score": NaN}'), "protocol", 200),
        (httpx.Response(200, text='{"score": 1e999}'), "protocol", 200),
        (httpx.Response(200, text='{"score": 0, "score": 1}'), "protocol", 200),
        (httpx.Response(200, content=b'{"output": "\xff"}'), "protocol", 200),
        (httpx.Response(200, content=b'\xef\xbb\xbf{"output": ""}'), "protocol", 200),
        (httpx.Response(200, text="[" * 100_000), "protocol", 200),
    ],
)
def test_after_all_retries_the_failure_names_endpoint_and_attempts(
    answer: httpx.Response | Exception, kind: str, status: int | None
) -> None:
    calls = Calls(answer)
    failure = calls.failure(retries=2)
    assert (failure.kind, failure.status, failure.attempts) == (kind, status, 3)
    assert len(calls.requests) == 3
    assert str(failure).startswith("tool search at http://127.0.0.1:1/call: ")
    assert "(3 attempts)" in str(failure)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422])
def test_a_4xx_is_an_answer_and_not_tried_again(status: int) -> None:
    calls = Calls(httpx.Response(status, json={"error": "no such column"}))
    reply = calls.post()
    assert (reply.status, reply.json, reply.attempts) == (status, {"error": "no such column"}, 1)
    assert Calls(httpx.Response(status, text="plain")).post().text == "plain"


def test_a_redirect_is_refused_and_not_followed() -> None:
    calls = Calls(httpx.Response(307, headers={"Location": "http://10.0.0.1/"}))
    failure = calls.failure()
    assert (failure.kind, failure.status, len(calls.requests)) == ("protocol", 307, 1)


def test_a_tls_error_is_not_tried_again() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("bad certificate") from ssl.SSLCertVerificationError("expired")

    calls = Calls(refuse)
    assert "TLS" in str(calls.failure(url="https://127.0.0.1/call"))
    assert len(calls.requests) == 1


def test_pauses_double_with_jitter_and_repeat_with_the_seed() -> None:
    calls, again = Calls(httpx.Response(500)), Calls(httpx.Response(500))
    calls.failure(retries=8, rng=random.Random(1))
    again.failure(retries=8, rng=random.Random(1))
    assert calls.pauses == again.pauses
    assert all(
        0.5 * full <= pause <= full for pause, full in zip(calls.pauses, [0.25, 0.5, 1, 2, 4, 8, 8, 8], strict=True)
    )


@pytest.mark.parametrize(
    ("header", "at_least", "at_most"),
    [
        ("3", 3.0, 3.0),
        ("1e9", 10.0, 10.0),
        ("-5", 0.0, 0.25),
        ("soon", 0.0, 0.25),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 10.0, 10.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0, 0.25),
    ],
)
def test_retry_after_is_honoured_up_to_a_cap(header: str, at_least: float, at_most: float) -> None:
    calls = Calls(httpx.Response(429, headers={"Retry-After": header}), OK)
    assert calls.post().attempts == 2
    assert at_least <= calls.pauses[0] <= at_most


def test_what_one_call_is_asked_to_wait_the_others_wait_too() -> None:
    arrivals: list[float] = []

    def busy_once(_: httpx.Request) -> httpx.Response:
        arrivals.append(time.monotonic())
        return (
            httpx.Response(429, headers={"Retry-After": "0.3"}) if len(arrivals) == 1 else httpx.Response(200, json={})
        )

    async def run() -> None:
        options: dict[str, Any] = {"timeout_seconds": 5, "retries": 3, "max_concurrency": 8}
        endpoint = Endpoint("e", "http://localhost/", {}, transport=httpx.MockTransport(busy_once), **options)
        first = asyncio.ensure_future(endpoint.post({}, rollout_id="trace_1"))
        while not arrivals:
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        await asyncio.gather(first, *(endpoint.post({}, rollout_id=f"trace_{i}") for i in range(2, 6)))
        await endpoint.aclose()

    asyncio.run(run())
    assert len(arrivals) == 6
    assert arrivals[1] - arrivals[0] >= 0.29


def test_requests_leave_no_faster_than_the_rate() -> None:
    arrivals: list[float] = []

    def answer(_: httpx.Request) -> httpx.Response:
        arrivals.append(time.monotonic())
        return httpx.Response(200, json={})

    async def run() -> None:
        options: dict[str, Any] = {"timeout_seconds": 5, "retries": 0, "max_concurrency": 64}
        transport = httpx.MockTransport(answer)
        endpoint = Endpoint("e", "http://localhost/", {}, transport=transport, max_requests_per_second=50, **options)
        await asyncio.gather(*(endpoint.post({}, rollout_id=f"trace_{i}") for i in range(11)))
        assert endpoint.stats.queue_p99_seconds >= 0.19
        await endpoint.aclose()

    asyncio.run(run())
    assert arrivals[-1] - arrivals[0] >= 0.19  # ten gaps of 20 ms


def test_a_reply_over_one_megabyte_reads_as_413() -> None:
    reply = Calls(httpx.Response(200, json={"output": "x" * MAX_BYTES})).post()
    assert reply.status == 413
    assert reply.json == {"error": {"message": "the reply is over 1,048,576 bytes"}}


def compressed(content: bytes, encoding: str = "gzip") -> Calls:
    """As a stream, since httpx.Response would decode content that it is given whole."""
    stream = httpx.ByteStream(content)
    return Calls(lambda _: httpx.Response(200, headers={"Content-Encoding": encoding}, stream=stream))


def test_a_compressed_bomb_is_unpacked_as_far_as_the_limit() -> None:
    bomb = gzip.compress(json.dumps({"output": "x" * 50_000_000}).encode())
    assert compressed(bomb).post().status == 413


def test_gzip_is_read_though_nobody_asked_for_it() -> None:
    packed = gzip.compress(b'{"output": "fine"}')
    assert compressed(packed).post().json == {"output": "fine"}
    assert "not complete" in str(compressed(packed[:-4]).failure(retries=0))
    assert "is no gzip" in str(compressed(b"{}").failure(retries=0))
    assert "compressed (br)" in str(compressed(packed, "br").failure(retries=0))


def test_a_request_that_cannot_be_sent_is_not_sent() -> None:
    calls = Calls(OK)
    for payload, found in [
        ({"item": "x" * MAX_BYTES}, "bytes"),
        ({"item": float("nan")}, "no JSON"),
        ({"item": {1, 2}}, "no JSON"),
    ]:
        assert found in str(calls.failure(payload=payload))
    assert calls.requests == []


def test_cookies_do_not_travel_from_one_rollout_to_the_next() -> None:
    calls = Calls(httpx.Response(200, json={}, headers={"Set-Cookie": "session=1"}))

    async def both() -> None:
        endpoint = calls.endpoint()
        await endpoint.post({}, rollout_id="trace_1")
        await endpoint.post({}, rollout_id="trace_2")
        await endpoint.aclose()

    asyncio.run(both())
    assert "Cookie" not in calls.requests[1].headers  # on the same connection


def test_no_more_than_max_concurrency_calls_are_in_flight() -> None:
    running, most = 0, 0

    async def handle(_: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running, most = running + 1, max(most, running + 1)
        await asyncio.sleep(0.001)
        running -= 1
        return httpx.Response(200, json={})

    async def crowd() -> None:
        options: dict[str, Any] = {"timeout_seconds": 5, "retries": 0, "max_concurrency": 4}
        endpoint = Endpoint("e", "http://localhost/", {}, transport=httpx.MockTransport(handle), **options)
        await asyncio.gather(*(endpoint.post({}, rollout_id=f"trace_{i}") for i in range(40)))
        await endpoint.aclose()

    asyncio.run(crowd())
    assert most == 4


def test_header_values_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOL_TOKEN", "planted-canary")
    calls = Calls(OK)
    calls.post(headers={"authorization": "Bearer ${TOOL_TOKEN}", "content-type": "application/json; v=1"})
    assert calls.requests[0].headers["Authorization"] == "Bearer planted-canary"
    assert calls.requests[0].headers.get_list("Content-Type") == ["application/json; v=1"]


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_variable_is_a_config_error_that_names_it(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("TOOL_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("TOOL_TOKEN", value)
    with pytest.raises(ConfigError, match=r"tool search: header 'Authorization'.*TOOL_TOKEN"):
        Calls().endpoint(headers={"Authorization": "Bearer ${TOOL_TOKEN}"})


def test_secrets_show_nowhere(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    monkeypatch.setenv("TOOL_TOKEN", "planted-canary")
    headers = {"Authorization": "Bearer ${TOOL_TOKEN}", "X-Functions-Key": "literal-canary"}
    echo = Calls(
        lambda request: httpx.Response(
            500, text=f"bad {request.headers['Authorization']} {request.headers['X-Functions-Key']}"
        )
    )
    url = "http://127.0.0.1:1/call?code=query-canary"
    endpoint = echo.endpoint(url=url, headers=headers)
    shown = [repr(endpoint), str(echo.failure(url=url, headers=headers)), caplog.text]
    answered = Calls(lambda request: httpx.Response(400, text=request.headers["Authorization"]))
    shown.append(answered.post(headers=headers).text)
    assert "canary" not in " ".join(shown)
    assert "[secret]" in shown[1]

    monkeypatch.setenv("TOOL_TOKEN", "planted-canary\n")
    with pytest.raises(ConfigError, match="line break") as caught:
        echo.endpoint(headers=headers)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "search", "http://", "http://[::1", "http://user:planted-canary@localhost/", "file:///etc/passwd"],
)
def test_an_unusable_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"tool search: found a us?[er]") as caught:
        Calls().endpoint(url=url)
    assert "canary" not in str(caught.value)


def test_plain_http_is_for_private_networks(caplog: pytest.LogCaptureFixture) -> None:
    for host in ("127.0.0.1", "localhost", "[::1]", "10.1.2.3", "192.168.0.9", "tools", "grader.internal"):
        Calls().endpoint(url=f"http://{host}:8000/", headers={"Authorization": "Bearer abcdef"}, allow_private=True)
    assert caplog.text == ""
    Calls().endpoint(url="http://example.com/")
    assert "neither encrypted" in caplog.text
    Calls().endpoint(url="https://example.com/", headers={"Authorization": "Bearer abcdef"})
    with pytest.raises(ConfigError, match="clear text"):
        Calls().endpoint(url="http://example.com/", headers={"Authorization": "Bearer abcdef"})


def test_a_reply_too_deep_to_be_looked_through_is_malformed() -> None:
    deep = "[" * 700 + "]" * 700
    body = f'{{"output": "a\\/b", "more": {deep}}}'.encode()  # the escape has secrets looked for in every value
    assert "no JSON object" in str(Calls(httpx.Response(200, content=body)).failure())
    assert Calls(httpx.Response(404, content=body)).post().json is None
