"""The episode around an attack: its conduct is flawless, so that only the answer is on trial."""

from __future__ import annotations

import uuid
from collections.abc import Iterable

from agentrl.config.graders import GraderSection, PolicyCheckConfig, ToolUseConfig
from agentrl.grading.attack.rows import Row
from agentrl.grading.submission import Submission
from agentrl.types import Rollout, StopReason, ToolCall, ToolResult, Turn

CHARS_PER_TOKEN = 4
NOTHING_USD = 1e-9
"""Cost of the episode: small, but a price."""


def submission_of(answer: str, row: Row, graders: Iterable[GraderSection]) -> Submission:
    """An answer as the end of an episode that did all that the graders ask of tools, and showed the answer."""
    tools = _tools_asked_for(graders)
    turns = tuple(_call(index, name, row.text) for index, name in enumerate(tools))
    final = _turn(answer, (), ())
    trace_id = f"trace_{uuid.uuid4()}"
    return Submission.of_rollout(
        Rollout(
            id=trace_id,
            task=row.task,
            sample_index=0,
            seed=0,
            prompt_ids=(),
            turns=(*turns, final),
            stop_reason=StopReason.FINAL,
            answer=answer,
            seconds=0.0,
            cost_usd=NOTHING_USD,
        )
    )


def _tools_asked_for(graders: Iterable[GraderSection]) -> list[str]:
    """Tools that have to be called, in an order that is right."""
    names: list[str] = []
    for grader in graders:
        if isinstance(grader, ToolUseConfig):
            names += [name for name in grader.required if name not in names]
            for _ in grader.before:  # a pair moved may break one before it
                for first, then in grader.before:
                    names = _in_order(names, first, then)
        if isinstance(grader, PolicyCheckConfig) and grader.leaked_keys and not names:
            names.append("look")
    return names


def _in_order(names: list[str], first: str, then: str) -> list[str]:
    if then not in names or (first in names and names.index(first) < names.index(then)):
        return names
    rest = [name for name in names if name != first]
    rest.insert(rest.index(then), first)
    return rest


def _call(index: int, name: str, output: str) -> Turn:
    call = ToolCall(f"call_{index}", name, "{}")
    return _turn("", (call,), (ToolResult(call.id, name, output, seconds=0.0),))


def _turn(text: str, calls: tuple[ToolCall, ...], results: tuple[ToolResult, ...]) -> Turn:
    size = len(text) // CHARS_PER_TOKEN + 1
    return Turn((0,) * size, (0.0,) * size, text, calls, results, (), 0, 0.0)
