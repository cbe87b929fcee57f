"""What a grader is shown of an episode: `sample` and `item` of the wire format, and the rollout where there is one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from agentrl.strict_json import strict_json
from agentrl.types import Rollout, StopReason, ToolCall, Turn

FINISH_REASONS = {StopReason.TOKEN_BUDGET: "length", StopReason.TIME_LIMIT: "length"}
"""In chat-completions terms; a last turn with calls is "tool_calls", everything else "stop"."""


@dataclass(frozen=True)
class Submission:
    """One answer, to be graded."""

    sample: dict[str, Any]
    """`output_text`, `output_json` (null where the text is no JSON), `output_tools` (all calls of the episode, as in
    chat completions), `choices`, `output_reasoning_summary`."""
    item: dict[str, Any]
    """The row of the data set, its `messages` included."""
    trace_id: str = ""
    rollout: Rollout | None = field(default=None, repr=False)
    """The episode; None where only a text is graded, as in graders/run."""

    @classmethod
    def of_rollout(cls, rollout: Rollout) -> Submission:
        """The last turn's text with the calls of all turns."""
        last_calls = rollout.turns[-1].tool_calls if rollout.turns else ()
        message: dict[str, Any] = {"role": "assistant", "content": rollout.answer}
        if last_calls:
            message["tool_calls"] = [chat_call(call) for call in last_calls]
        finish_reason = FINISH_REASONS.get(rollout.stop_reason, "tool_calls" if last_calls else "stop")
        calls = [chat_call(call) for call in rollout.tool_calls]
        item = {**rollout.task.item, "messages": list(rollout.task.messages)}
        return cls(_sample(rollout.answer, message, calls, finish_reason), item, rollout.id, rollout)

    @classmethod
    def of_text(cls, answer: str, item: dict[str, Any], trace_id: str = "") -> Submission:
        """An answer without an episode."""
        message = {"role": "assistant", "content": answer}
        return cls(_sample(answer, message, [], "stop"), item, trace_id)

    @property
    def answer(self) -> str:
        return str(self.sample.get("output_text") or "")

    def with_turns(self) -> Submission:
        """The same with `sample.turns`: what the policy wrote in each, its calls, and what they were answered."""
        turns = self.rollout.turns if self.rollout else ()
        return Submission({**self.sample, "turns": list(map(_turn, turns))}, self.item, self.trace_id, self.rollout)


def _sample(answer: str, message: dict[str, Any], calls: list[dict[str, Any]], finish_reason: str) -> dict[str, Any]:
    return {
        "output_text": answer,
        "output_json": _json_or_none(answer),
        "output_tools": calls,
        "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
        "output_reasoning_summary": None,
    }


def _turn(turn: Turn) -> dict[str, Any]:
    results = [{"call_id": result.call_id, "output": result.output} for result in turn.tool_results]
    return {"text": turn.text, "tool_calls": [chat_call(call) for call in turn.tool_calls], "tool_results": results}


def chat_call(call: ToolCall) -> dict[str, Any]:
    """A call as chat completions write it."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _json_or_none(text: str) -> Any:
    try:
        return strict_json(text)
    except (ValueError, RecursionError):
        return None


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: what digests are taken of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
