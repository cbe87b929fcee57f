"""The tools of a workflow, and the calls of one turn made side by side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from agentrl.config import ToolsConfig
from agentrl.config.section import did_you_mean
from agentrl.errors import ConfigError
from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.types import ToolCall, ToolResult


class Tool(Protocol):
    """What a toolbox holds."""

    @property
    def name(self) -> str: ...

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult: ...

    async def aclose(self) -> None: ...


class Toolbox:
    """Tools by name. A name that the policy made up is answered with the names that there are."""

    def __init__(self, tools: Iterable[Tool]) -> None:
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                raise ConfigError(f"tools: found the name {tool.name!r} twice; each tool has its own")
            self._tools[tool.name] = tool

    @classmethod
    def from_config(cls, config: ToolsConfig, base_url: str = "", *, max_output_chars: int = 8000) -> Toolbox:
        """The endpoints of `tools:`. `base_url` is what `{serve}` stands for, see `serving`."""
        tools = (EndpointTool(each, base_url, max_output_chars=max_output_chars) for each in config.endpoints)
        return cls(tools)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    async def run(self, calls: Sequence[ToolCall], *, rollout_id: str, item: dict[str, Any]) -> list[ToolResult]:
        """Make the calls of one turn in parallel; results stand in the order of the calls.

        Raises:
            ToolError: an endpoint failed; the turn's other calls are cancelled, since the rollout is lost.
        """
        tasks = [asyncio.ensure_future(self._call(call, rollout_id, item)) for call in calls]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _call(self, call: ToolCall, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        tool = self._tools.get(call.name)
        if tool is None:
            known = ", ".join(self._tools) or "none"
            hint = did_you_mean(call.name, self._tools) or "."
            text = f"Unknown tool {call.name[:80]!r}{hint} Known tools: {known}."
            return ToolResult(call.id, call.name, text, 0.0, is_error=True)
        return await tool.call(call, rollout_id=rollout_id, item=item)

    async def aclose(self) -> None:
        """Close every tool's connections."""
        await asyncio.gather(*(tool.aclose() for tool in self._tools.values()))
