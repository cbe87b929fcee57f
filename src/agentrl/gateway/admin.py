"""What operators see, on a port of its own and with a key of its own.

GET  /status     what is served, the lease, what is under way
GET  /metrics    for Prometheus
GET  /sessions?release_id=ID&limit=100   the latest sessions of a release, without what was said
POST /drain      let a load balancer send users elsewhere: /healthz answers 503, new requests are refused
GET  /approvals  tool calls that wait for a person; POST /approvals/ID {"approver", "approved"} answers one
GET  /healthz    no key is asked for
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

from sqlalchemy import select

from agentrl.errors import ReleaseError
from agentrl.gateway.errors import ApiError, busy
from agentrl.gateway.gateway import Gateway
from agentrl.gateway.http import Call, Receive, Send
from agentrl.release.store.tables import sessions

logger = logging.getLogger(__name__)

SHOWN = (
    "session_id", "release_id", "arm", "channel", "bundle", "upstream", "client", "intent", "is_forced", "assigned_at",
    "last_at", "moved_at", "closed_at", "status", "requests", "fallbacks", "errors", "seconds", "tokens_in",
    "tokens_out", "cost_usd", "success", "quality", "safety_violations", "human_override", "tool_calls", "tool_errors",
)  # fmt: skip
MAX_SESSIONS = 1000


class AdminApp:
    """The ASGI application of operators."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        call = Call(scope, receive, send)
        try:
            await self._route(call, scope.get("query_string", b"").decode("latin-1"))
        except ApiError as error:
            await call.refuse(error)
        except Exception:
            logger.exception("an admin request failed")
            if not call.is_begun:
                await call.refuse(ApiError(500, "The gateway failed; its log says why.", code="internal_error"))

    async def _route(self, call: Call, query: str) -> None:
        gateway, asked = self._gateway, (call.method, call.path)
        if asked == ("GET", "/healthz"):
            status = "draining" if gateway.is_draining else "ok"
            return await call.answer_json(503 if gateway.is_draining else 200, {"status": status})
        given = call.headers.get("authorization", "").removeprefix("Bearer ").strip()
        if not gateway.keys.is_admin(given or call.header("X-AgentRL-Admin-Key")):
            why = "No admin key is configured: gateway.admin_key_env." if gateway.keys.admin is None else "Wrong key."
            raise ApiError(401, why, code="invalid_admin_key", kind="authentication_error")
        if asked == ("GET", "/status"):
            return await call.answer_json(200, gateway.status())
        if asked == ("GET", "/metrics"):
            kind = "text/plain; version=0.0.4; charset=utf-8"
            return await call.answer(200, gateway.counts.text(gateway.gauges()).encode(), kind=kind)
        if asked == ("GET", "/sessions"):
            return await call.answer_json(200, {"object": "list", "data": await self._sessions(query)})
        if asked == ("POST", "/drain"):
            gateway.is_draining = True
            return await call.answer_json(200, {"status": "draining", "in_flight": len(gateway.flights)})
        if gateway.questions is not None and asked == ("GET", "/approvals"):
            return await gateway.questions.waiting(call)
        if gateway.questions is not None and call.method == "POST" and call.path.startswith("/approvals/"):
            return await gateway.questions.answer(call, call.path.removeprefix("/approvals/"))
        raise ApiError(404, f"Unknown request: {call.method} {call.path[:200]}", code="unknown_url")

    async def _sessions(self, query: str) -> list[dict[str, Any]]:
        values = {key: value[-1] for key, value in parse_qs(query, keep_blank_values=True).items()}
        limit = values.get("limit", "100")
        if not (limit.isascii() and limit.isdigit() and 0 < int(limit[:9]) <= MAX_SESSIONS):
            raise ApiError(400, f"limit: found {limit!r:.40}; allowed: 1 to {MAX_SESSIONS}", code="bad", param="limit")
        try:
            return await asyncio.to_thread(
                self._read, values.get("release_id", self._gateway.served.release_id), int(limit)
            )
        except ReleaseError:
            raise busy("The store cannot be read.", code="store_unreadable") from None

    def _read(self, release_id: str, limit: int) -> list[dict[str, Any]]:
        columns, place = sessions.c, self._gateway.place
        wanted = select(*(columns[name] for name in SHOWN)).where(
            columns.workflow == place.workflow, columns.release_id == release_id
        )
        with place.store.read() as connection:
            rows = connection.execute(wanted.order_by(columns.assigned_at.desc()).limit(limit)).mappings().all()
        return [dict(row) for row in rows]
