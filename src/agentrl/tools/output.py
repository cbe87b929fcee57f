"""What the policy is shown, the same for every kind of tool: text, cut visibly, and errors in one form."""

from __future__ import annotations

import json
from typing import Any

from agentrl.strict_json import strict_json
from agentrl.types import ToolCall, ToolResult


class InvalidArguments(ValueError):
    """The policy's arguments cannot be used; the message is shown to it behind `Invalid arguments: `."""


def arguments_of(call: ToolCall) -> dict[str, Any]:
    """The call's arguments, parsed.

    Raises:
        InvalidArguments: they are no JSON object.
    """
    try:
        parsed = strict_json(call.arguments)
    except ValueError as error:
        raise InvalidArguments(f"not valid JSON ({error})") from error
    if not isinstance(parsed, dict):
        raise InvalidArguments("they have to be a JSON object")
    return parsed


def tool_result(
    call: ToolCall,
    output: str,
    *,
    max_output_chars: int,
    seconds: float = 0.0,
    is_error: bool = False,
    attempts: int = 1,
) -> ToolResult:
    """The answer to a call. An output that is longer than allowed ends with a marker that says how long it was."""
    output = output.encode("utf-8", "replace").decode()  # half a surrogate pair could not be written to a file
    is_cut = len(output) > max_output_chars
    if is_cut:
        marker = f"\n[output cut: it has {len(output)} characters]"
        output = output[: max(0, max_output_chars - len(marker))] + marker
    return ToolResult(call.id, call.name, output, seconds, is_error, attempts, is_cut)


def refusal(call: ToolCall, error: InvalidArguments, *, max_output_chars: int) -> ToolResult:
    """The answer to a call with unusable arguments; nothing was called."""
    return tool_result(call, f"Invalid arguments: {error}.", max_output_chars=max_output_chars, is_error=True)


def as_text(value: Any) -> str:
    """A value as the policy sees it: text as it is, anything else as compact JSON."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def tool_object(name: str, description: str, parameters: dict[str, Any] | None) -> dict[str, Any]:
    """The tool as chat templates list it, in the form of chat completions."""
    schema = parameters if parameters is not None else {"type": "object", "properties": {}}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}
