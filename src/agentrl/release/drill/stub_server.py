"""A model server that says three words, or hangs on command: `python -m agentrl.release.drill.stub_server NAME`.

A hanging one sends the first words of a stream and then nothing, for ever, and never answers what is not streamed: the
worst candidate that there is, as its connections are alive. It keeps when requests came and how they ended.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import asdict, dataclass, field

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from agentrl.release.steady_clock import steady_seconds

WORDS = ("a ", "drill's ", "answer")
WORD_SECONDS = 0.02


@dataclass
class Seen:
    """What the server saw; times of `steady_seconds`."""

    hangs: bool = False
    open: int = 0
    most_open: int = 0
    arrivals: list[float] = field(default_factory=list)
    last_end: float | None = None
    """When the last answer ended, whole or cut."""


def create_app(name: str) -> FastAPI:
    """The server; `name` is its model, and stands in every answer."""
    app = FastAPI(title="drill", docs_url=None, redoc_url=None, openapi_url=None)
    seen = Seen()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body = json.loads(await request.body())
        seen.arrivals.append(steady_seconds())
        if body.get("stream"):
            return StreamingResponse(_stream(name, seen), media_type="text/event-stream")
        _begin(seen)
        try:
            while seen.hangs and not await request.is_disconnected():
                await asyncio.sleep(WORD_SECONDS)
        finally:
            _end(seen)
        message = {"role": "assistant", "content": f"{name}: {''.join(WORDS)}"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": len(WORDS), "total_tokens": 1 + len(WORDS)}
        return JSONResponse(
            {"id": "drill", "object": "chat.completion", "created": 0, "model": name, "usage": usage}
            | {"choices": [choice]}
        )

    @app.post("/drill/hang")
    async def hang() -> Response:
        seen.hangs = True
        return Response(status_code=204)

    @app.get("/drill/seen")
    async def tell() -> Response:
        return JSONResponse(asdict(seen))

    return app


async def _stream(name: str, seen: Seen) -> AsyncIterator[bytes]:
    _begin(seen)
    try:
        yield _chunk(name, {"role": "assistant", "content": f"{name}: "})
        while seen.hangs:  # ends when the other side closes
            await asyncio.sleep(3600)
        for word in WORDS:
            await asyncio.sleep(WORD_SECONDS)
            yield _chunk(name, {"content": word})
        yield _chunk(name, {}, "stop")
        yield b"data: [DONE]\n\n"
    finally:
        _end(seen)


def _begin(seen: Seen) -> None:
    seen.open += 1
    seen.most_open = max(seen.most_open, seen.open)


def _end(seen: Seen) -> None:
    seen.open -= 1
    seen.last_end = steady_seconds()


def _chunk(name: str, delta: dict[str, str], reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    chunk = {"id": "drill", "object": "chat.completion.chunk", "created": 0, "model": name, "choices": [choice]}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def main(arguments: Sequence[str]) -> int:
    """Listen on a free port of this machine until SIGTERM; prints its address."""
    (name,) = arguments
    listener = socket.create_server(("127.0.0.1", 0), backlog=2048)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    options = uvicorn.Config(create_app(name), log_level="warning", backlog=2048, timeout_graceful_shutdown=1)
    uvicorn.Server(options).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
