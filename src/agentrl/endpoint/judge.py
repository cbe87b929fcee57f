"""What a reply is worth: an answer, or a fault that is worth another attempt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.endpoint.address import strike_out
from agentrl.endpoint.body import MAX_BYTES, excerpt
from agentrl.endpoint.faults import Fault, retry_after_seconds
from agentrl.endpoint.network import Received
from agentrl.strict_json import strict_json

logger = logging.getLogger(__name__)

MAX_RETRY_AFTER_SECONDS = 10.0

Check = Callable[[dict[str, Any]], str]
"""What is wrong with the body of a 2xx reply; empty where it can be used."""


@dataclass(frozen=True)
class Request:
    """What every attempt of a call sends, and what its reply has to be."""

    content: bytes
    headers: dict[str, str]
    rollout_id: str
    call_id: str
    check: Check | None
    is_repeatable: bool = True
    """Whether it may be sent once more after it was given up."""


@dataclass(frozen=True)
class Answer:
    """2xx or 4xx."""

    status: int
    json: dict[str, Any] | None
    text: str


def judge(where: str, request: Request, received: Received, secrets: Sequence[str]) -> Answer:
    """The answer that came back, without the secrets that the server sent along.

    Raises:
        Fault: it is none.
    """
    status = received.status
    text = str(strike_out(received.raw.decode("utf-8", "replace"), secrets))
    if status == 429 or status >= 500:
        raise Fault(
            "status",
            f"answered {status}{excerpt(text)}",
            status=status,
            retry_after_seconds=_retry_after(where, received.retry_after),
        )
    if not (200 <= status < 300 or 400 <= status < 500):
        found = f"answered {status}; redirects are not followed, configure the final address"
        raise Fault("protocol", found, status=status, is_final=True)
    if received.is_cut:
        message = f"the reply is over {MAX_BYTES:,} bytes"
        return Answer(413, {"error": {"message": message}}, message)
    try:
        if 200 <= status < 300:
            received.raw.decode("utf-8")  # nothing is replaced in what a policy reads or a score is taken from
        body = strict_json(text)
        if not isinstance(body, dict):
            raise ValueError(f"a JSON {type(body).__name__}, where an object is expected")
        if "\\" in text:  # a secret may stand there with escapes: PHP writes a/b as a\/b
            body = strike_out(body, secrets)
    except (ValueError, RecursionError) as error:
        if status >= 400:
            return Answer(status, None, text)
        found = f"answered {status} with a body that is no JSON object ({error}){excerpt(text)}"
        raise Fault("protocol", found, status=status) from error
    found = _stranger(request, body) or (request.check(body) if request.check and status < 300 else "")
    if found:
        raise Fault("protocol", found, status=status)
    return Answer(status, body, text)


def _retry_after(where: str, header: str | None) -> float | None:
    """Seconds that the server asks us to wait, up to a cap."""
    wait = retry_after_seconds(header)
    if wait is not None and wait > MAX_RETRY_AFTER_SECONDS:
        logger.warning("%s: asks for %g s, waiting %g s", where, wait, MAX_RETRY_AFTER_SECONDS)
        return MAX_RETRY_AFTER_SECONDS
    return wait


def _stranger(request: Request, body: dict[str, Any]) -> str:
    """How a reply shows that it belongs to another call or rollout; empty where it does not."""
    answered = body.get("call_id", request.call_id)
    if request.call_id and answered != request.call_id:
        found = f"call {request.call_id} was answered with call_id {answered!r:.80}"
        return f"{found}; a reply repeats the call's own call_id"
    # Only ids of our form: a server's own tracing may use the same word.
    trace = body.get("trace_id")
    if isinstance(trace, str) and trace.startswith("trace_") and trace != request.rollout_id:
        return f"rollout {request.rollout_id} was answered with trace_id {trace!r:.80}"
    return ""
