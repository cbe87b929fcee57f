"""An episode as a reward model reads it: the same function for training and for grading.

The conversation is written as the policy saw it, by the chat template of the reward model's own tokenizer: prompt,
each turn, what tools answered. Nothing of the task's row but its messages is shown, so no reference answer is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentrl.chat import ChatFormat
from agentrl.chat.encoding import Encoding
from agentrl.chat.format import parse_turn
from agentrl.config import RenderingConfig
from agentrl.grading.submission import Submission
from agentrl.types import Message, Rollout, StopReason, ToolResult

RENDERING = "1"
"""Of this file: a change in what it writes is a new number, and a reward model of another one is refused."""


@dataclass(frozen=True)
class ShownTurn:
    """One turn: what the policy wrote, and what tools answered."""

    text: str
    results: tuple[tuple[str, str, str], ...] = ()
    """Of each tool result the call's id, the tool and the output."""


@dataclass(frozen=True)
class Transcript:
    """An episode, as far as it is read."""

    messages: tuple[Message, ...]
    turns: tuple[ShownTurn, ...]
    is_complete: bool = True
    """The policy answered, rather than ran into a limit."""

    @classmethod
    def of_rollout(cls, rollout: Rollout) -> Transcript:
        turns = tuple(
            ShownTurn(turn.text, tuple((each.call_id, each.name, each.output) for each in turn.tool_results))
            for turn in rollout.turns
        )
        return cls(rollout.task.messages, turns, rollout.stop_reason is StopReason.FINAL)

    @classmethod
    def of_submission(cls, submission: Submission) -> Transcript:
        """The episode; of a text without one, a single turn behind the item's messages, or its question."""
        if submission.rollout is not None:
            return cls.of_rollout(submission.rollout)
        messages = submission.item.get("messages")
        if not isinstance(messages, list | tuple) or not messages:
            question = submission.item.get("question") or submission.item.get("prompt") or ""
            messages = [{"role": "user", "content": str(question)}]
        return cls(tuple(messages), (ShownTurn(submission.answer),))

    def to_row(self) -> dict[str, Any]:
        turns = [{"text": turn.text, "results": turn.results} for turn in self.turns]
        return {"messages": self.messages, "turns": turns, "is_complete": self.is_complete}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Transcript:
        """The inverse of `to_row`.

        Raises:
            KeyError, TypeError, ValueError: it is no such record.
        """
        turns = []
        for turn in row["turns"]:
            results = tuple((str(call_id), str(name), str(output)) for call_id, name, output in turn["results"])
            turns.append(ShownTurn(str(turn["text"]), results))
        return cls(tuple(row["messages"]), tuple(turns), bool(row["is_complete"]))


class Renderer:
    """Writes transcripts as token ids of one tokenizer.

    Raises:
        BaselineError: the tokenizer has no chat template that writes tool calls.
    """

    def __init__(self, tokenizer: Any, config: RenderingConfig) -> None:
        self._chat, self._config = ChatFormat(tokenizer), config
        self._control = Encoding(tokenizer)

    def ids(self, transcript: Transcript) -> list[int]:
        """Prompt, turns and tool outputs; an answer ends with the token that ends turns, a cut episode without.

        Raises:
            ValueError: the chat template refuses the conversation.
        """
        chat = self._chat
        try:
            ids = chat.prompt_ids(transcript.messages)
            for index, turn in enumerate(transcript.turns):
                said, parsed = self._said(turn.text)
                # spelled by the policy, control tokens are text too: no turn can write a tool's answer
                ids += chat.encode(self._control.as_text(said), is_continued=True)
                if turn.results:
                    stop = chat.stop_after_calls
                    ids.append(stop)
                    ids += chat.observation_ids(replace(parsed, stop_id=stop), list(map(self._cut, turn.results)))
                elif transcript.is_complete and index == len(transcript.turns) - 1:
                    ids.append(chat.stop_id)
        except Exception as error:  # a template is a program: it may raise anything
            raise ValueError(f"the chat template refuses this conversation ({error})") from error
        return ids

    def _said(self, text: str) -> tuple[str, Any]:
        """A turn's text, its thoughts taken out where they are not shown, and the turn taken apart."""
        syntax = self._chat.syntax
        parsed = parse_turn(text, call_id_prefix="shown", syntax=syntax)
        if not self._config.thoughts:
            for start, end in reversed(syntax.read(text).thoughts):
                text = text[:start] + text[end:]
        return text, parsed

    def _cut(self, result: Sequence[str]) -> ToolResult:
        call_id, name, output = result
        limit = self._config.max_tool_chars
        if len(output) > limit:
            marker = f"\n[output cut: it has {len(output)} characters]"
            output = output[: max(0, limit - len(marker))] + marker
        return ToolResult(call_id, name, output, 0.0)
