"""Broken endpoints are all found before training, each with its name, its address and what to check."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig, LifecycleConfig, ToolEndpointConfig
from agentrl.endpoint import endpoint
from agentrl.errors import ConfigError
from agentrl.tools import check_endpoints

Answer = Callable[[httpx.Request], httpx.Response]
GOOD: Answer = lambda _: httpx.Response(200, json={"output": "x", "score": 0.0})  # noqa: E731


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)


def check(
    answer: Answer,
    *,
    tools: tuple[str, ...] = ("search", "cat"),
    headers: dict[str, str] | None = None,
    lifecycle: LifecycleConfig | None = None,
) -> None:
    configs = [ToolEndpointConfig(name=name, server_url=f"{{serve}}/{name}", headers=headers or {}) for name in tools]
    grading = GradingConfig(name="finqa", url="{serve}/grade")
    transport = httpx.MockTransport(answer)
    options: dict[str, Any] = {"item": {"reference_answer": 1}, "messages": [{"role": "user", "content": "?"}]}
    options |= {"lifecycle": lifecycle, "transport": transport}
    asyncio.run(check_endpoints(configs, grading, base_url="http://localhost:1", **options))


def down(_: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused") from ConnectionRefusedError()


def status(code: int) -> Answer:
    return lambda _: httpx.Response(code, json={"error": "no"})


def scoring(score: Any) -> Answer:
    return lambda _: httpx.Response(200, json={"output": "", "score": score})


def test_good_endpoints_pass_and_see_one_rollout_with_a_real_item() -> None:
    bodies: dict[str, dict[str, Any]] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        bodies[request.url.path] = json.loads(request.content)
        return GOOD(request)

    check(answer)
    assert bodies.keys() == {"/search", "/cat", "/grade"}
    assert len({body["trace_id"] for body in bodies.values()}) == 1
    assert bodies["/search"]["arguments"] == "{}"
    assert bodies["/grade"]["item"] == {"reference_answer": 1, "messages": [{"role": "user", "content": "?"}]}
    assert bodies["/grade"]["sample"]["output_tools"] == []


def test_every_broken_endpoint_is_listed() -> None:
    answers = {"/search": down, "/cat": status(401), "/grade": status(404)}
    with pytest.raises(ConfigError) as caught:
        check(lambda request: answers[request.url.path](request))
    message = str(caught.value)
    assert message.startswith("3 of 3 endpoints cannot be used:\n")
    assert "- tool search at http://localhost:1/search: connection refused" in message
    assert "- tool cat at http://localhost:1/cat: answered 401" in message
    assert "check the endpoint's headers and the environment variables" in message
    assert "- grader finqa at http://localhost:1/grade: answered 404" in message


@pytest.mark.parametrize("code", [401, 403, 404, 429, 500, 503])
def test_a_status_that_would_discard_every_rollout_is_found(code: int) -> None:
    with pytest.raises(ConfigError, match=f"3 of 3(?s:.*)answered {code}"):
        check(status(code))


@pytest.mark.parametrize("code", [400, 409, 422])
def test_a_4xx_about_the_call_is_reachable(code: int) -> None:
    check(status(code))


def test_an_endpoint_that_times_out_is_found() -> None:
    def slow(_: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow")

    with pytest.raises(ConfigError, match="no complete answer within 30 s"):
        check(slow)


@pytest.mark.parametrize("score", [None, "high", True, [1], 2, -1, 10**400])
def test_a_grader_without_a_usable_score_is_found(score: Any) -> None:
    with pytest.raises(ConfigError, match=r"1 of 3 endpoints cannot be used:\n- grader finqa.*found score"):
        check(scoring(score))


def test_a_grader_that_answers_nan_is_found() -> None:
    with pytest.raises(ConfigError, match=r"grader finqa.*NaN"):
        check(lambda _: httpx.Response(200, text='{"output": "", "score": NaN}'))


def test_a_tool_without_output_is_found() -> None:
    with pytest.raises(ConfigError, match=r"2 of 3 endpoints(?s:.*)without `output`"):
        check(lambda _: httpx.Response(200, json={"score": 1}))


def test_a_missing_token_is_listed_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"2 of 3 endpoints(?s:.*)tool cat: header.*'NO_SUCH_TOKEN' is not set"):
        check(GOOD, headers={"Authorization": "Bearer ${NO_SUCH_TOKEN}"})


SANDBOX = LifecycleConfig(open_url="{serve}/open", close_url="{serve}/close")


def test_tools_are_tried_in_a_sandbox_that_is_closed_again() -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        is_open = "/open" in paths and "/close" not in paths
        paths.append(request.url.path)
        found = request.url.path in ("/open", "/close") or is_open
        return GOOD(request) if found else httpx.Response(410, json={})

    check(answer, lifecycle=SANDBOX)
    assert (paths[0], sorted(paths[1:-1]), paths[-1]) == ("/open", ["/cat", "/grade", "/search"], "/close")
    paths.clear()
    with pytest.raises(ConfigError, match=r"2 of 3 endpoints cannot be used:\n- tool search .* answered 410"):
        check(answer)


@pytest.mark.parametrize("path", ["/open", "/close"])
@pytest.mark.parametrize("code", [401, 410, 500])
def test_a_server_that_gives_no_sandbox_is_found_before_training(path: str, code: int) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return status(code)(request) if request.url.path == path else GOOD(request)

    with pytest.raises(ConfigError, match=f"sandbox {path[1:]}"):
        check(answer, lifecycle=SANDBOX)


def test_the_sandbox_is_closed_where_a_tool_is_broken() -> None:
    paths: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path)
        return status(401)(request) if request.url.path == "/cat" else GOOD(request)

    with pytest.raises(ConfigError, match="tool cat"):
        check(answer, lifecycle=SANDBOX)
    assert paths[-1] == "/close"
