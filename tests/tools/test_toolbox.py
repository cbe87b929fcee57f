"""The calls of a turn run side by side, and rollouts do not get into each other's way."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections import defaultdict
from typing import Any

import httpx
import pytest

from agentrl.config import ToolEndpointConfig, ToolsConfig
from agentrl.errors import ConfigError, ToolError
from agentrl.tools import EndpointTool, Toolbox
from agentrl.types import ToolCall, ToolResult


class Waiting:
    """A tool that answers when it is told to, with the name of the call."""

    def __init__(self, name: str, *, breaks: bool = False) -> None:
        self.name = name
        self.breaks = breaks
        self.waits_for: asyncio.Event | None = None
        self.cancelled = 0

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        del item
        try:
            if self.waits_for:
                await self.waits_for.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.breaks:
            raise ToolError("down", rollout_id=rollout_id)
        return ToolResult(call.id, call.name, call.arguments, 0.0)

    async def aclose(self) -> None:
        pass


def calls(*names: str) -> list[ToolCall]:
    return [ToolCall(f"call_{i}", name, f'{{"i": {i}}}') for i, name in enumerate(names)]


def test_calls_run_in_parallel_and_keep_their_order() -> None:
    async def run() -> list[ToolResult]:
        slow, fast = Waiting("slow"), Waiting("fast")
        slow.waits_for = asyncio.Event()

        async def release(call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
            assert slow.waits_for
            slow.waits_for.set()  # a sequential toolbox would wait for ever
            return ToolResult(call.id, call.name, "released", 0.0)

        fast.call = release  # type: ignore[method-assign]
        made = Toolbox([slow, fast]).run(calls("slow", "fast"), rollout_id="trace_1", item={})
        return await asyncio.wait_for(made, 5)

    assert [result.name for result in asyncio.run(run())] == ["slow", "fast"]


def test_an_unknown_tool_is_answered_with_the_known_names() -> None:
    toolbox = Toolbox([Waiting("search"), Waiting("cat")])
    results = asyncio.run(toolbox.run(calls("serch", "cat", "zzz"), rollout_id="trace_1", item={}))
    assert results[0].output == "Unknown tool 'serch'; did you mean 'search'? Known tools: search, cat."
    assert results[2].output == "Unknown tool 'zzz'. Known tools: search, cat."
    assert [result.is_error for result in results] == [True, False, True]


def test_no_calls_are_no_results() -> None:
    assert asyncio.run(Toolbox([]).run([], rollout_id="trace_1", item={})) == []


def test_a_broken_tool_cancels_the_other_calls_of_the_turn() -> None:
    async def run() -> int:
        slow = Waiting("slow")
        slow.waits_for = asyncio.Event()
        with pytest.raises(ToolError, match="down"):
            await Toolbox([slow, Waiting("bad", breaks=True)]).run(calls("slow", "bad"), rollout_id="t", item={})
        return slow.cancelled

    assert asyncio.run(run()) == 1


def test_a_cancelled_rollout_cancels_its_calls() -> None:
    async def run() -> int:
        slow = Waiting("slow")
        slow.waits_for = asyncio.Event()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(Toolbox([slow]).run(calls("slow", "slow"), rollout_id="t", item={}), 0.02)
        return slow.cancelled

    assert asyncio.run(run()) == 2


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="'search' twice"):
        Toolbox([Waiting("search"), Waiting("search")])


def test_a_toolbox_is_built_from_the_config() -> None:
    endpoints = [{"name": name, "server_url": f"{{serve}}/{name}"} for name in ("search", "cat")]
    config = ToolsConfig.model_validate({"serve": [{"command": ["true"]}], "endpoints": endpoints})
    assert Toolbox.from_config(config, "http://127.0.0.1:8000").names == ("search", "cat")


def test_every_request_of_a_rollout_carries_its_id_and_200_rollouts_share_none() -> None:
    seen: dict[str, list[str]] = defaultdict(list)

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert body["trace_id"] == request.headers["X-Rollout-Id"]
        seen[body["trace_id"]].append(body["item"]["rollout"])
        # Some fail once: a retry keeps the id too.
        status = 500 if len(seen[body["trace_id"]]) == 1 and body["item"]["rollout"] % 7 == 0 else 200
        return httpx.Response(status, json={"output": body["trace_id"], "call_id": body["call_id"]})

    async def rollout(toolbox: Toolbox, index: int) -> str:
        rollout_id = f"trace_{uuid.uuid4()}"
        for _ in range(3):
            results = await toolbox.run(calls("search", "cat"), rollout_id=rollout_id, item={"rollout": index})
            assert [result.output for result in results] == [rollout_id, rollout_id]
        return rollout_id

    async def run() -> list[str]:
        transport = httpx.MockTransport(answer)
        configs = [ToolEndpointConfig(name=name, server_url=f"http://localhost/{name}") for name in ("search", "cat")]
        toolbox = Toolbox([EndpointTool(config, transport=transport) for config in configs])
        ids = await asyncio.gather(*(rollout(toolbox, index) for index in range(200)))
        await toolbox.aclose()
        return ids

    ids = asyncio.run(run())
    assert len(set(ids)) == 200
    assert seen.keys() == set(ids)
    for index, rollout_id in enumerate(ids):
        assert set(seen[rollout_id]) == {index}
        assert len(seen[rollout_id]) >= 6
