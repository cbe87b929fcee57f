"""May this call be made: allowed, denied, or a person has to say. Decided on its name and arguments alone.

What stands in a prompt or in a tool's answer changes nothing here: instructions that a model was talked into end at
the same rules. A plain library call, for the rollout engine and for any agent:

    policy = ToolPolicy(config.tools.policy)
    decision = policy.decide("refund", '{"order": "A-17", "amount": 20}')
"""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from agentrl.config.tool_policy import (
    ArgumentScope,
    ToolPolicyConfig,
    ToolRule,
    ValueScope,
    Word,
    matches,
    pattern_of,
)
from agentrl.printable import printable
from agentrl.strict_json import strict_json

logger = logging.getLogger(__name__)

ALLOW: Word = "allow"
DENY: Word = "deny"
NEEDS_APPROVAL: Word = "needs_approval"
MAX_ARGUMENT_CHARS = 1_000_000
MAX_PROBLEMS = 3
TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
MISSING = object()


@dataclass(frozen=True)
class ToolDecision:
    """What becomes of one call."""

    decision: Word
    tool: str
    reason: str
    """Why, in words that the policy is shown: it holds no value of the call's arguments."""
    is_out_of_scope: bool = False
    """The tool may be called, and not with these arguments."""

    @property
    def message(self) -> str:
        """What the policy reads in place of the tool's answer, where the call is not made."""
        return f"Not allowed: {self.reason}"


class ToolPolicy:
    """The rules of `tools.policy`. Counts its decisions: `counts` holds them by tool and decision."""

    def __init__(self, config: ToolPolicyConfig) -> None:
        self.config = config
        self.counts: Counter[tuple[str, Word]] = Counter()
        self._rules = {rule.tool: rule for rule in config.rules}

    def decide(self, tool: str, arguments: str | Mapping[str, Any]) -> ToolDecision:
        """The decision on one call. Whatever is unclear is denied.

        Args:
            arguments: the JSON text that the model wrote, or the object.
        """
        found = self._decide(tool, arguments)
        shown = tool if tool in self._rules else "other"  # models make names up: they would fill the counter
        self.counts[shown, found.decision] += 1
        if found.decision == DENY:
            logger.info("tool policy: denied a call of %s: %s", printable(tool[:80]), found.reason)
        return found

    def _decide(self, tool: str, arguments: str | Mapping[str, Any]) -> ToolDecision:
        rule = self._rules.get(tool)
        if rule is None:
            reason = {
                ALLOW: "no rule for this tool; others are allowed",
                DENY: "the tool policy has no rule for this tool",
                NEEDS_APPROVAL: "a person has to approve calls of this tool",
            }
            return ToolDecision(self.config.default, tool, reason[self.config.default])
        if rule.decision == DENY:
            return ToolDecision(DENY, tool, rule.reason or "this tool must not be called")
        if rule.arguments is not None:
            problems = list(_problems(rule, arguments))[:MAX_PROBLEMS]
            if problems:
                return ToolDecision(rule.outside, tool, _joined(rule.reason, "; ".join(problems)), True)
        if rule.decision == NEEDS_APPROVAL:
            return ToolDecision(NEEDS_APPROVAL, tool, rule.reason or "a person has to approve calls of this tool")
        return ToolDecision(ALLOW, tool, rule.reason)


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def _problems(rule: ToolRule, arguments: str | Mapping[str, Any]) -> Iterator[str]:
    """What is out of scope, an argument a sentence."""
    try:
        found = _parsed(arguments)
    except ValueError as error:
        yield f"the arguments are no JSON object ({error})"
        return
    bounds = rule.arguments or {}
    for name, scope in bounds.items():
        value = _at(found, name)
        if value is MISSING:
            if scope.required:
                yield f"{name} is missing"
        elif problem := _problem(scope, value):
            yield f"{name} {problem}"
    if rule.other_arguments == "deny":
        for name in _others(found, tuple(bounds)):
            yield f"the argument {printable(name)[:60]!r} is not allowed"


def _parsed(arguments: str | Mapping[str, Any]) -> Mapping[str, Any]:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, allow_nan=False)
    if len(text) > MAX_ARGUMENT_CHARS:
        raise ValueError(f"more than {MAX_ARGUMENT_CHARS} characters")
    found = strict_json(text)
    if not isinstance(found, Mapping):
        raise ValueError(f"found {type(found).__name__}")
    return found


def _at(arguments: Mapping[str, Any], name: str) -> Any:
    """The value of `a`, or of `a.b` inside of the object `a`."""
    if name in arguments:
        return arguments[name]
    value: Any = arguments
    for key in name.split("."):
        if not isinstance(value, Mapping) or key not in value:
            return MISSING
        value = value[key]
    return value


def _others(arguments: Mapping[str, Any], named: tuple[str, ...], prefix: str = "") -> Iterator[str]:
    """Arguments that no bound speaks of; inside of an object only where a bound names one of its keys."""
    for key, value in arguments.items():
        name = f"{prefix}{key}"
        if name in named:
            continue
        if isinstance(value, Mapping) and any(each.startswith(f"{name}.") for each in named):
            yield from _others(value, named, f"{name}.")
        else:
            yield name


def _problem(scope: ValueScope, value: Any) -> str:
    """What is wrong with a value; empty where it is in scope."""
    if scope.type is not None and not _is_of(scope.type, value):
        return f"must be of type {scope.type}"
    if scope.enum is not None and not any(type(value) is type(each) and value == each for each in scope.enum):
        return f"must be one of {', '.join(map(repr, scope.enum))[:200]}"
    if scope.minimum is not None or scope.maximum is not None:
        if not _is_of("number", value):
            return "must be a number"
        if scope.minimum is not None and value < scope.minimum:
            return f"must be at least {scope.minimum:g}"
        if scope.maximum is not None and value > scope.maximum:
            return f"must be at most {scope.maximum:g}"
    if scope.pattern is not None or scope.max_length is not None:
        if not isinstance(value, str):
            return "must be a text"
        if scope.max_length is not None and len(value) > scope.max_length:
            return f"must have at most {scope.max_length} characters"
        if scope.pattern is not None and not matches(_compiled(scope.pattern), value):
            return "has a form that is not allowed"
    if isinstance(scope, ArgumentScope) and (scope.max_items is not None or scope.items is not None):
        if not isinstance(value, list):
            return "must be a list"
        if scope.max_items is not None and len(value) > scope.max_items:
            return f"must have at most {scope.max_items} elements"
        if scope.items is not None:
            return next((f"has an element that {p}" for each in value if (p := _problem(scope.items, each))), "")
    return ""


def _is_of(kind: str, value: Any) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()  # 1.0 is an integer in JSON Schema
    return isinstance(value, TYPES[kind])


@cache
def _compiled(pattern: str) -> Any:
    return pattern_of(pattern)
