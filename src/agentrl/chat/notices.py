"""What the environment tells the policy in words of its own."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.types import Message

BUDGET_NOTICE = "You may make at most {max_tool_calls} tool calls."
BUDGET_SPENT = "Tool budget exhausted. Give your final answer now."
MALFORMED = "Not a valid tool call."


def announce_budget(messages: Sequence[Message], max_tool_calls: int) -> list[Message]:
    """The conversation with the tool budget as the last line of its system message (added where there is none)."""
    notice = BUDGET_NOTICE.format(max_tool_calls=max_tool_calls)
    first = messages[0]
    if first["role"] in ("system", "developer"):
        return [{**first, "content": f"{first['content']}\n{notice}"}, *messages[1:]]
    return [{"role": "system", "content": notice}, *messages]
