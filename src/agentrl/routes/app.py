"""The routes, as a FastAPI application.

POST /v1/fine_tuning/alpha/graders/run       {grader, model_sample, item?, trace_id?} -> {reward, sub_rewards, ...}
POST /v1/fine_tuning/alpha/graders/validate  {grader} -> {grader, warnings}
POST /v1/fine_tuning/alpha/tool/run          {name, server_url, headers?, arguments, item?, ...} -> {output, ...}
"""

from __future__ import annotations

import asyncio
import hmac
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from agentrl.addresses import asked_host, is_loopback
from agentrl.config import ToolEndpointConfig
from agentrl.config.grader_file import GraderFile, parse_grader
from agentrl.config.section import BrokenRules
from agentrl.endpoint import MAX_BYTES
from agentrl.errors import ConfigError, ToolError
from agentrl.grading.review import warnings_of
from agentrl.grading.wire import to_response, to_submission
from agentrl.routes.errors import RouteError
from agentrl.routes.foreign import refuse_foreign, refuse_foreign_address
from agentrl.routes.shelf import Shelf
from agentrl.runs.files import to_json
from agentrl.strict_json import strict_json
from agentrl.tools import EndpointTool
from agentrl.types import ToolCall

PREFIX = "/v1/fine_tuning/alpha"
KINDS: Mapping[type, str] = {str: "a string", dict: "an object"}
Body = dict[str, Any]
BODY_SECONDS = 30.0
"""Until a request has arrived."""


@dataclass(frozen=True)
class Rules:
    """Who may ask, and for what."""

    api_key: str = ""
    """Asked for in `Authorization: Bearer`; empty asks for none, and refuses other hosts' names."""
    is_public: bool = False
    """Other machines can reach it."""
    trusts_requests: bool = False
    """Declarations in requests may say all that a config file may."""
    at_once: int = 16
    """Requests carried out at a time; more wait."""
    ungraded_reward: float | None = None
    """What stands for a missing score: null, or 0 as in hosted replies."""


def create_app(rules: Rules) -> FastAPI:
    """The application; graders are closed when it ends."""
    shelf, places = Shelf(), asyncio.Semaphore(rules.at_once)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await shelf.aclose()

    app = FastAPI(title="agentrl", lifespan=lifespan, openapi_url=None)

    def route(path: str, answer: Callable[[Body], Awaitable[Body]]) -> None:
        async def endpoint(request: Request) -> Response:
            _check_sender(request, rules)
            body = await _body(request)
            async with places:
                return _reply(200, await answer(body))

        app.add_api_route(f"{PREFIX}/{path}", endpoint, methods=["POST"])

    async def run(body: Body) -> Body:
        _check_keys(body, required={"grader": dict, "model_sample": str}, optional={"item": dict, "trace_id": str})
        declared = _grader(body["grader"], rules)
        try:
            async with shelf.borrow(declared.scoring) as grader:
                grade = await grader.grade_submission(to_submission(body))
        except ConfigError as error:  # what it needs is not here: a package, a key, a file
            raise RouteError(str(error), param="grader", code="grader_unavailable") from None
        reply = to_response(grade, declared.grading)
        return reply if grade.is_graded else reply | {"reward": rules.ungraded_reward}

    async def validate(body: Body) -> Body:
        _check_keys(body, required={"grader": dict}, optional={})
        grading = _grader(body["grader"], rules).grading
        normal = grading.grader.model_dump(mode="json", exclude_none=True)
        return {"grader": normal, "warnings": await warnings_of(grading)}

    async def tool(body: Body) -> Body:
        return await _run_tool(body, rules)

    route("graders/run", run)
    route("graders/validate", validate)
    route("tool/run", tool)

    @app.exception_handler(RouteError)
    async def refused(_: Request, error: RouteError) -> Response:
        return _reply(error.status, error.body)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        message = f"Unknown request: {request.method} {request.url.path}"
        return _reply(error.status_code, RouteError(message, code="unknown_url").body)

    return app


def _check_sender(request: Request, rules: Rules) -> None:
    if rules.api_key:
        given = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), rules.api_key.encode()):
            raise RouteError("Incorrect API key provided.", status=401, code="invalid_api_key")
    # by the header, as a page in a browser can give our address a name of its own
    elif not is_loopback(asked_host(said := request.headers.getlist("host"))):
        message = f"Found the host {', '.join(said)!r:.80}; without an API key only localhost is answered."
        raise RouteError(message, status=403, code="unknown_host")
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind != "application/json":  # which a page in a browser cannot send elsewhere unasked
        message = f"Found Content-Type {kind!r}; allowed: application/json."
        raise RouteError(message, status=415, code="unsupported_media_type")


async def _body(request: Request) -> Body:
    content = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                content += chunk
                if len(content) > MAX_BYTES:
                    message = f"The request has more than {MAX_BYTES:,} bytes."
                    raise RouteError(message, status=413, code="request_too_large")
    except TimeoutError:
        message = f"The request did not arrive within {BODY_SECONDS:g} seconds."
        raise RouteError(message, status=408, code="request_timeout") from None
    try:
        body = strict_json(content.decode("utf-8"))
    except ValueError as error:
        raise RouteError(f"The request is not JSON: {error}.", code="invalid_json") from None
    if not isinstance(body, dict):
        raise RouteError("The request is JSON, but no object.", code="invalid_json")
    return body


def _check_keys(body: Body, *, required: Mapping[str, type], optional: Mapping[str, type]) -> None:
    known = {**required, **optional}
    for key in body:
        if key not in known:
            allowed = ", ".join(known)
            raise RouteError(
                f"Unknown parameter: {key!r:.80}; allowed: {allowed}.", param=key, code="unknown_parameter"
            )
    for key, kind in known.items():
        value = body.get(key)
        if value is None and key in required:
            message = f"Missing required parameter: '{key}'."
            raise RouteError(message, param=key, code="missing_required_parameter")
        if value is not None and not isinstance(value, kind):
            message = f"Invalid type for '{key}': expected {KINDS[kind]}, but got {_name(value)} instead."
            raise RouteError(message, param=key, code="invalid_type")


def _name(value: Any) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "an object")


def _grader(value: Any, rules: Rules) -> GraderFile:
    try:
        declared = parse_grader(value)
        if not rules.trusts_requests:
            for each in (declared.grading.grader, *declared.grading.holdout):
                refuse_foreign(each, may_call_loopback=not rules.is_public)
    except ConfigError as error:
        raise RouteError.of_grader(error) from None
    return declared


async def _run_tool(body: Body, rules: Rules) -> Body:
    text = dict.fromkeys(("type", "trace_id", "id", "call_id"), str)
    _check_keys(
        body,
        required={"name": str, "server_url": str, "arguments": str},
        optional={**text, "headers": dict, "item": dict},
    )
    headers = body.get("headers") or {}
    for header, value in headers.items():
        if not isinstance(value, str):
            message = f"Invalid type for 'headers.{header}': expected a string, but got {_name(value)} instead."
            raise RouteError(message, param="headers", code="invalid_type")
    try:
        if not rules.trusts_requests:
            refuse_foreign_address(body["server_url"], headers, may_call_loopback=not rules.is_public)
        config = ToolEndpointConfig(name=body["name"], server_url=body["server_url"], headers=headers)
        tool = EndpointTool(config, max_output_chars=MAX_BYTES)
    except ValueError as error:
        raise _tool_refusal(error) from None
    call_id = body.get("call_id") or f"call_{uuid.uuid4().hex}"
    trace_id = body.get("trace_id") or f"trace_{uuid.uuid4()}"
    call = ToolCall(id=call_id, name=body["name"], arguments=body["arguments"])
    try:
        result = await tool.call(call, rollout_id=trace_id, item=body.get("item") or {})
    except ToolError as error:
        # 424 and not 5xx, which clients try again: the call has been tried again already
        raise RouteError(str(error), status=424, kind="tool_error", code="tool_failed") from None
    finally:
        await tool.aclose()
    return {
        "type": "function_call_output",
        "id": body.get("id") or f"fc_{call_id.removeprefix('call_')}",
        "call_id": call_id,
        "output": result.output,
        "agentrl": {"is_error": result.is_error, "attempts": result.attempts, "seconds": round(result.seconds, 6)},
    }


def _tool_refusal(error: ValueError) -> RouteError:
    """What a config of a tool may not be, by pydantic, by its rules, or by ours."""
    param, message = "server_url", str(error)
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False)[0]
        broken = detail.get("ctx", {}).get("error")
        path, message = broken.problems[0] if isinstance(broken, BrokenRules) else (detail["loc"], detail["msg"])
        param = ".".join(map(str, path)) or param
    elif message.startswith(("server_url: ", "headers.")):
        param, _, message = message.partition(": ")
    return RouteError(f"{param}: {message}", param=param, code="invalid_tool")


def _reply(status: int, body: Body) -> Response:
    content = to_json(body).encode("utf-8", "replace")
    return Response(content, status_code=status, media_type="application/json")
