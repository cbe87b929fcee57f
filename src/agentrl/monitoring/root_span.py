"""The span of a session as a whole, `invoke_agent`: made of its record alone, whoever wrote that.

Of a user's session this span is all there is. The gateway sees answers pass and calls proposed, and not which of them
were made, nor how long they took: spans of them would be made up. The record's sums and its sequence of tools stand on
the root.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from agentrl.errors import AgentRLError
from agentrl.monitoring import genai
from agentrl.monitoring.content import Content
from agentrl.monitoring.durations import nanoseconds, seconds_of
from agentrl.monitoring.genai import Operation, named
from agentrl.monitoring.session_record import SessionRecord
from agentrl.types import FailureClass

FLAG = "agentrl.release"
"""What puts sessions into arms, as feature flags have names."""


@dataclass(frozen=True)
class SpanEvent:
    """Something at one moment of a span."""

    name: str
    at_ns: int
    attributes: Mapping[str, object]


@dataclass(frozen=True)
class Span:
    """One operation; times are nanoseconds since 1970."""

    name: str
    operation: Operation
    trace_id: int
    span_id: int
    parent_id: int | None
    start_ns: int
    end_ns: int
    attributes: Mapping[str, object]
    events: tuple[SpanEvent, ...] = ()
    error: str = ""
    """`error.type`, of a span whose operation failed."""


def user_span(
    record: SessionRecord, *, is_again: bool = False, content: Content | None = None, said: object = None
) -> Span:
    """The span of a user's session. In shadow both arms have the session's id, so that the ids are of all three.

    Args:
        is_again: it was sent before; since then people or measurements said more of it.
        content: how much of what was said is sent; None sends digests.
        said: what `gateway.keep_content` has kept: {messages: [...]}, the last of them the answer.

    Raises:
        AgentRLError: nobody knows when it ended.
    """
    if record.ended_at is None:
        raise AgentRLError(f"session {record.session_id}: has no end, so it cannot be put in time")
    end = nanoseconds(datetime.fromisoformat(record.ended_at).timestamp())
    identity = f"{record.run_id}/{record.session_id}/{record.arm}"
    messages = _messages(said)
    texts: dict[str, object] = {}
    if content is not None and messages:
        texts["input_messages"] = content.messages(messages[:-1])
        texts["output_messages"] = content.messages(messages[-1:])
    return root_span(record, identity, end, said=texts, more={genai.RELABELLED: True} if is_again else {})


def root_span(
    record: SessionRecord,
    identity: str,
    end_ns: int,
    *,
    said: Mapping[str, object],
    explanation: str | None = None,
    more: Mapping[str, object] | None = None,
) -> Span:
    """The root of a session's trace.

    Args:
        identity: that the ids are made of.
        said: messages, by the keys of `genai.MESSAGES`.
        explanation: the grader's words.
        more: further attributes.
    """
    return Span(
        name=f"{Operation.INVOKE_AGENT} {record.agent}",
        operation=Operation.INVOKE_AGENT,
        trace_id=trace_id(identity),
        span_id=span_id(identity, "root"),
        parent_id=None,
        start_ns=end_ns - nanoseconds(seconds_of(record.duration_ms)),
        end_ns=end_ns,
        attributes={
            **common(Operation.INVOKE_AGENT),
            **named(genai.SESSION, asdict(record)),
            **named(genai.MESSAGES, said),
            **(more or {}),
        },
        events=tuple(_events(record, end_ns, explanation)),
        error=record.failure_class or "",
    )


def _events(record: SessionRecord, at: int, explanation: str | None) -> Iterator[SpanEvent]:
    """The verdict of each grader, and the arm of a release."""
    versions: dict[str, object] = {
        "version": record.grader_version,
        "reward_model_version": record.reward_model_version,
    }
    is_broken = record.failure_class == FailureClass.GRADER.value
    is_judged = record.score is not None or record.success is not None
    verdict: dict[str, object] = {
        "name": record.grader,
        "score": record.score,
        "label": None if record.success is None else "pass" if record.success else "fail",
        "error": FailureClass.GRADER.value if is_broken else None,
        "explanation": explanation,
    }
    found = [verdict | versions] if is_judged or is_broken else []  # else nobody has said anything yet
    if is_judged or is_broken or record.failure_class is None:  # else no grader was asked
        found += [
            {"name": f"{record.grader}.{name}", "score": score} | versions for name, score in record.sub_scores.items()
        ]
        found += [{"name": name, "score": score, "is_holdout": True} for name, score in record.holdout_scores.items()]
        found += [
            {"name": name, "error": FailureClass.GRADER.value, "is_holdout": True} for name in record.holdout_missing
        ]
    for values in found:
        yield SpanEvent(genai.EVALUATION_EVENT, at, named(genai.EVALUATION, values))
    if record.arm is not None:
        assigned = {
            "flag": FLAG,
            "arm": record.arm,
            "session_id": record.session_id,
            "version": record.bundle_id,
        }
        yield SpanEvent(genai.ARM_EVENT, at, named(genai.ARM, assigned))


def _messages(said: object) -> list[dict[str, object]]:
    """What was kept, as messages; a text alone is the user's."""
    found = said.get("messages") if isinstance(said, Mapping) else None
    if not isinstance(found, list):
        return []
    return [each if isinstance(each, dict) else {"role": "user", "content": str(each)} for each in found]


def common(operation: Operation) -> dict[str, object]:
    """What every span of an operation says."""
    provider = {} if operation is Operation.EXECUTE_TOOL else {genai.PROVIDER_NAME: genai.PROVIDER}
    return {genai.OPERATION_NAME: operation.value, **provider}


def trace_id(rollout_id: str) -> int:
    """128 bits: the id that every tool and grader call of the rollout carried, so that logs and traces meet."""
    try:
        return uuid.UUID(rollout_id.removeprefix("trace_")).int
    except ValueError:
        return int.from_bytes(hashlib.sha256(rollout_id.encode()).digest()[:16], "big")


def span_id(rollout_id: str, place: str) -> int:
    """64 bits: the same span has the same id whenever it is exported."""
    return int.from_bytes(hashlib.sha256(f"{rollout_id}/{place}".encode()).digest()[:8], "big")
