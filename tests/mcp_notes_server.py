"""An MCP server from the official SDK, with state and with every way to fail.

    python tests/mcp_notes_server.py stdio | http

Its notes belong to a session: over stdio to the process, over HTTP to the session of the protocol.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import defaultdict

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("notes", version="3.1", log_level="ERROR")
notes: dict[str, list[str]] = defaultdict(list)


def _headers(ctx: Context) -> dict[str, str]:
    return getattr(ctx.request_context.request, "headers", {})


@server.tool()
async def note(text: str, ctx: Context) -> str:
    """Write a note and read all of this session's.

    Args:
        text: what to write.
    """
    mine = notes[_headers(ctx).get("Mcp-Session-Id", "")]
    mine.append(text)
    return " ".join(mine)


@server.tool()
async def whoami(ctx: Context) -> str:
    """The rollout's id, as it arrived."""
    meta = dict(ctx.request_context.meta or {})
    headers = _headers(ctx)
    key = headers.get("X-Notes-Key") or os.environ.get("NOTES_KEY")
    return f"{meta.get('trace_id')} {headers.get('X-Rollout-Id')} {key}"


@server.tool()
async def refuse() -> str:
    """Always an error that the policy may read."""
    raise ToolError("no such page")


@server.tool()
async def long(n: int) -> str:
    """A long output."""
    return "x" * n


@server.tool()
async def hang() -> str:
    """Never answers."""
    await asyncio.sleep(60)
    return "late"


@server.tool()
async def crash() -> str:
    """Takes the server down in the middle of the call."""
    print("out of memory", file=sys.stderr, flush=True)
    os._exit(3)


def main() -> None:
    if sys.argv[1] == "stdio":
        server.run("stdio")
        return
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(server.streamable_http_app(), log_level="error")
    uvicorn.Server(config).run([listener])


if __name__ == "__main__":
    main()
