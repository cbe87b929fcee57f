"""Read requests and write replies of the Agent RFT wire format; bad requests become 4xx with a reason."""

from __future__ import annotations

import hmac
import json
import math
from typing import Any

from fastapi import HTTPException, Request
from fastapi.responses import Response

from examples.finqa.grader import parse_number

MAX_BODY_BYTES = 1_000_000
TOKEN_ENV = "FINQA_TOKEN"


def authorize(request: Request, token: str | None) -> None:
    """401 for a missing or wrong bearer token, 500 where the server itself has none."""
    if not token:
        raise HTTPException(500, f"the server has no token: set {TOKEN_ENV} and start it again")
    given = request.headers.get("authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        raise HTTPException(401, "missing or wrong bearer token")


async def json_body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if len(raw) > MAX_BODY_BYTES:
        raise HTTPException(413, f"body of {len(raw)} bytes, at most {MAX_BODY_BYTES}")
    return _object(raw, "body")


def tool_arguments(body: dict[str, Any]) -> dict[str, Any]:
    """A tool call's arguments: a JSON string, as the protocol sends it, or an object."""
    return _object(body.get("arguments"), "arguments")


def grade_request(body: dict[str, Any]) -> tuple[str, float, str | None]:
    """(answer, reference, printed reference); an episode without a final text (null) is an empty answer."""
    sample, item = _object(body.get("sample"), "sample"), _object(body.get("item"), "item")
    answer = sample.get("output_text", 0)
    if answer is not None and not isinstance(answer, str):
        raise HTTPException(400, "sample.output_text: expected text")
    given = item.get("answer", item.get("reference_answer"))
    reference = _finite(given)
    if reference is None:
        raise HTTPException(400, f"item.answer or item.reference_answer: found {given!r:.80}, expected a number")
    printed = item.get("answer_text", given)
    return answer or "", reference, printed if isinstance(printed, str) else None


def reply(content: dict[str, Any], status: int = 200) -> Response:
    """JSON in ASCII, which holds any text: FastAPI's own spelling fails on half a surrogate pair."""
    return Response(json.dumps(content), status, media_type="application/json")


def _finite(found: Any) -> float | None:
    if isinstance(found, str):
        return parse_number(found)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        return float(found) if math.isfinite(found) else None
    except OverflowError:
        return None


def _object(found: Any, what: str) -> dict[str, Any]:
    try:
        value = json.loads(found) if isinstance(found, str | bytes) else found
    except (ValueError, RecursionError):
        raise HTTPException(400, f"{what}: not JSON") from None
    if not isinstance(value, dict):
        raise HTTPException(400, f"{what}: found {type(value).__name__}, expected an object")
    return value
