"""Tools and grader over HTTP: `FINQA_TOKEN=... python -m examples.finqa.server --data DIR`.

The wire format is OpenAI's Agent RFT: a `function_call` comes in, a `function_call_output` goes out, and the grader
gets `{sample, item, trace_id}` and returns `{"score": float}`. What the agent does wrong is answered with 200 and a
text it can learn from; what the caller's program does wrong with 400, a wrong token with 401, our own trouble with 500.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from examples.finqa.corpus import Corpus, load_corpus
from examples.finqa.embedders import Embedder, EmbeddingError
from examples.finqa.grader import grade_answer
from examples.finqa.search import make_embedder
from examples.finqa.tools import ARGUMENTS, FinqaTools
from examples.finqa.traces import TraceLog
from examples.finqa.wire import TOKEN_ENV, authorize, grade_request, json_body, reply, tool_arguments

BACKLOG = 2048


def create_app(
    corpus: Corpus,
    token: str | None,
    *,
    top_k: int = 3,
    max_output_chars: Mapping[str, int] | None = None,
    embedder: Embedder | None = None,
    latency_seconds: float = 0.0,
) -> FastAPI:
    """The server of one corpus.

    Args:
        token: the bearer token that every endpoint but /health asks for; without one they answer 500.
        top_k, max_output_chars, embedder: see `FinqaTools`.
        latency_seconds: added to every tool call, to see how a trainer behaves with slow tools.
    """
    app = FastAPI(title="FinQA tools and grader", docs_url=None, redoc_url=None, openapi_url=None)
    tools = FinqaTools(corpus, top_k=top_k, max_output_chars=max_output_chars, embedder=embedder)
    traces = TraceLog()

    @app.post("/tools/{name}")
    async def run_tool(request: Request, name: str) -> Response:
        authorize(request, token)
        if name not in ARGUMENTS:
            raise HTTPException(404, f"no tool {name[:40]!r}; tools are {', '.join(ARGUMENTS)}")
        body = await json_body(request)
        arguments = tool_arguments(body)
        if latency_seconds:
            await asyncio.sleep(latency_seconds)
        try:
            if tools.waits_for_network and name == "search":
                output = await asyncio.to_thread(tools.call, name, arguments)
            else:  # about a millisecond: a thread would cost more than it saves
                output = tools.call(name, arguments)
        except EmbeddingError as error:
            raise HTTPException(500, f"search failed: {error}") from error
        traces.count_call(body.get("trace_id"), name)
        ids = {key: str(body.get(key) or "") for key in ("call_id", "id")}
        return reply({"type": "function_call_output", **ids, "output": output})

    @app.post("/grade")
    async def grade(request: Request) -> Response:
        authorize(request, token)
        body = await json_body(request)
        score = grade_answer(*grade_request(body))
        traces.add_score(body.get("trace_id"), score)
        return reply({"score": score})

    @app.get("/traces/{trace_id}")
    async def trace(request: Request, trace_id: str) -> Response:
        authorize(request, token)
        record = traces.get(trace_id)
        if record is None:
            raise HTTPException(404, f"no trace {trace_id[:80]!r} among the last {traces.capacity}")
        return reply(record)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        status = "ok" if token else f"no token: {TOKEN_ENV} is not set"
        return {"status": status, "tools": list(ARGUMENTS), "pages": len(corpus.pages)}

    @app.exception_handler(StarletteHTTPException)
    async def on_error(_: Request, error: StarletteHTTPException) -> Response:
        return reply({"error": {"message": error.detail}}, error.status_code)

    return app


class _Server(uvicorn.Server):
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Leave at the first signal, without waiting for open connections: no call changes anything here."""
        self.force_exit = True
        super().handle_exit(sig, frame)


def _limits(pairs: Sequence[str]) -> dict[str, int]:
    """ "cat=2000" -> {"cat": 2000}"""
    limits = {}
    for pair in pairs:
        tool, _, chars = pair.partition("=")
        if tool not in ARGUMENTS or not chars.isdigit() or int(chars) < 1:
            raise ValueError(f"--max-output-chars {pair}: expected TOOL=CHARS with a tool of {', '.join(ARGUMENTS)}")
        limits[tool] = int(chars)
    return limits


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 2 where the data or an option is bad, or the port is taken."""
    parser = argparse.ArgumentParser(prog="finqa-server", description="FinQA tools and grader over HTTP.")
    parser.add_argument("--data", required=True, help="folder of reports.jsonl, or of FinQA's own files")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--top-k", type=int, default=3, help="results of a search")
    parser.add_argument("--max-output-chars", nargs="*", default=[], metavar="TOOL=CHARS")
    parser.add_argument("--latency-ms", type=float, default=0.0, help="added to every tool call")
    parser.add_argument("--embedder", default="tfidf", help="tfidf, sentence-transformers:MODEL or openai:MODEL")
    options = parser.parse_args(arguments)
    token = os.environ.get(TOKEN_ENV)
    if not token:
        print(f"finqa-server: {TOKEN_ENV} is not set, every call will be answered 500", file=sys.stderr)
    try:
        app = create_app(
            load_corpus(options.data),
            token,
            top_k=options.top_k,
            max_output_chars=_limits(options.max_output_chars),
            embedder=make_embedder(options.embedder),
            latency_seconds=options.latency_ms / 1000,
        )
        listener = socket.create_server((options.host, options.port), backlog=BACKLOG)
        # asyncio sets this on sockets whose protocol number says TCP, which this one's does not; without it every
        # reply on a kept connection waits 40 ms for the client's delayed acknowledgement.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, ValueError, OverflowError, EmbeddingError) as error:
        print(f"finqa-server: {error}", file=sys.stderr)
        return 2
    print(f"listening on http://{options.host}:{listener.getsockname()[1]}", flush=True)
    _Server(uvicorn.Config(app, log_level="warning", backlog=BACKLOG)).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
