"""What was said, fit to be sent: only where it was asked for, cut to a size, without what looks secret or personal.

A name or an address in words is not recognised: whoever sends content sends what their tasks are about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.monitoring.redaction import redact_text
from agentrl.monitoring.session_record import executed_calls
from agentrl.types import Message, Rollout, Turn


@dataclass(frozen=True)
class Content:
    """How much of what was said is sent."""

    max_chars: int

    def text(self, text: str) -> str:
        """Redacted, then cut: a secret is never half there."""
        text = redact_text(text)
        if len(text) <= self.max_chars:
            return text
        return f"{text[: self.max_chars]} ... ({len(text) - self.max_chars} characters cut)"

    def messages(self, messages: Iterable[Message]) -> str:
        """A conversation in the form of the conventions, as JSON."""
        return _json([self._message(message) for message in messages])

    def answer(self, text: str, reason: str) -> str:
        """What the model said last, in that form."""
        return _json([{"role": "assistant", "parts": [self._text(text)], "finish_reason": reason}])

    def said(self, turn: Turn, reason: str) -> str:
        """One turn of the model, as it wrote it."""
        return self.answer(turn.text, reason)

    def read(self, rollout: Rollout, index: int) -> str:
        """What is new to the model in a turn: the task, or what tools answered; all before is in earlier turns."""
        if index == 0:
            return self.messages(rollout.task.messages)
        parts = [
            {"type": "tool_call_response", "id": call.id, "response": self.text(result.output)}
            for call, result in executed_calls(rollout.turns[index - 1])
        ]
        return _json([{"role": "tool", "parts": parts}])

    def _message(self, message: Message) -> dict[str, Any]:
        role, content = message.get("role", ""), message.get("content")
        if role == "tool":
            call = message.get("tool_call_id")
            return {"role": role, "parts": [{"type": "tool_call_response", "id": call, **self._response(content)}]}
        parts = [self._text(each) for each in _texts(content)]
        for call in message.get("tool_calls") or ():
            function = call.get("function", {})
            arguments = self.text(str(function.get("arguments", "")))
            parts.append(
                {"type": "tool_call", "id": call.get("id"), "name": function.get("name"), "arguments": arguments}
            )
        return {"role": role, "parts": parts}

    def _response(self, content: Any) -> dict[str, str]:
        return {"response": self.text("\n".join(_texts(content)))}

    def _text(self, text: str) -> dict[str, Any]:
        return {"type": "text", "content": self.text(text)}


def _texts(content: Any) -> Sequence[str]:
    """The texts of a message: its content is a text or a list of parts, of which pictures are not sent."""
    if isinstance(content, str):
        return (content,)
    return [part["text"] for part in content or () if isinstance(part, dict) and isinstance(part.get("text"), str)]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
