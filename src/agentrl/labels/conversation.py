"""An episode as a person reads it: who said what, in order; the same on a terminal, in a file and in Label Studio."""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any, NamedTuple

from agentrl.printable import printable_lines
from agentrl.types import Rollout, Turn

MARKUP_CHARS = 100
"""Around one tool call, as chat formats write it."""


class Piece(NamedTuple):
    """Something that was said or done."""

    who: str
    """A role of the task's messages, `writes`, `calls`, `gets` or `answer`."""
    text: str


def conversation(rollout: Rollout) -> Iterator[Piece]:
    """The task, each turn with its calls and what they were answered, and the answer."""
    yield from task_of(rollout)
    yield from episode_of(rollout)


def task_of(rollout: Rollout) -> Iterator[Piece]:
    """What the policy was asked; the same for all episodes of a task."""
    for message in rollout.task.messages:
        yield Piece(str(message.get("role", "")), str(message.get("content") or ""))


def episode_of(rollout: Rollout) -> Iterator[Piece]:
    """What the policy did about it."""
    for index, turn in enumerate(rollout.turns):
        is_answer = index == len(rollout.turns) - 1 and not turn.tool_calls
        if says_more_than_its_calls(turn) and not (is_answer and turn.text.strip() == rollout.answer.strip()):
            yield Piece("writes", turn.text)
        results = {result.call_id: result for result in turn.tool_results if result.call_id}
        for call in turn.tool_calls:
            yield Piece("calls", f"{call.name} {call.arguments}")
            if call.id in results:
                yield Piece("gets", results[call.id].output)
        for result in turn.tool_results:
            if not result.call_id:
                yield Piece("gets", result.output)
    yield Piece("answer", rollout.answer or "(none)")


def says_more_than_its_calls(turn: Turn) -> bool:
    """A turn's text holds its calls in the chat format's own markup, which need not be read twice."""
    calls = sum(len(call.name) + len(call.arguments) + MARKUP_CHARS for call in turn.tool_calls)
    return len(turn.text.strip()) > calls


def facts_of(item: dict[str, Any]) -> dict[str, Any]:
    """What the row knows beside the question, such as the reference answer."""
    return {key: value for key, value in item.items() if key not in ("id", "tools", "messages")}


def as_text(pieces: Iterator[Piece]) -> str:
    return "\n\n".join(f"{who}: {printable_lines(text)}" for who, text in pieces)


def as_html(pieces: Iterator[Piece]) -> str:
    """The same for a browser; no text of a model or a tool is markup."""
    return "".join(
        f'<p><b>{html.escape(who)}</b></p><pre style="white-space: pre-wrap">{html.escape(printable_lines(text))}</pre>'
        for who, text in pieces
    )
