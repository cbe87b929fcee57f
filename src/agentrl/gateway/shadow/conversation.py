"""A user's turn, from the last request of it: what was said before, what the baseline did, what it answered.

Clients run their tools themselves and send the whole conversation each time, so that the request behind a final answer
holds all calls of the turn with their results.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.gateway.shadow.replay import Call, RecordedCall
from agentrl.gateway.turns import FinishedTurn

CHAT, RESPONSES = "chat/completions", "responses"
LEFT_OUT = ("model", "stream", "stream_options", "tool_choice", "store", "n", "web_search_options", "background")
"""Of the request. A tool choice is of the last request alone, which often forbids tools; the others have no meaning for
a copy, or would have a server do something."""


class NotCopied(Exception):  # what happened, as in asyncio
    """A turn that cannot be reconstructed; the message is a short reason that is counted."""


@dataclass(frozen=True)
class Said:
    """One answer of a model."""

    text: str
    calls: tuple[Call, ...]
    items: tuple[dict[str, Any], ...] = field(repr=False)
    """What the conversation goes on with."""


@dataclass(frozen=True)
class UserTurn:
    """What the user asked, and what the baseline made of it."""

    path: str
    number: int
    """Of the user's messages in the session, from 1."""
    before: tuple[dict[str, Any], ...] = field(repr=False)
    """The conversation up to and with the user's message, as messages or input items."""
    trace: tuple[RecordedCall, ...] = field(repr=False)
    answer: str = field(repr=False)
    settings: Mapping[str, Any] = field(repr=False)
    """All else of the request: tools, sampling, instructions."""

    @property
    def chars(self) -> int:
        """About how long the conversation is."""
        texts = [str(each.get("content") or "") for each in self.before]
        return sum(map(len, texts)) + sum(len(str(each.output)) for each in self.trace) + len(self.answer)

    def body(self, model: str, more: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A request of the copy; never streamed, never stored."""
        items = [*self.before, *more]
        if self.path == RESPONSES:
            return {**self.settings, "model": model, "input": items, "store": False}
        return {**self.settings, "model": model, "messages": items}

    def result_item(self, call: Call, output: Any) -> dict[str, Any]:
        """What a tool answered, as the protocol has it."""
        if self.path == RESPONSES:
            return {"type": "function_call_output", "call_id": call.id, "output": output}
        return {"role": "tool", "tool_call_id": call.id, "content": output}

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation up to the user's message as chat messages, for a grader."""
        if self.path == CHAT:
            return list(self.before)
        said = [{"role": "system", "content": str(text)} for text in [self.settings.get("instructions")] if text]
        return said + [
            {"role": str(each["role"]), "content": _text_of(each.get("content"))}
            for each in self.before
            if "role" in each
        ]


def user_turn(turn: FinishedTurn) -> UserTurn | None:
    """The user's turn that a request has ended; None where the baseline wants tools, so that it goes on.

    Raises:
        NotCopied: the request does not hold the turn, or is of another protocol.
    """
    if turn.path not in (CHAT, RESPONSES):
        raise NotCopied("other path")
    is_chat = turn.path == CHAT
    said = read_chat(turn.reply) if is_chat else read_responses(turn.reply)
    if said.calls:
        return None
    if not is_chat and (turn.request.get("previous_response_id") or turn.request.get("conversation")):
        raise NotCopied("conversation kept by the server")
    items = _items(turn.request.get("messages" if is_chat else "input"))
    asked = [index for index, item in enumerate(items) if item.get("role") == "user"]
    if not asked:
        raise NotCopied("no message of a user")
    before, after = items[: asked[-1] + 1], items[asked[-1] + 1 :]
    settings = {key: value for key, value in turn.request.items() if key not in (*LEFT_OUT, "messages", "input")}
    if "tools" in settings:  # a server's own tools would be carried out there
        tools = settings["tools"] if isinstance(settings["tools"], list) else []
        settings["tools"] = [each for each in tools if isinstance(each, dict) and each.get("type") == "function"]
        if not settings["tools"]:
            del settings["tools"]
            settings.pop("parallel_tool_calls", None)
    trace = _chat_trace(after) if is_chat else _responses_trace(after)
    return UserTurn(turn.path, len(asked), tuple(before), tuple(trace), said.text, settings)


def read_reply(path: str, body: Mapping[str, Any]) -> Said:
    """What a server answered a copy.

    Raises:
        ValueError: it is no answer of this protocol.
    """
    if path == RESPONSES:
        if not isinstance(body.get("output"), list):
            raise ValueError("the answer has no `output`")
        return read_responses(body)
    choices = body.get("choices")
    first = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    if not isinstance(message := first.get("message"), dict):
        raise ValueError("the answer has no `choices[0].message`")
    return read_chat(message)


def read_chat(message: Mapping[str, Any]) -> Said:
    """An assistant's message."""
    calls = [call for each in _items(message.get("tool_calls")) if (call := _chat_call(each)) is not None]
    kept: dict[str, Any] = {"role": "assistant", "content": message.get("content")}
    if calls:
        kept["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in calls
        ]
    return Said(_text_of(message.get("content")), tuple(calls), (kept,))


def read_responses(response: Mapping[str, Any]) -> Said:
    """A response object."""
    output = _items(response.get("output"))
    calls = [_responses_call(each) for each in output if each.get("type") == "function_call"]
    text = "".join(_text_of(each.get("content")) for each in output if each.get("type") == "message")
    kept = [each for each in output if each.get("type") in ("message", "function_call", "reasoning")]
    return Said(text, tuple(calls), tuple(kept))


def _chat_trace(items: Sequence[Mapping[str, Any]]) -> list[RecordedCall]:
    results = {each.get("tool_call_id"): each.get("content") for each in items if each.get("role") == "tool"}
    calls = [call for each in items if each.get("role") == "assistant" for call in read_chat(each).calls]
    return [RecordedCall(call, results[call.id]) for call in calls if call.id in results]


def _responses_trace(items: Sequence[Mapping[str, Any]]) -> list[RecordedCall]:
    results = {each.get("call_id"): each.get("output") for each in items if each.get("type") == "function_call_output"}
    calls = [_responses_call(each) for each in items if each.get("type") == "function_call"]
    return [RecordedCall(call, results[call.id]) for call in calls if call.id in results]


def _chat_call(found: Mapping[str, Any]) -> Call | None:
    function = found.get("function")
    if not isinstance(function, Mapping):
        return None
    return Call(_word(function.get("name")), _word(function.get("arguments")), _word(found.get("id")))


def _responses_call(found: Mapping[str, Any]) -> Call:
    return Call(_word(found.get("name")), _word(found.get("arguments")), _word(found.get("call_id")))


def _items(found: Any) -> list[dict[str, Any]]:
    if isinstance(found, str):  # the short form of `input`
        return [{"role": "user", "content": found}]
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list | tuple) else []


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(_word(part.get("text")) for part in _items(content)) if isinstance(content, list | tuple) else ""


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
