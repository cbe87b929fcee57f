"""Answers on their way: event streams passed on as they come, and what is learnt of them in passing.

Two things are changed and nothing else: the server's name of the policy, which would tell a user his arm, becomes the
name that the client asked for; and a last event with token counts that only the gateway asked for is left out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from agentrl.gateway.turns import Usage

END_OF_EVENT = re.compile(rb"\n\n|\r\n\r\n|\r\r")
MAX_EVENT_BYTES = 1_000_000
"""Of an event that does not end; what is longer is passed on as it is and not read."""
MAX_TEXT_CHARS = 4_000_000
"""Of an answer that is put together."""


@dataclass(frozen=True)
class Renaming:
    """The server's name of the model, replaced where JSON has it as the value of `model`.

    Inside a JSON text every quote has a backslash before it, so that what the model says is never touched.
    """

    pattern: re.Pattern[bytes] | None
    name: bytes

    @classmethod
    def of(cls, served: str, asked: str) -> Renaming:
        """From what the server calls it to what the client called it."""
        if not asked or served == asked:
            return cls(None, b"")
        forms = {json.dumps(served), json.dumps(served, ensure_ascii=False), json.dumps(served).replace("/", "\\/")}
        values = b"|".join(re.escape(form.encode()) for form in sorted(forms))
        name = json.dumps(asked).encode()
        return cls(re.compile(rb'("model"\s*:\s*)(?:' + values + rb")"), name)

    def __call__(self, content: bytes) -> bytes:
        if self.pattern is None or b'"model"' not in content:
            return content
        return self.pattern.sub(lambda found: found[1] + self.name, content)


@dataclass
class Reply:
    """What an answer was, put together from its events or read from its body."""

    is_responses: bool
    id: str = ""
    finish_reason: str = ""
    usage: Usage | None = None
    is_done: bool = False
    """The server said that nothing follows."""
    whole: dict[str, Any] = field(default_factory=dict)
    _text: list[str] = field(default_factory=list)
    _chars: int = 0
    _calls: dict[int, dict[str, Any]] = field(default_factory=dict)

    @property
    def message(self) -> dict[str, Any]:
        """chat/completions: the assistant's message; responses: the response object."""
        if self.whole or self.is_responses:
            return self.whole
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._text) or None}
        if self._calls:
            message["tool_calls"] = [self._calls[index] for index in sorted(self._calls)]
        return message

    @property
    def proposed_calls(self) -> list[str]:
        """Names of the tools that the model wants called, in order."""
        if self.is_responses:
            items = self.whole.get("output")
            calls = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
            return [str(call.get("name")) for call in calls if call.get("type") == "function_call"]
        proposed = self.message.get("tool_calls")
        each = proposed if isinstance(proposed, list) else ()
        found = [call.get("function") for call in each if isinstance(call, dict)]
        return [str(function.get("name")) for function in found if isinstance(function, dict)]

    @property
    def text(self) -> str:
        """What it said, without its calls of tools."""
        if not self.is_responses:
            content = self.message.get("content")
            return content if isinstance(content, str) else ""
        items = self.whole.get("output")
        parts = [
            part.get("text", "")
            for item in (items if isinstance(items, list) else ())
            if isinstance(item, dict) and item.get("type") == "message" and isinstance(item.get("content"), list)
            for part in item["content"]
            if isinstance(part, dict)
        ]
        return "".join(part for part in parts if isinstance(part, str))

    def read_body(self, body: dict[str, Any]) -> None:
        """An answer that was not streamed."""
        self.is_done = True
        self.id = body["id"] if isinstance(body.get("id"), str) else ""
        self._read_usage(body.get("usage"))
        if self.is_responses:
            self.whole, self.finish_reason = body, _text_of(body.get("status"))
            return
        choices = body.get("choices")
        first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        message = first.get("message")
        self.whole = message if isinstance(message, dict) else {}
        self.finish_reason = _text_of(first.get("finish_reason"))

    def read_event(self, event: bytes) -> bool:
        """One event of a stream; True where it has token counts and nothing else.

        What is no event of the protocol is passed over: the client reads it, not the gateway.
        """
        payload = b"\n".join(line[5:].strip() for line in event.splitlines() if line.startswith(b"data:"))
        if payload == b"[DONE]":
            self.is_done = True
            return False
        try:
            body = json.loads(payload)
        except (ValueError, RecursionError):
            return False
        if not isinstance(body, dict):
            return False
        return self._read_response_event(body) if self.is_responses else self._read_chunk(body)

    def _read_chunk(self, body: dict[str, Any]) -> bool:
        if not self.id and isinstance(body.get("id"), str):
            self.id = body["id"]
        if body.get("usage") is not None:
            self._read_usage(body["usage"])
        choices = body.get("choices")
        if not isinstance(choices, list) or not choices:
            return choices == [] and isinstance(body.get("usage"), dict)
        for choice in choices:
            if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                continue
            if isinstance(choice.get("finish_reason"), str):
                self.finish_reason = choice["finish_reason"]
            delta = choice.get("delta")
            if isinstance(delta, dict):
                self._read_delta(delta)
        return False

    def _read_delta(self, delta: dict[str, Any]) -> None:
        text = delta.get("content")
        if isinstance(text, str) and self._chars < MAX_TEXT_CHARS:
            self._text.append(text)
            self._chars += len(text)
        for call in delta.get("tool_calls") or ():
            if not isinstance(call, dict) or not isinstance(index := call.get("index", 0), int):
                continue
            new: dict[str, Any] = {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
            known = self._calls.setdefault(index, new)
            given = call.get("function")
            function: dict[str, Any] = given if isinstance(given, dict) else {}
            known["id"] = known["id"] or _text_of(call.get("id"))
            known["function"]["name"] += _text_of(function.get("name"))
            arguments = _text_of(function.get("arguments"))
            if self._chars < MAX_TEXT_CHARS:
                known["function"]["arguments"] += arguments
                self._chars += len(arguments)

    def _read_response_event(self, body: dict[str, Any]) -> bool:
        response = body.get("response")
        if isinstance(response, dict):
            if isinstance(response.get("id"), str):
                self.id = response["id"]
            if body.get("type") in ("response.completed", "response.incomplete", "response.failed"):
                self.is_done, self.whole = True, response
                self.finish_reason = _text_of(response.get("status"))
                self._read_usage(response.get("usage"))
        return False

    def _read_usage(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        names = ("input_tokens", "output_tokens") if self.is_responses else ("prompt_tokens", "completion_tokens")
        counts = [usage.get(name) for name in names]
        if all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 10**9 for count in counts):
            self.usage = Usage(*counts)  # type: ignore[arg-type]


class EventStream:
    """Bytes of a server in, bytes for the client out, event by event.

    An event is held until it is complete, which no client could have read before.

    Args:
        drops_counts: the gateway asked for the token counts, the client did not.
    """

    def __init__(self, reply: Reply, renaming: Renaming, *, drops_counts: bool) -> None:
        self._reply = reply
        self._renaming = renaming
        self._drops_counts = drops_counts
        self._held = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        """What of it can go on."""
        held, new = self._held, max(0, len(self._held) - 3)  # what was held has no end but one that it begins
        held += chunk
        sent: list[bytes] = []
        start = 0
        for end in [found.end() for found in END_OF_EVENT.finditer(held, new)]:
            event = bytes(held[start:end])
            start = end
            has_counts_only = self._reply.read_event(event)
            if not (has_counts_only and self._drops_counts):
                sent.append(self._renaming(event))
        del held[:start]
        if len(self._held) > MAX_EVENT_BYTES:
            sent.append(self.rest())
        return b"".join(sent)

    def rest(self) -> bytes:
        """What was held, at the end."""
        held, self._held = bytes(self._held), bytearray()
        return self._renaming(held)


def error_event(body: dict[str, Any]) -> bytes:
    """The end of a stream that broke off, as OpenAI's clients read it; no [DONE] follows."""
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""
