"""A chat completion as a turn: what was said, which tools were called, and what it cost in tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentrl.chat import ParsedTurn
from agentrl.chat.syntaxes import HERMES
from agentrl.chat.turn import WrittenCall, read_json, written_call
from agentrl.grading.judges.reply import no_completion, spent_by
from agentrl.printable import printable
from agentrl.types import Message, ToolCall

THOUGHT_KEYS = ("reasoning_content", "reasoning")
"""Where servers put thoughts that they tell."""
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")
END_OF_THOUGHT = "</think>"
MAX_DEPTH = 100
"""Of a completion's values within each other: writing it again takes a call each."""
MAX_MODEL_CHARS = 200
FILTERED = "(the server's content filter held this reply back)"


@dataclass(frozen=True)
class ApiReply:
    """One turn of a model behind an API."""

    parsed: ParsedTurn
    is_truncated: bool
    message: Message = field(repr=False)
    """What goes back to the server as the assistant's turn."""
    call_ids: tuple[str, ...] = ()
    """The server's ids of the calls, then of those that could not be read, as they stand in `message`."""
    model: str = ""
    """As the server calls it."""
    has_usage: bool = True
    prompt_tokens: int = 0
    """Of the whole request."""
    output_tokens: int = 0
    """Thoughts included."""
    reasoning_tokens: int = 0
    seconds: float = 0.0
    attempts: int = 1


def unusable(body: dict[str, Any]) -> str:
    """What is wrong with the body of a 2xx reply; empty where it is a completion."""
    if problem := no_completion(body):
        return problem
    if _is_deeper(body, MAX_DEPTH):
        return f"answered with values more than {MAX_DEPTH} deep"
    return "answered that the model failed" if body["choices"][0].get("finish_reason") == "error" else ""


def read_reply(body: dict[str, Any], call_id_prefix: str) -> ApiReply:
    """Take a completion apart. Never raises: calls that cannot be read are malformed, as a policy's are.

    A refusal is an answer, and so is what a content filter leaves: whoever uses the model gets no other.
    """
    body = _whole(body)
    choice = body["choices"][0]
    message, reason = choice["message"], choice.get("finish_reason")
    given = [call for call in _listed(message.get("tool_calls")) if isinstance(call, dict)]
    written = [_written(call) for call in given]
    calls, malformed = [], []
    for index, (call, source) in enumerate(zip(written, given, strict=True)):
        if call.arguments is None:
            malformed.append((call, source))
        else:
            calls.append((ToolCall(HERMES.call_id(call_id_prefix, index), call.name, call.arguments), call, source))
    content = _text(message.get("content")) or _text(message.get("refusal"))
    inline, _, text = content.rpartition(END_OF_THOUGHT)
    reasoning = next((found for key in THOUGHT_KEYS if (found := _text(message.get(key)))), "") or inline
    sources = [*(source for *_, source in calls), *(source for _, source in malformed)]
    ids = _ids(sources, call_id_prefix)
    spent, usage = spent_by(body), body.get("usage")
    return ApiReply(
        parsed=ParsedTurn(
            text=text.strip(),
            calls=tuple(call for call, *_ in calls),
            malformed=tuple(call.body for call, _ in malformed),
            raw=_raw(reasoning, text, written, is_filtered=reason == "content_filter"),
            reasoning=reasoning,
            reasoning_tokens=_reasoning_tokens(usage),
            written=(*(call for _, call, _ in calls), *(call for call, _ in malformed)),
        ),
        is_truncated=reason == "length",
        message=_returned(message, sources, ids, [call for _, call, _ in calls]),
        call_ids=ids,
        model=printable(_text(body.get("model")))[:MAX_MODEL_CHARS],
        has_usage=isinstance(usage, dict) and "completion_tokens" in usage,
        prompt_tokens=spent.prompt,
        output_tokens=max(spent.completion, _count(usage, "total_tokens") - spent.prompt),  # some leave thoughts out
        reasoning_tokens=_reasoning_tokens(usage),
    )


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        containers = [
            each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list)
        ]
        if not (level := [child for each in containers for child in each]):
            return False
    return True


def _written(call: Mapping[str, Any]) -> WrittenCall:
    function = call.get("function")
    if not isinstance(function, dict):
        return WrittenCall(json.dumps(call, ensure_ascii=False, default=str))
    arguments, name = function.get("arguments"), function.get("name")
    value = read_json(arguments or "{}") if isinstance(arguments, str | None) else arguments
    shown = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False, default=str)
    return written_call(f'{{"name": {json.dumps(name, ensure_ascii=False)}, "arguments": {shown}}}', name, value)


def _ids(sources: Sequence[Mapping[str, Any]], prefix: str) -> tuple[str, ...]:
    """The server's own ids, as some take no others; ours where it gave none, or one twice."""
    ids = [_text(source.get("id")) for source in sources]
    if all(ids) and len(set(ids)) == len(ids):
        return tuple(ids)
    return tuple(HERMES.call_id(prefix, index) for index in range(len(ids)))


def _returned(
    message: Mapping[str, Any], sources: Sequence[Mapping[str, Any]], ids: Sequence[str], read: Sequence[WrittenCall]
) -> Message:
    """The turn as the server wrote it, for it to read again: with thoughts and signatures, where it sent any.

    Calls that could not be read have no arguments there: servers hand them to templates, which fail at such text.
    """
    returned = {key: value for key, value in message.items() if value not in (None, [], "") and key != "tool_calls"}
    returned |= {"role": "assistant", "content": message.get("content")}
    if sources:
        returned["tool_calls"] = [
            {
                **{key: value for key, value in source.items() if key != "index"},
                "id": call_id,
                "type": "function",
                "function": {
                    "name": _named(source),
                    "arguments": read[index].arguments if index < len(read) else "{}",
                },
            }
            for index, (source, call_id) in enumerate(zip(sources, ids, strict=True))
        ]
    return returned


def _named(source: Mapping[str, Any]) -> str:
    """The tool's name in the form that servers ask for: a model may make up any other."""
    function = source.get("function")
    name = _text(function.get("name")) if isinstance(function, dict) else ""
    return NOT_IN_NAMES.sub("_", name.strip())[:64] or "unknown"


def _raw(reasoning: str, text: str, written: Sequence[WrittenCall], *, is_filtered: bool) -> str:
    """The turn as one text, in the syntax of Hermes: thoughts, words, calls."""
    parts = [f"<think>\n{reasoning.strip()}\n{END_OF_THOUGHT}"] if reasoning.strip() else []
    parts += [text.strip()] if text.strip() else []
    parts += [f"<tool_call>{call.body}</tool_call>" for call in written]
    parts += [FILTERED] if is_filtered else []
    return "\n".join(parts)


def _text(value: Any) -> str:
    if isinstance(value, list):
        texts = (part.get("text") for part in value if isinstance(part, dict) and part.get("type") == "text")
        return "".join(text for text in texts if isinstance(text, str))
    return value if isinstance(value, str) else ""


def _whole(value: Any) -> Any:
    """The value with `?` for halves of surrogate pairs, which could be neither written nor sent."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_whole(each) for each in value]
    return {_whole(key): _whole(each) for key, each in value.items()} if isinstance(value, dict) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _reasoning_tokens(usage: Any) -> int:
    details = usage.get("completion_tokens_details") if isinstance(usage, dict) else None
    return _count(details, "reasoning_tokens")


def _count(counts: Any, key: str) -> int:
    value = counts.get(key) if isinstance(counts, dict) else None
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**12 else 0
