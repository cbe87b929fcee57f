"""A generated turn, taken apart: the records, and the one rule of what counts as a call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.types import ToolCall


@dataclass(frozen=True)
class WrittenCall:
    """A tool call as the policy wrote it, readable or not."""

    body: str
    name: str = ""
    """Empty where it cannot be read."""
    arguments: str | None = None
    """JSON object as text; None where there is none: the call is malformed."""
    id: str = ""
    """Where the policy wrote one itself, as some Mistral models do."""


@dataclass(frozen=True)
class Reading:
    """A turn's text as a syntax reads it."""

    text: str
    calls: tuple[WrittenCall, ...]
    reasoning: str = ""
    thoughts: tuple[tuple[int, int], ...] = ()
    """Character ranges of the thoughts, with the marks around them."""


@dataclass(frozen=True)
class ParsedTurn:
    """A generated turn, taken apart."""

    text: str
    """The turn without its thoughts and tool calls: the answer, where there are no calls."""
    calls: tuple[ToolCall, ...]
    malformed: tuple[str, ...]
    """Bodies of tool calls that are no JSON object with a name and arguments."""
    raw: str = ""
    """The whole turn as decoded, stop token removed."""
    reasoning: str = ""
    reasoning_tokens: int = 0
    """Sampled tokens that are thoughts, with the marks around them."""
    stop_id: int | None = None
    """The token that ended the turn; None where it was cut off."""
    written: tuple[WrittenCall, ...] = ()
    """What the template is told of `calls`, then of `malformed`."""


def written_call(body: str, name: Any, arguments: Any, *, call_id: str = "") -> WrittenCall:
    """A call where there are a name and an object of arguments that can be sent, else a malformed one."""
    known = name.strip() if isinstance(name, str) and _is_text(name) else ""
    try:
        written = json.dumps(arguments, ensure_ascii=False) if isinstance(arguments, dict) else None
    except (ValueError, RecursionError):
        written = None
    if not isinstance(name, str) or not _is_text(name) or written is None or not _is_text(written):
        return WrittenCall(body, known, id=call_id)
    return WrittenCall(body, known, written, call_id)


def _is_text(text: str) -> bool:
    """Half a surrogate pair is no text: it could neither be sent nor shown."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_json(text: str) -> Any:
    """What the text says in JSON, None where it says nothing."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def typed_value(raw: str, schema: Any) -> Any:
    """A value that a syntax writes without quotes: by its JSON schema, and where there is none, JSON if it is JSON.

    Args:
        schema: the parameter's JSON schema, or None.
    """
    kinds = _kinds(schema)
    if "string" in kinds and not ("null" in kinds and raw.strip() == "null"):
        return raw
    value = {"True": True, "False": False, "None": None}.get(raw.strip(), ...)  # as Jinja's `string` filter writes
    if value is ...:
        value = read_json(raw)
        if value is None and raw.strip() != "null":
            return raw
    return value


def _kinds(schema: Any) -> list[str]:
    """The types that a JSON schema allows at its top."""
    if not isinstance(schema, dict):
        return []
    kinds = schema.get("type")
    listed = [kinds] if isinstance(kinds, str) else list(kinds) if isinstance(kinds, list) else []
    for key in ("anyOf", "oneOf"):
        for choice in schema.get(key) or ():
            listed += _kinds(choice)
    return listed


def parameter_schemas(tools: Sequence[dict[str, Any]] | None, name: str) -> dict[str, Any]:
    """The JSON schemas of a tool's parameters, by name; empty where they are not told."""
    for tool in tools or ():
        function = tool.get("function", tool)
        if isinstance(function, dict) and function.get("name") == name:
            parameters = function.get("parameters")
            properties = parameters.get("properties") if isinstance(parameters, dict) else None
            return properties if isinstance(properties, dict) else {}
    return {}
