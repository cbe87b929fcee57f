"""Rollouts from files that somebody else may have written: of the kinds that they say, and of a size to reckon with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from agentrl.runs.traces import from_trace
from agentrl.types import Grade, Rollout, Turn

LARGEST = 1e15
"""Of a score, a cost, a time or a count: what is larger is none, and squared it would be no number."""


def sound_rollout(trace: Mapping[str, Any]) -> Rollout:
    """`from_trace`, and every value looked at.

    Raises:
        KeyError, TypeError, ValueError: it is no such record; says which value.
    """
    rollout = from_trace(trace)
    _texts(rollout, "id", "answer", "error")
    _texts(rollout.task, "id")
    _numbers(rollout, "sample_index", "seed", kind=int, largest=math.inf)
    _numbers(rollout, "seconds", "cost_usd")
    for message in rollout.task.messages:
        _is(dict, "messages", message)
    _is(dict, "item", rollout.task.item)
    _all(int, "prompt_ids", rollout.prompt_ids)
    _check_grade(rollout.grade)
    for turn in rollout.turns:
        _check_turn(turn)
    return rollout


def _check_grade(grade: Grade) -> None:
    _texts(grade, "reason", "explanation", "version")
    _numbers(grade, "seconds", "cost_usd")
    if grade.score is not None:
        _numbers(grade, "score")
    for name in ("sub_scores", "holdout"):
        for score in _is(dict, name, getattr(grade, name)).values():
            _number(name, score)
    _all(str, "holdout_missing", _is(dict, "holdout_missing", grade.holdout_missing).values())
    for counts in _is(dict, "tokens", grade.tokens).values():
        for count in _is(dict, "tokens", counts).values():
            _number("tokens", count)
    _all(str, "errors", grade.errors)


def _check_turn(turn: Turn) -> None:
    _texts(turn, "text")
    _all(int, "token_ids", turn.token_ids)
    _all(int, "observation_ids", turn.observation_ids)
    _all((int, float, type(None)), "engine_logprobs", turn.engine_logprobs)
    counts = ("policy_version", "reasoning_tokens", "malformed_calls", "attempts", "unseen_tokens")
    _numbers(turn, *counts, kind=int)
    _numbers(turn, "seconds")
    for call in turn.tool_calls:
        _texts(call, "id", "name", "arguments")
    for result in turn.tool_results:
        _texts(result, "call_id", "name", "output", "denied")
        _numbers(result, "seconds")
        _numbers(result, "attempts", kind=int)
        _all(bool, "is_error and is_cut", (result.is_error, result.is_cut))


def _texts(record: object, *names: str) -> None:
    for name in names:
        _is(str, name, getattr(record, name))


def _numbers(record: object, *names: str, kind: type = float, largest: float = LARGEST) -> None:
    for name in names:
        _number(name, getattr(record, name), kind, largest)


def _number(name: str, value: Any, kind: type = float, largest: float = LARGEST) -> None:
    is_kind = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if not is_kind or not abs(value) <= largest:
        raise ValueError(f"{name}: found {value!r:.40}; allowed: a number up to {largest:g}")


def _all(kind: type | tuple[type, ...], name: str, values: Iterable[Any]) -> None:
    for value in values:
        if not isinstance(value, kind):
            _is(kind, name, value)


def _is(kind: type | tuple[type, ...], name: str, value: Any) -> Any:
    if not isinstance(value, kind):
        raise TypeError(f"{name}: found {type(value).__name__}")
    return value
