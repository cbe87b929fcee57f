"""What clients see: OpenAI's protocol, and feedback.

POST /v1/chat/completions, /v1/responses   answered by a session's policy, streamed or not
GET  /v1/models                            one model, the workflow
POST /v1/feedback                          one event, or {"events": [...]}
POST /v1/sessions/ID/close                 nothing follows
POST /v1/tools/decide                      may this tool call be made; see approvals.py
GET  /healthz                              no key is asked for
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from agentrl.gateway.errors import ApiError
from agentrl.gateway.feedback import read_event
from agentrl.gateway.gateway import Gateway
from agentrl.gateway.http import Call, ClientGone, Message, Receive, Send
from agentrl.gateway.ledger_rows import Recorded
from agentrl.gateway.relay import Asked
from agentrl.gateway.sessions import kept_id

logger = logging.getLogger(__name__)

MAX_BATCH = 1000
"""Events of one request."""
REFUSALS: Mapping[str, tuple[int, str]] = {
    "conflict": (409, "An event with this id said something else."),
    "unknown_session": (404, "There is no such session."),
    "foreign_session": (403, "The session belongs to another client."),
}


class ClientsApp:
    """The ASGI application of clients."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._routes: dict[tuple[str, str], Callable[[Call], Awaitable[None]]] = {
            ("POST", "/v1/chat/completions"): self._complete,
            ("POST", "/v1/responses"): self._complete,
            ("POST", "/v1/feedback"): self._feedback,
            ("POST", "/v1/tools/decide"): self._decide,
            ("GET", "/v1/models"): self._models,
            ("GET", "/healthz"): self._health,
        }

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await _lifespan_or_refuse(scope, receive, send)
            return
        call = Call(scope, receive, send)
        try:
            await self._route(call)
        except ClientGone:
            return
        except ApiError as error:
            self._gateway.counts.refusals[error.code] += 1
            await call.refuse(error)
        except Exception:
            logger.exception("a request failed")
            if not call.is_begun:
                why = "The gateway failed; its log says why."
                await call.refuse(ApiError(500, why, code="internal_error", kind="server_error"))

    async def _route(self, call: Call) -> None:
        answer = self._routes.get((call.method, call.path))
        if answer is not None:
            return await answer(call)
        if call.method == "POST" and call.path.startswith("/v1/sessions/") and call.path.endswith("/close"):
            return await self._close(call)
        if any(path == call.path for _, path in self._routes):
            raise ApiError(405, f"{call.path} is not asked for with {call.method}.", code="method_not_allowed")
        known = ", ".join(f"{method} {path}" for method, path in self._routes)
        raise ApiError(404, f"Unknown request: {call.method} {call.path[:200]}; known: {known}", code="unknown_url")

    async def _complete(self, call: Call) -> None:
        gateway = self._gateway
        client = gateway.admit(call)
        with gateway.places.one():
            body = await call.read_json(gateway.config.max_request_bytes)
            asked = Asked.read(call.path.removeprefix("/v1/"), body, call.headers, gateway.wall())
            await gateway.complete(call, client, asked)

    async def _feedback(self, call: Call) -> None:
        gateway = self._gateway
        client = gateway.admit(call)
        body = await call.read_json(gateway.config.max_request_bytes)
        if "events" not in body:
            event = read_event(body, client, gateway.wall())
            (recorded,) = await gateway.record([event])
            if refusal := REFUSALS.get(recorded.outcome):
                status, message = refusal
                param = "event_id" if recorded.outcome == "conflict" else "session_id"
                raise ApiError(status, message, code=recorded.outcome, param=param)
            await call.answer_json(200, _told(body["event_id"], recorded))
            return
        events = body["events"]
        if not isinstance(events, list) or len(body) > 1 or not 0 < len(events) <= MAX_BATCH:
            message = f'allowed: {{"events": [...]}} with 1 to {MAX_BATCH} events, and nothing beside it'
            raise ApiError(400, message, code="invalid_feedback", param="events")
        told: list[dict[str, Any]] = [{} for _ in events]
        good = []
        for index, each in enumerate(events):
            try:
                good.append((index, read_event(each, client, gateway.wall())))
            except ApiError as error:
                told[index] = {"status": "invalid", **error.body}
        outcomes = await gateway.record([event for _, event in good]) if good else []
        for (index, _), recorded in zip(good, outcomes, strict=True):
            told[index] = _told(events[index]["event_id"], recorded)
        await call.answer_json(200, {"object": "list", "data": told})

    async def _close(self, call: Call) -> None:
        gateway = self._gateway
        client = gateway.admit(call)
        session_id = kept_id(call.path.removeprefix("/v1/sessions/").removesuffix("/close"))
        await gateway.close_session(session_id, client)
        await call.answer_json(200, {"object": "session", "id": session_id, "status": "closed"})

    async def _decide(self, call: Call) -> None:
        client = self._gateway.admit(call)
        if self._gateway.questions is None:
            raise ApiError(404, "The config has no tools.policy: nothing decides here.", code="no_tool_policy")
        await self._gateway.questions.decide(call, client)

    async def _models(self, call: Call) -> None:
        self._gateway.admit(call)
        model = {"id": self._gateway.workflow, "object": "model", "created": 0, "owned_by": "agentrl"}
        await call.answer_json(200, {"object": "list", "data": [model]})

    async def _health(self, call: Call) -> None:
        await call.answer_json(200, {"status": "ok"})


def _told(event_id: str, recorded: Recorded) -> dict[str, Any]:
    return {"object": "feedback", "event_id": event_id, "status": recorded.outcome, "is_late": recorded.is_late}


async def _lifespan_or_refuse(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":  # a websocket
        closing: Message = {"type": "websocket.close", "code": 1000}
        await send(closing)
        return
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})
