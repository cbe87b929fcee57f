"""MCP servers as tools, through the official SDK (the extra `agentrl[mcp]`).

A session belongs to one rollout (`session: per_rollout`: over HTTP a session of the server's, over stdio a process),
or to all of them. It is opened by the rollout's first call and closed by `end_rollout`. The rollout's id travels in
`_meta.trace_id` of every call and, where a session is a rollout's own, in its `X-Rollout-Id` header.

A result with isError is the policy's to read, and so is the protocol's error for invalid arguments. Everything else,
lost connections, timeouts and other protocol errors, is a ToolError. A call is sent once: MCP has no call id by which
a server could know a repetition.
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from inspect import cleandoc
from typing import TYPE_CHECKING, Any

from agentrl.config import MCPServerConfig
from agentrl.config.endpoint import SERVE
from agentrl.config.section import did_you_mean
from agentrl.endpoint import advice, excerpt, served_url
from agentrl.endpoint.address import resolve_headers, usable_url
from agentrl.endpoint.network import VettedNetwork, tls_context
from agentrl.errors import ConfigError, ToolError
from agentrl.tools.mcp_session import MCPSession, http_client, is_lost
from agentrl.tools.output import InvalidArguments, arguments_of, as_text, refusal, tool_object, tool_result
from agentrl.types import ToolCall, ToolResult

if TYPE_CHECKING:
    from mcp import Client
    from mcp_types import CallToolResult

INVALID_PARAMS = -32602  # JSON-RPC 2.0, section 5.1
QUIET = logging.NullHandler()
TOOL_NAME = re.compile(r"[A-Za-z0-9_./-]{1,128}")
LOG_CHARS = 2000


class MCPServer:
    """A server of `tools.mcp`: its list of tools, and its sessions.

    Args:
        base_url: what `{serve}` in the config's url stands for.

    Raises:
        ConfigError: the extra is not installed, or the address, a header or a variable cannot be used.
    """

    def __init__(self, config: MCPServerConfig, base_url: str = "") -> None:
        self.where = f"tools.mcp {config.name}"
        try:
            import mcp  # noqa: F401
        except ImportError as error:
            raise ConfigError(f"{self.where}: needs the MCP SDK ({error}); pip install 'agentrl[mcp]'") from error
        # Lost connections are told by our errors; without a handler the SDK would print them as tracebacks as well.
        logging.getLogger("mcp").addHandler(QUIET)
        resolved = resolve_headers(self.where, config.headers or config.env)
        self._config, self._values, self._secrets = config, resolved.values, resolved.secrets
        self.version: str | None = None
        """What the server told of itself when its tools were listed."""
        if config.url is not None:
            is_open = config.allow_private or SERVE in config.url
            url = served_url(self.where, config.url, base_url)
            self._url = usable_url(self.where, url, has_secrets=bool(resolved.secrets), allow_private=is_open)
            self._network = VettedNetwork(allow_private=is_open)
            self._tls = tls_context() if self._url.scheme == "https" else None
        self._log = tempfile.TemporaryFile("a+", errors="replace")  # noqa: SIM115  (what stdio servers print)
        self._slots = asyncio.Semaphore(config.max_concurrency)
        self._sessions: dict[str, MCPSession] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"MCPServer({self._config.name!r}, {self._config.session})"

    def tools(self, *, max_output_chars: int = 8000) -> list[MCPTool]:
        """Ask the server which tools it has. Blocks, also inside a running event loop.

        Raises:
            ConfigError: the server cannot be reached, or lacks a tool that `allow` names.
        """
        with ThreadPoolExecutor(1) as thread:  # a loop of its own: tools are listed before there is a rollout
            listed = thread.submit(lambda: asyncio.run(self.listed())).result()
        return [MCPTool(self, name, each, max_output_chars=max_output_chars) for name, each in listed.items()]

    async def listed(self) -> dict[str, Any]:
        """What the server says of the tools that the policy may call, by its own names; like `tools`."""
        session = self._open("")
        found: dict[str, Any] = {}
        try:
            client, cursor = await session.client(), None
            self.version = client.server_info.version if client.server_info else None
            async with asyncio.timeout(self._config.timeout_seconds):
                while not found or cursor:
                    page = await client.list_tools(cursor=cursor)
                    found |= {tool.name: tool for tool in page.tools}
                    cursor = page.next_cursor
                    if not page.tools:
                        break
        except Exception as error:  # of the SDK, of its HTTP client, of the operating system
            raise ConfigError(f"{self.where}: cannot list its tools ({self.explained(error)})") from error
        finally:
            await session.close()
        for name in self._config.allow or ():
            if name not in found:
                hint = did_you_mean(name, found) or f"; it has: {', '.join(found) or 'none'}"
                raise ConfigError(f"{self.where}: allow names the tool {name!r}, which the server does not have{hint}")
        for name in found:
            if not TOOL_NAME.fullmatch(name):
                raise ConfigError(f"{self.where}: found a tool named {name!r:.80}; allowed: letters, digits, _ . / -")
        allowed = found if self._config.allow is None else self._config.allow
        return {name: tool for name, tool in found.items() if name in allowed}

    def shown_name(self, name: str) -> str:
        """The tool's name as the policy writes it."""
        return f"{self._config.prefix}{name}"

    async def call(self, name: str, arguments: dict[str, Any], call: ToolCall, rollout_id: str) -> CallToolResult:
        """One call in the rollout's session.

        Raises:
            InvalidArguments: the server refused them.
            ToolError: anything else that is no result.
        """
        from mcp import MCPError

        meta: Any = {"trace_id": rollout_id, "call_id": call.id}
        async with self._slots:
            session = self._session(rollout_id)
            try:
                result: CallToolResult = await session.run(
                    lambda client: client.call_tool(name, arguments, meta=meta), self._config.timeout_seconds
                )
                return result
            except Exception as error:  # of the SDK, of its HTTP client, of the operating system
                if isinstance(error, MCPError) and error.code == INVALID_PARAMS:
                    raise InvalidArguments(self._redacted(str(error)).rstrip(".")) from error
                if self._config.session == "shared" and is_lost(error):
                    self._forget(session)  # the next call opens another one
                found = self.explained(error)
                raise ToolError(f"{self.where}: tool {name}: {found}", rollout_id=rollout_id) from error

    def _session(self, rollout_id: str) -> MCPSession:
        key = "" if self._config.session == "shared" else rollout_id
        if key not in self._sessions or (not key and self._sessions[key].is_over):
            self._sessions[key] = self._open(key)
        return self._sessions[key]

    def _open(self, rollout_id: str) -> MCPSession:
        return MCPSession(self._connected(rollout_id), self._config.timeout_seconds)

    @asynccontextmanager
    async def _connected(self, rollout_id: str) -> AsyncIterator[Client]:
        from mcp import Client, StdioServerParameters, stdio_client
        from mcp.client.streamable_http import streamable_http_client

        async with AsyncExitStack() as stack:
            if self._config.command is not None:
                program, *arguments = (word.replace("{python}", sys.executable) for word in self._config.command)
                server = StdioServerParameters(command=program, args=arguments, env=self._values)
                transport = stdio_client(server, errlog=self._log)
            else:
                headers = {**self._values, **({"X-Rollout-Id": rollout_id} if rollout_id else {})}
                http = http_client(self._url, headers, self._tls, self._network, self._config.timeout_seconds)
                transport = streamable_http_client(str(self._url), http_client=await stack.enter_async_context(http))
            # Sessions over HTTP came with the handshake; the later protocol has none.
            is_own = self._config.command is None and self._config.session == "per_rollout"
            yield await stack.enter_async_context(Client(transport, mode="legacy" if is_own else "auto", cache=None))

    async def end_rollout(self, rollout_id: str) -> None:
        """Close the rollout's session, if it has one."""
        if session := self._sessions.pop(rollout_id, None):
            await session.close()

    def _forget(self, session: MCPSession) -> None:
        if self._sessions.get("") is session:
            del self._sessions[""]
            task = asyncio.ensure_future(session.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions), *self._closing)
        self._log.close()

    def explained(self, error: BaseException) -> str:
        """What happened, on one line, without secrets; with a stdio server's last words where it ended."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, TimeoutError):
            return f"no answer within {self._config.timeout_seconds:g} s{advice('timeout', None)}"
        words = self._redacted(f"{type(error).__name__}{excerpt(str(error))}")
        if self._config.command is None:
            return words
        self._log.seek(0, 2)
        self._log.seek(max(0, self._log.tell() - LOG_CHARS))
        printed = [line for line in self._log.read().splitlines() if line.strip()]
        return words + (f"; it printed last{self._redacted(excerpt(printed[-1]))}" if printed else "")

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "[secret]")
        return text


class MCPTool:
    """One tool of an MCP server."""

    def __init__(self, server: MCPServer, name: str, listed: Any, *, max_output_chars: int = 8000) -> None:
        self.name = server.shown_name(name)
        self.description = tool_object(self.name, cleandoc(listed.description or ""), listed.input_schema)
        self.version = server.version
        self._server = server
        self._server_name = name
        self._max_output_chars = max_output_chars

    def __repr__(self) -> str:
        return f"MCPTool({self.name!r}, {self._server!r})"

    async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
        """Answer one call of the policy. The row is not sent: MCP has no place for it.

        Raises:
            ToolError: the server failed for a reason that is not the policy's.
        """
        del item
        started = time.perf_counter()
        try:
            result = await self._server.call(self._server_name, arguments_of(call), call, rollout_id)
        except InvalidArguments as error:
            return refusal(call, error, max_output_chars=self._max_output_chars)
        seconds = time.perf_counter() - started
        return tool_result(
            call,
            _text(result),
            max_output_chars=self._max_output_chars,
            seconds=seconds,
            is_error=bool(result.is_error),
        )

    async def end_rollout(self, rollout_id: str) -> None:
        await self._server.end_rollout(rollout_id)

    async def aclose(self) -> None:
        await self._server.aclose()


def _text(result: CallToolResult) -> str:
    """A result as text: what is no text is named, and a structured result stands where there is nothing else."""
    parts = []
    for block in result.content:
        if block.type == "text":
            parts.append(block.text)
        elif block.type == "resource" and hasattr(block.resource, "text"):
            parts.append(block.resource.text)
        else:
            kind = getattr(block, "mime_type", None) or getattr(block, "uri", "")
            parts.append(f"[{block.type}{f' {kind}' if kind else ''}: not shown]")
    if not parts and result.structured_content is not None:
        return as_text(result.structured_content)
    return "\n".join(parts)
