"""Finished turns of a baseline in shadow, and candidates that say what they are told to."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Callable, Coroutine
from typing import Any

from agentrl.config import UpstreamConfig
from agentrl.gateway.turns import FinishedTurn, Usage
from agentrl.release.records import Arm, Routing

Json = dict[str, Any]


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine, in a loop of its own."""

    @functools.wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        asyncio.run(test(*arguments, **options))

    return run


def routing(channel: str = "shadow", release_id: str = "rel_1", **fields: Any) -> Routing:
    return Routing(
        **{
            "workflow": "support",
            "epoch": 3,
            "general_upstream": "old",
            "general_bundle": "sha256:old",
            "release_id": release_id,
            "channel": channel,
            "candidate_upstream": "new",
            "candidate_bundle": "sha256:new",
            "share_percent": 0.0,
            "salt": "s",
            "lease_renewal": 1,
            "lease_seconds": 30.0,
            **fields,
        }
    )


def call(name: str, call_id: str = "c1", **arguments: Any) -> Json:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}


def used(*steps: tuple[Json, str]) -> list[Json]:
    """Messages of calls, one a message, each with what the client answered."""
    messages: list[Json] = []
    for made, output in steps:
        messages.append({"role": "assistant", "content": None, "tool_calls": [made]})
        messages.append({"role": "tool", "tool_call_id": made["id"], "content": output})
    return messages


def finished(
    *steps: tuple[Json, str],
    answer: str = "it is 42",
    question: str = "how much?",
    earlier: list[Json] | None = None,
    session_id: str = "s1",
    request: Json | None = None,
    reply: Json | None = None,
    **fields: Any,
) -> FinishedTurn:
    """The request behind the baseline's final answer, with the calls that led to it."""
    asked = [*(earlier or []), {"role": "user", "content": question}]
    body = {"model": "any", "messages": [*asked, *used(*steps)], "stream": True, **(request or {})}
    values: dict[str, Any] = {
        "workflow": "support",
        "session_id": session_id,
        "client": "",
        "cluster": "u1",
        "intent": "billing",
        "arm": Arm.BASELINE,
        "is_forced": False,
        "release_id": "rel_1",
        "routing": routing(),
        "upstream": "old",
        "is_fallback": False,
        "path": "chat/completions",
        "request": body,
        "reply": reply or {"role": "assistant", "content": answer},
        "finish_reason": "stop",
        "usage": Usage(10, 5),
        "at": 1000.0,
        "seconds": 0.5,
    }
    return FinishedTurn(**{**values, **fields})


def says(text: str | None = None, *calls: Json, tokens: tuple[int, int] = (10, 5)) -> Json:
    """An answer of a chat completions server."""
    message: Json = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = list(calls)
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1]}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


class Candidate:
    """In the place of an `Upstream`: gives its answers in turn; remembers every request."""

    def __init__(self, *answers: Any, prices: Any = None, hold: asyncio.Event | None = None) -> None:
        self.config = UpstreamConfig(url="http://127.0.0.1:9/v1", model="candidate-model", prices=prices)
        self.bodies: list[Json] = []
        self.paths: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self._answers = list(answers)
        self._hold = hold

    async def ask_json(self, path: str, body: bytes) -> Json:
        self.bodies.append(json.loads(body))
        self.paths.append(path)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if self._hold is not None:
                await self._hold.wait()
            answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
            if isinstance(answer, Exception):
                raise answer
            if isinstance(answer, Callable):  # type: ignore[arg-type]
                answer = answer(self.bodies[-1])
            return answer
        finally:
            self.in_flight -= 1
