"""The tools of a workflow, and the calls of one turn made side by side."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from agentrl.config import ToolsConfig
from agentrl.config.section import did_you_mean
from agentrl.endpoint import Endpoint
from agentrl.errors import ConfigError
from agentrl.tools.approval import Approver, ToolGate
from agentrl.tools.endpoint_tool import EndpointTool
from agentrl.tools.mcp_server import MCPServer
from agentrl.tools.output import tool_object
from agentrl.tools.python_tool import PythonTool
from agentrl.tools.tool_policy import ToolPolicy
from agentrl.types import ToolCall, ToolResult

logger = logging.getLogger(__name__)

END_SECONDS = 10.0
"""For a tool to let go of what it keeps for one rollout."""


class Tool(Protocol):
    """What a toolbox holds."""

    @property
    def name(self) -> str: ...

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult: ...

    async def aclose(self) -> None: ...


class Toolbox:
    """Tools by name. A name that the policy made up is answered with the names that there are.

    Args:
        gate: asked before every call of a tool that there is; None: all of them are made.
    """

    def __init__(self, tools: Iterable[Tool], gate: ToolGate | None = None) -> None:
        self._gate = gate
        self._tools: dict[str, Tool] = {}
        for tool in tools:
            if tool.name in self._tools:
                found = f"found the name {tool.name!r} twice; each tool has its own"
                raise ConfigError(f"tools: {found} (an MCP server's may be given a `prefix`)")
            self._tools[tool.name] = tool

    @classmethod
    def from_config(
        cls, config: ToolsConfig, base_url: str = "", *, max_output_chars: int = 8000, approver: Approver | None = None
    ) -> Toolbox:
        """The tools of `tools:`; MCP servers are asked which they have. `{serve}` stands for `base_url`, see `serving`.

        Args:
            approver: asks people where `tools.policy` wants them; None: nobody is there, and those calls are refused.

        Raises:
            ConfigError: an address, a header, a function or an MCP server cannot be used, or a name stands twice.
        """
        tools: list[Tool] = []
        for endpoint in config.endpoints:
            tools.append(EndpointTool(endpoint, base_url, max_output_chars=max_output_chars))
        for server in config.mcp:
            tools += MCPServer(server, base_url).tools(max_output_chars=max_output_chars)
        tools += [PythonTool(each, max_output_chars=max_output_chars) for each in config.python]
        return cls(tools, ToolGate(ToolPolicy(config.policy), approver) if config.policy is not None else None)

    @property
    def descriptions(self) -> list[dict[str, Any]]:
        """Chat-completions tool objects of the tools that say what they are, for chat templates that list tools."""
        described = (getattr(tool, "description", None) for tool in self._tools.values())
        return [each for each in described if each]

    @property
    def offered(self) -> list[dict[str, Any]]:
        """Tool objects of all tools, for APIs, whose models call no others; what says nothing takes anything."""
        anything = {"type": "object", "properties": {}, "additionalProperties": True}
        return [
            getattr(tool, "description", None) or tool_object(name, "", anything) for name, tool in self._tools.items()
        ]

    @property
    def undescribed(self) -> list[str]:
        """Names of the tools that do not say what they are."""
        return [name for name, tool in self._tools.items() if not getattr(tool, "description", None)]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._tools)

    @property
    def versions(self) -> dict[str, str]:
        """What MCP servers told of their version, by the tools that they have."""
        told = {name: getattr(tool, "version", None) for name, tool in self._tools.items()}
        return {name: version for name, version in told.items() if version}

    @property
    def keeps_state(self) -> bool:
        """Whether a tool keeps something for each rollout, such as a session."""
        return any(hasattr(tool, "end_rollout") for tool in self._tools.values())

    @property
    def endpoints(self) -> list[Endpoint]:
        """Of the tools that are reached over HTTP in the wire format of Agent RFT."""
        found = (getattr(tool, "endpoint", None) for tool in self._tools.values())
        return [each for each in found if isinstance(each, Endpoint)]

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
        if self._gate is not None and (refusal := await self._gate.refusal(call, rollout_id=rollout_id)):
            return refusal
        return await tool.call(call, rollout_id=rollout_id, item=item)

    async def end_rollout(self, rollout_id: str) -> None:
        """Tell the tools that keep something for each rollout, such as a session, that this one is over.

        Never raises: the rollout's result stands.
        """
        hooks = [(tool.name, end) for tool in self._tools.values() if (end := getattr(tool, "end_rollout", None))]
        for name, end in hooks:
            try:
                async with asyncio.timeout(END_SECONDS):
                    await end(rollout_id)
            except Exception as error:
                logger.warning("tool %s: could not end rollout %s (%r)", name, rollout_id, error)

    async def aclose(self) -> None:
        """Close every tool's connections."""
        await asyncio.gather(*(tool.aclose() for tool in self._tools.values()))
