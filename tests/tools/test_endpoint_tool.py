"""The wire format of a tool call, and whose fault each kind of failure is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from agentrl.config import ToolEndpointConfig
from agentrl.endpoint import MAX_BYTES, endpoint
from agentrl.errors import ConfigError, ToolError
from agentrl.tools import EndpointTool
from agentrl.types import ToolCall, ToolResult

CALL = ToolCall("call_7_0", "search", '{"query": "revenue 2014"}')
ITEM = {"path": "ETR/2016/page_23", "reference_answer": 950.9}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)


def call(
    answer: Callable[[httpx.Request], httpx.Response],
    made: ToolCall = CALL,
    *,
    max_output_chars: int = 8000,
    **fields: Any,
) -> ToolResult:
    async def run() -> ToolResult:
        config = ToolEndpointConfig(name="search", server_url="http://localhost/search", **({"retries": 2} | fields))
        transport = httpx.MockTransport(answer)
        tool = EndpointTool(config, max_output_chars=max_output_chars, transport=transport)
        try:
            return await tool.call(made, rollout_id="trace_1", item=ITEM)
        finally:
            await tool.aclose()

    return asyncio.run(run())


def sent(**fields: Any) -> dict[str, Any]:
    """The body of the request."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"output": ""})

    call(answer, **fields)
    body: dict[str, Any] = json.loads(requests[0].content)
    return body


def replying(content: Any, status: int = 200) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, text=json.dumps(content))


def test_a_call_has_the_wire_format_of_agent_rft() -> None:
    assert sent() == {
        "type": "function_call",
        "id": "fc_7_0",
        "call_id": "call_7_0",
        "name": "search",
        "arguments": '{"query": "revenue 2014"}',
        "item": ITEM,
        "trace_id": "trace_1",
    }


@pytest.mark.parametrize(
    ("item_fields", "item"), [("all", ITEM), ("none", {}), (["path", "missing"], {"path": "ETR/2016/page_23"})]
)
def test_the_item_holds_the_fields_that_the_config_allows(item_fields: Any, item: dict[str, Any]) -> None:
    assert sent(item_fields=item_fields)["item"] == item


@pytest.mark.parametrize(
    ("output", "shown"),
    [
        ("950.9", "950.9"),
        ("", ""),
        ([{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}], "a\nb"),
        ({"rows": [1, 2]}, '{"rows":[1,2]}'),
        ([1, "é"], '[1,"é"]'),
        (950.9, "950.9"),
        (None, "null"),
        ("\ud800", "?"),
    ],
)
def test_an_output_is_shown_as_text(output: Any, shown: str) -> None:
    result = call(replying({"type": "function_call_output", "call_id": "call_7_0", "output": output}))
    assert (result.output, result.is_error, result.attempts) == (shown, False, 1)
    assert (result.call_id, result.name) == ("call_7_0", "search")


def test_a_long_output_is_cut_with_a_marker() -> None:
    result = call(replying({"output": "x" * 500}), max_output_chars=100)
    assert (len(result.output), result.is_cut) == (100, True)
    assert result.output.endswith("x\n[output cut: it has 500 characters]")
    assert not call(replying({"output": "x" * 100}), max_output_chars=100).is_cut


@pytest.mark.parametrize("arguments", ["", "{", "[1]", '"text"', "null", '{"a": NaN}', "[" * 100_000])
def test_malformed_arguments_are_answered_without_a_request(arguments: str) -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise AssertionError("no request is made")

    result = call(refuse, ToolCall("call_1", "search", arguments))
    assert result.is_error
    assert result.output.startswith("Invalid arguments: ")


@pytest.mark.parametrize(
    ("status", "content", "shown"),
    [
        (400, {"output": "unknown column 'revenu'"}, "unknown column 'revenu'"),
        (422, {"detail": [{"loc": "query"}]}, '{"detail":[{"loc":"query"}]}'),
        (409, {}, "{}"),
    ],
)
def test_a_4xx_is_shown_to_the_policy(status: int, content: Any, shown: str) -> None:
    result = call(replying(content, status))
    assert (result.output, result.is_error, result.attempts) == (shown, True, 1)


def test_a_4xx_without_json_is_shown_as_it_is() -> None:
    assert call(lambda _: httpx.Response(400, text="bad query")).output == "bad query"
    assert call(lambda _: httpx.Response(400)).output == "Error 400."


def test_an_oversized_reply_is_shown_as_an_error() -> None:
    result = call(replying({"output": "x" * MAX_BYTES}))
    assert result.is_error
    assert "over 1,048,576 bytes" in result.output


@pytest.mark.parametrize(("status", "attempts"), [(401, 1), (403, 1), (404, 1), (429, 3), (500, 3), (503, 3)])
def test_a_status_that_no_call_can_cause_is_a_tool_error(status: int, attempts: int) -> None:
    requests = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(status, json={"output": "looks like an answer"})

    with pytest.raises(ToolError, match=rf"tool search at http://localhost/search: answered {status}.*; ") as caught:
        call(answer)
    assert caught.value.rollout_id == "trace_1"
    assert len(requests) == attempts


def test_a_500_three_times_is_a_tool_error_and_twice_an_answer() -> None:
    answers = iter([500, 500, 200, 500, 500, 500])
    flaky = lambda _: httpx.Response(next(answers), json={"output": "fine"})  # noqa: E731
    assert call(flaky).attempts == 3
    with pytest.raises(ToolError, match=r"answered 500.*3 attempts"):
        call(flaky)


@pytest.mark.parametrize("error", [httpx.ConnectError("refused"), httpx.ReadTimeout("slow"), httpx.ReadError("reset")])
def test_a_lost_connection_is_a_tool_error(error: Exception) -> None:
    def fail(_: httpx.Request) -> httpx.Response:
        raise error

    with pytest.raises(ToolError, match="3 attempts"):
        call(fail)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"output": "x", "call_id": "call_8_0"}, "'call_8_0'"),
        ({"result": "x"}, "without `output`"),
        ({}, "without `output`"),
    ],
)
def test_a_reply_outside_the_protocol_is_a_tool_error(content: Any, found: str) -> None:
    with pytest.raises(ToolError, match=found):
        call(replying(content))


def test_serve_in_the_url_is_the_base_url() -> None:
    config = ToolEndpointConfig(name="search", server_url="{serve}/search")
    assert "http://127.0.0.1:8000/search" in repr(EndpointTool(config, "http://127.0.0.1:8000"))
    with pytest.raises(ConfigError, match=r"tool search.*no server is started"):
        EndpointTool(config)
