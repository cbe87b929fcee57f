"""A session as spans: `invoke_agent`, below it a `chat` for each turn and an `execute_tool` for each call.

    invoke_agent finqa-agent      [-------------------------------]   gen_ai.evaluation.result for each grader
      chat finqa-agent             [-----]           [----------]
      execute_tool search                 [---]
      execute_tool cat                    [-----]

Made from the record and the rollout after the fact: durations are those that were measured, the order is that of the
episode, and the session is put so that it ends when its batch did. The trace's id is the rollout's own.
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass

from agentrl.monitoring import genai
from agentrl.monitoring.content import Content
from agentrl.monitoring.durations import nanoseconds
from agentrl.monitoring.genai import Operation, named
from agentrl.monitoring.session_record import (
    SessionContext,
    SessionRecord,
    digest,
    executed_calls,
    safe_id,
    session_record,
    tokens_read,
    tool_name,
    tool_seconds,
)
from agentrl.types import FailureClass, Rollout, StopReason, ToolCall, ToolResult

TOOL_ERROR = "tool_error"
"""`error.type` of a call that was answered with an error for the model to read; all others are failure classes."""


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


def spans_of(
    rollout: Rollout, context: SessionContext, *, ended_at: float, content: Content | None = None
) -> list[Span]:
    """The spans of one session, its root first.

    Args:
        ended_at: seconds since 1970.
        content: how much of what was said is sent; None sends digests.
    """
    record = session_record(rollout, context, ended_at=ended_at)
    end = nanoseconds(ended_at)
    start = end - nanoseconds(rollout.seconds)
    root_id = _span_id(rollout.id, "root")
    said: dict[str, object] = {}
    if content:
        said["input_messages"] = content.messages(rollout.task.messages)
        said["output_messages"] = content.answer(rollout.answer, _finish_reason(rollout, len(rollout.turns) - 1))
    root = Span(
        name=f"{Operation.INVOKE_AGENT} {record.agent}",
        operation=Operation.INVOKE_AGENT,
        trace_id=trace_id(rollout.id),
        span_id=root_id,
        parent_id=None,
        start_ns=start,
        end_ns=end,
        attributes={
            **_common(Operation.INVOKE_AGENT),
            **named(genai.SESSION, asdict(record)),
            **named(genai.MESSAGES, said),
        },
        events=tuple(_events(rollout, record, end, content)),
        error=record.failure_class or "",
    )
    below = _Below(rollout, record, context, content, root_id, end)
    return [root, *below.spans(start)]


@dataclass(frozen=True)
class _Below:
    """What the spans below the root have in common."""

    rollout: Rollout
    record: SessionRecord
    context: SessionContext
    content: Content | None
    root_id: int
    end: int

    def spans(self, start: int) -> Iterator[Span]:
        """Turn by turn, calls of one turn side by side."""
        read, at = tokens_read(self.rollout), start
        for index, turn in enumerate(self.rollout.turns):
            yield self._chat(index, at, read[index] if self.rollout.prompt_ids else None)
            at = self._after(at, turn.seconds)
            for number, (call, result) in enumerate(executed_calls(turn, self.context.tools)):
                yield self._call(index, number, call, result, at, self._after(at, result.seconds))
            at = self._after(at, tool_seconds(turn))
        yield from self._broken(at)

    def _broken(self, at: int) -> Iterator[Span]:
        """What was under way when the session broke: the calls of the last turn, or a generation."""
        last, failure = len(self.rollout.turns) - 1, self.rollout.failure_class
        if failure in (FailureClass.TOOL, FailureClass.SANDBOX) and last >= 0:
            if not self.rollout.turns[last].tool_results:
                for number, call in enumerate(self.rollout.turns[last].tool_calls):
                    yield self._call(last, number, call, None, at, self.end, failure.value)
        elif failure is FailureClass.ENGINE:
            values = {"conversation": self.record.session_id, "request_model": self.record.agent, "index": last + 1}
            yield self._span(
                Operation.CHAT, self.record.agent, f"chat/{last + 1}", at, self.end, genai.TURN, values, failure
            )

    def _chat(self, index: int, at: int, tokens_in: int | None) -> Span:
        turn, reason = self.rollout.turns[index], _finish_reason(self.rollout, index)
        values = {
            "conversation": self.record.session_id,
            "request_model": self.record.agent,
            "response_model": self.record.policy_version,
            "tokens_in": tokens_in,
            "tokens_out": turn.output_tokens,
            "tokens_reasoning": turn.reasoning_tokens,
            "finish_reasons": (reason,),
            "policy_version": self.record.policy_version,
            "index": index,
            "attempts": turn.attempts,
            "output_digest": digest(turn.text),
        }
        said: dict[str, object] = {}
        if self.content:
            said["input_messages"] = self.content.read(self.rollout, index)
            said["output_messages"] = self.content.said(turn, reason)
        end = self._after(at, turn.seconds)
        return self._span(Operation.CHAT, self.record.agent, f"chat/{index}", at, end, genai.TURN, values, said=said)

    def _call(
        self, index: int, number: int, call: ToolCall, result: ToolResult | None, at: int, end: int, error: str = ""
    ) -> Span:
        name = tool_name(call.name, self.context.tools)
        values = {
            "conversation": self.record.session_id,
            "name": name,
            "type": "function",
            "id": safe_id(call.id),
            "attempts": result.attempts if result else None,
            "is_cut": True if result and result.is_cut else None,
            "arguments_digest": digest(call.arguments),
            "result_digest": digest(result.output) if result else None,
        }
        if self.content:
            values["arguments"] = self.content.text(call.arguments)
            values["result"] = self.content.text(result.output) if result else None
        failed = error or (TOOL_ERROR if result and result.is_error else "")
        return self._span(Operation.EXECUTE_TOOL, name, f"tool/{index}/{number}", at, end, genai.CALL, values, failed)

    def _span(
        self,
        operation: Operation,
        about: str,
        place: str,
        start: int,
        end: int,
        table: Mapping[str, tuple[str, ...]],
        values: Mapping[str, object],
        error: str = "",
        said: Mapping[str, object] | None = None,
    ) -> Span:
        values = {**values, "error": str(error) or None}
        return Span(
            name=f"{operation} {about}",
            operation=operation,
            trace_id=trace_id(self.rollout.id),
            span_id=_span_id(self.rollout.id, place),
            parent_id=self.root_id,
            start_ns=start,
            end_ns=end,
            attributes={**_common(operation), **named(table, values), **named(genai.MESSAGES, said or {})},
            error=str(error),
        )

    def _after(self, at: int, seconds: float) -> int:
        """No span ends after the session, whatever rounding did."""
        return min(at + nanoseconds(seconds), self.end)


def _events(rollout: Rollout, record: SessionRecord, at: int, content: Content | None) -> Iterator[SpanEvent]:
    """The verdict of each grader, and the arm of a release."""
    grade = rollout.grade
    common: dict[str, object] = {"version": record.grader_version, "reward_model_version": record.reward_model_version}
    if rollout.failure_class in (None, FailureClass.GRADER):  # else nobody was asked
        verdict: dict[str, object] = {
            "name": record.grader,
            "score": record.score,
            "label": None if record.success is None else "pass" if record.success else "fail",
            "error": None if record.score is not None else FailureClass.GRADER.value,
            "explanation": content.text(grade.explanation or grade.reason) or None if content else None,
        }
        parts: list[dict[str, object]] = [
            {"name": f"{record.grader}.{name}", "score": score} for name, score in record.sub_scores.items()
        ]
        holdouts: list[dict[str, object]] = [
            {"name": name, "score": score, "is_holdout": True} for name, score in record.holdout_scores.items()
        ]
        holdouts += [
            {"name": name, "error": FailureClass.GRADER.value, "is_holdout": True} for name in record.holdout_missing
        ]
        for values in (verdict | common, *(part | common for part in parts), *holdouts):
            yield SpanEvent(genai.EVALUATION_EVENT, at, named(genai.EVALUATION, values))
    if record.arm is not None:
        values = {
            "flag": "agentrl.release",
            "arm": record.arm,
            "session_id": record.session_id,
            "version": record.bundle_id,
        }
        yield SpanEvent(genai.ARM_EVENT, at, named(genai.ARM, values))


def _common(operation: Operation) -> dict[str, object]:
    provider = {} if operation is Operation.EXECUTE_TOOL else {genai.PROVIDER_NAME: genai.PROVIDER}
    return {genai.OPERATION_NAME: operation.value, **provider}


def _finish_reason(rollout: Rollout, index: int) -> str:
    is_last = index == len(rollout.turns) - 1
    if is_last and rollout.stop_reason is StopReason.TOKEN_BUDGET:
        return "length"
    return "tool_call" if index >= 0 and rollout.turns[index].tool_calls else "stop"


def trace_id(rollout_id: str) -> int:
    """128 bits: the id that every tool and grader call of the rollout carried, so that logs and traces meet."""
    try:
        return uuid.UUID(rollout_id.removeprefix("trace_")).int
    except ValueError:
        return int.from_bytes(hashlib.sha256(rollout_id.encode()).digest()[:16], "big")


def _span_id(rollout_id: str, place: str) -> int:
    """64 bits: the same span has the same id whenever it is exported."""
    return int.from_bytes(hashlib.sha256(f"{rollout_id}/{place}".encode()).digest()[:8], "big")
