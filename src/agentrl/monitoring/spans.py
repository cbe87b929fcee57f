"""A session as spans: `invoke_agent`, below it a `chat` for each turn and an `execute_tool` for each call.

    invoke_agent finqa-agent      [-------------------------------]   gen_ai.evaluation.result for each grader
      chat finqa-agent             [-----]           [----------]
      execute_tool search                 [---]
      execute_tool cat                    [-----]

Made from the record and the rollout after the fact: durations are those that were measured, the order is that of the
episode, and the session is put so that it ends when its batch did. The trace's id is the rollout's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from agentrl.monitoring import genai
from agentrl.monitoring.content import Content
from agentrl.monitoring.durations import nanoseconds
from agentrl.monitoring.genai import Operation, named
from agentrl.monitoring.root_span import Span, common, root_span, span_id, trace_id
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


def spans_of(
    rollout: Rollout, context: SessionContext, *, ended_at: float, content: Content | None = None
) -> list[Span]:
    """The spans of one session, its root first.

    Args:
        ended_at: seconds since 1970.
        content: how much of what was said is sent; None sends digests.
    """
    record = session_record(rollout, context, ended_at=ended_at)
    said: dict[str, object] = {}
    if content:
        said["input_messages"] = content.messages(rollout.task.messages)
        said["output_messages"] = content.answer(rollout.answer, _finish_reason(rollout, len(rollout.turns) - 1))
    explanation = content.text(rollout.grade.explanation or rollout.grade.reason) or None if content else None
    root = root_span(record, rollout.id, nanoseconds(ended_at), said=said, explanation=explanation)
    below = _Below(rollout, record, context, content, root.span_id, root.end_ns)
    return [root, *below.spans(root.start_ns)]


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
            span_id=span_id(self.rollout.id, place),
            parent_id=self.root_id,
            start_ns=start,
            end_ns=end,
            attributes={**common(operation), **named(table, values), **named(genai.MESSAGES, said or {})},
            error=str(error),
        )

    def _after(self, at: int, seconds: float) -> int:
        """No span ends after the session, whatever rounding did."""
        return min(at + nanoseconds(seconds), self.end)


def _finish_reason(rollout: Rollout, index: int) -> str:
    is_last = index == len(rollout.turns) - 1
    if is_last and rollout.stop_reason is StopReason.TOKEN_BUDGET:
        return "length"
    return "tool_call" if index >= 0 and rollout.turns[index].tool_calls else "stop"
