"""Policies behind OpenAI's protocol: `python -m examples.release.model_server --policy NAME=KIND[,delay=S]...`.

What a deployment would have vLLM do: chat completions, streamed or whole, with tool calls and log-probabilities.
`prompt_cache_key` names the conversation, whose cache is kept between its turns.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import sys
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from agentrl.errors import EngineError
from examples.release.policies import UPDATES
from examples.release.speaker import Answer, Defect, Speaker

MAX_TURN_TOKENS = 64


def create_app(speakers: Mapping[str, Speaker]) -> FastAPI:
    """The server of policies by name."""
    app = FastAPI(title="FinQA policies", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/models")
    async def models() -> Response:
        return _reply({"object": "list", "data": [{"id": name, "object": "model"} for name in speakers]})

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> Response:
        body = json.loads(await request.body())
        speaker = speakers.get(body.get("model"))
        if speaker is None:
            return _error(404, f"no model {body.get('model')!r:.80}; there are {', '.join(speakers)}")
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or MAX_TURN_TOKENS
        try:
            answer = await speaker.answer(
                body["messages"],
                session=str(body.get("prompt_cache_key") or ""),
                user=str(body.get("user") or ""),
                seed=body.get("seed"),
                max_tokens=min(int(limit), MAX_TURN_TOKENS),
            )
        except EngineError as error:  # OpenAI's words for it, which clients look for
            return _error(400, f"context length exceeded: {error}", "context_length_exceeded")
        if body.get("stream"):
            wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
            chunks = _chunks(answer, body["model"], wants_usage)
            return StreamingResponse(chunks, media_type="text/event-stream")
        choice: dict[str, Any] = {"index": 0, "message": _message(answer), "finish_reason": _reason(answer)}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": _logprobs(answer, speaker)}
        return _reply(_envelope("chat.completion", body["model"], [choice], usage=_usage(answer)))

    return app


def _message(answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": answer.text or None}
    if calls := _calls(answer):
        message["tool_calls"] = calls
    return message


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.turn.calls
    ]


def _reason(answer: Answer) -> str:
    if answer.turn.calls:
        return "tool_calls"
    return "length" if answer.sample.is_truncated else "stop"


def _usage(answer: Answer) -> dict[str, int]:
    said = len(answer.sample.token_ids)
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": answer.prompt_tokens + said,
    }


def _logprobs(answer: Answer, speaker: Speaker) -> list[dict[str, Any]]:
    return [
        {"token": speaker.chat.decode([token]), "logprob": logprob, "bytes": None, "top_logprobs": []}
        for token, logprob in zip(answer.sample.token_ids, answer.sample.logprobs, strict=True)
    ]


def _envelope(kind: str, model: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex[:24]}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
        "choices": choices,
        **more,
    }


async def _chunks(answer: Answer, model: str, wants_usage: bool) -> AsyncIterator[bytes]:
    """A turn as server-sent events. Turns are about fifteen tokens: each is sampled whole, then streamed by words."""
    envelope = _envelope("chat.completion.chunk", model, [])

    def event(delta: dict[str, Any], reason: str | None = None) -> bytes:
        return _event({**envelope, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    yield event({"role": "assistant", "content": ""})
    for word in re.findall(r"\S+\s*|\s+", answer.text):
        yield event({"content": word})
        await asyncio.sleep(0)
    if calls := _calls(answer):
        yield event({"tool_calls": [{"index": index, **call} for index, call in enumerate(calls)]})
    yield event({}, _reason(answer))
    if wants_usage:
        yield _event({**envelope, "usage": _usage(answer)})
    yield b"data: [DONE]\n\n"


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _error(status: int, message: str, code: str | None = None) -> Response:
    return _reply({"error": {"message": message, "type": "invalid_request_error", "code": code}}, status)


def _reply(content: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(content), status, media_type="application/json")


def parse_policy(text: str) -> tuple[str, str, Defect]:
    """`slow=trained,slowness=3` -> name, kind of weights, defect.

    Raises:
        ValueError: it is not of that form.
    """
    name, _, rest = text.partition("=")
    kind, *options = rest.split(",")
    if not name or kind not in UPDATES:
        raise ValueError(f"--policy {text}: expected NAME=KIND with a kind of {', '.join(UPDATES)}")
    values = dict(option.split("=", 1) for option in options)
    if unknown := values.keys() - {"slowness", "mixes_up"}:
        raise ValueError(f"--policy {text}: found {min(unknown)}; allowed: slowness, mixes_up")
    return name, kind, Defect(float(values.get("slowness", 1)), float(values.get("mixes_up", 0)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; 2 where an option is bad or the port is taken."""
    parser = argparse.ArgumentParser(prog="release-model-server", description=(__doc__ or "").partition(":")[0])
    parser.add_argument(
        "--policy", action="append", required=True, metavar="NAME=KIND[,slowness=TIMES][,mixes_up=SHARE]"
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one and prints it")
    parser.add_argument("--seed", type=int, default=17)
    options = parser.parse_args(arguments)
    try:
        wanted = [parse_policy(text) for text in options.policy]
        speakers = {name: Speaker(kind, defect, seed=options.seed) for name, kind, defect in wanted}
        listener = socket.create_server(("127.0.0.1", options.port), backlog=1024)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else replies wait 40 ms for an acknowledgement
    except (OSError, ValueError, OverflowError) as error:
        print(f"release-model-server: {error}", file=sys.stderr)
        return 2
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(create_app(speakers), log_level="warning", timeout_graceful_shutdown=1)).run(
        sockets=[listener]
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
