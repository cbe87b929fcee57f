"""The tool calls of an episode, as graders of conduct see them: from the rollout, or from `sample.output_tools`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agentrl.grading.submission import Submission
from agentrl.strict_json import strict_json


@dataclass(frozen=True)
class Call:
    """A call and how it went."""

    name: str
    arguments: str
    """As the policy wrote them: text of a JSON object, if it is well formed."""
    is_error: bool | None
    """Answered by an error, or by nothing; None where only the call is known."""

    @property
    def parsed(self) -> dict[str, Any] | None:
        """The arguments; None where they are no JSON object."""
        try:
            value = strict_json(self.arguments)
        except (ValueError, RecursionError):
            return None
        return value if isinstance(value, dict) else None

    @property
    def identity(self) -> tuple[str, str]:
        """Equal for calls that ask the same: the order of keys and blanks do not matter."""
        parsed = self.parsed
        return self.name, self.arguments if parsed is None else json.dumps(parsed, sort_keys=True)


@dataclass(frozen=True)
class Conduct:
    """How an episode used its tools."""

    calls: tuple[Call, ...]
    """In order."""
    malformed: int
    """Calls that could not be read."""
    n_attempted: int
    """Calls that were tried, the malformed ones included."""


def conduct_of(submission: Submission) -> Conduct:
    """From the rollout; without one, from `sample.output_tools`, where unreadable arguments are all that is known."""
    if (rollout := submission.rollout) is not None:
        calls = tuple(
            Call(call.name, call.arguments, errors.get(call.id, True))
            for turn in rollout.turns
            for errors in [{result.call_id: result.is_error for result in turn.tool_results}]
            for call in turn.tool_calls
        )
        return Conduct(calls, rollout.malformed_calls, len(calls) + rollout.malformed_calls)
    declared = submission.sample.get("output_tools")
    calls = tuple(map(_call, declared)) if isinstance(declared, list) else ()
    return Conduct(calls, sum(call.parsed is None for call in calls), len(calls))


def _call(declared: Any) -> Call:
    function = declared.get("function") if isinstance(declared, dict) else None
    if not isinstance(function, dict):
        return Call("", "", None)
    arguments = function.get("arguments")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, default=str)
    return Call(str(function.get("name") or ""), text, None)
