"""A turn of a recorded episode, whole and without its thought or its observation: what an ablation goes on from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from agentrl.chat import BUDGET_SPENT, MALFORMED, ChatFormat, ParsedTurn
from agentrl.chat.thoughts import without_thought
from agentrl.errors import ConfigError
from agentrl.rollout.beginning import Beginning
from agentrl.types import Rollout, ToolResult, Turn

REMOVED = "(no output)"
"""What the policy reads in place of a tool's output."""
NOTICES = (BUDGET_SPENT, MALFORMED)
"""The environment's own words: no tool said them, so they stay."""
UNREADABLE = "(unreadable call)"


class Part(StrEnum):
    """What is removed of a turn."""

    OBSERVATION = "observation"
    """The output of each of its calls becomes REMOVED. The calls were made, and stay."""
    THOUGHT = "thought"
    """What the turn thinks and says before its calls is cut out of its tokens. Calls and outputs stay."""


@dataclass(frozen=True)
class Cut:
    """A turn that was answered and that another one followed."""

    rollout: Rollout = field(repr=False)
    index: int
    """Of the turn, from 0."""
    without: Mapping[Part, Turn] = field(repr=False)
    """The turn as it is without the part, for each part that it has."""

    @property
    def turn(self) -> Turn:
        return self.rollout.turns[self.index]

    @property
    def tools(self) -> str:
        """The tools that it called, such as `cat` or `cat + search`."""
        names = sorted({call.name for call in self.turn.tool_calls}) or [UNREADABLE]
        return " + ".join(names)

    def beginning(self, part: Part | None, *, sample_index: int, seed: int) -> Beginning:
        """The episode up to where the policy speaks after the turn; None: as it was recorded."""
        turn = self.turn if part is None else self.without[part]
        kept = (*self.rollout.turns[: self.index], turn)
        return Beginning(self.rollout.task, self.rollout.prompt_ids, kept, sample_index, seed)


def cuts_of(rollout: Rollout, chat: ChatFormat, tools: Sequence[dict[str, Any]] | None) -> list[Cut]:
    """The turns of an episode that something can be removed from.

    Args:
        tools: the tool objects that the task's prompt describes.

    Raises:
        ConfigError: the episode's tokens are not those of this chat format.
    """
    cuts = []
    for index, turn in enumerate(rollout.turns[:-1]):
        parsed = chat.parse(turn.token_ids, call_id_prefix="cut", tools=tools)
        ending = _ending(rollout, index, parsed, chat)
        without: dict[Part, Turn] = {}
        if any(result.output not in NOTICES for result in turn.tool_results):
            results = tuple(each if each.output in NOTICES else _removed(each) for each in turn.tool_results)
            ids = chat.observation_ids(parsed, _shown(results, ending))
            without[Part.OBSERVATION] = replace(turn, tool_results=results, observation_ids=tuple(ids))
        if kept := without_thought(chat, turn.token_ids, tools=tools):
            # no log-probabilities: the policy never sampled these tokens after that context
            without[Part.THOUGHT] = replace(
                turn, token_ids=kept, engine_logprobs=(), text=chat.text(kept), reasoning_tokens=0
            )
        if without:
            cuts.append(Cut(rollout, index, without))
    return cuts


def _removed(result: ToolResult) -> ToolResult:
    return replace(result, output=REMOVED, is_error=False, is_cut=False)


def _shown(results: Sequence[ToolResult], ending: str) -> list[ToolResult]:
    *first, last = results
    return [*first, replace(last, output=last.output + ending)]


def _ending(rollout: Rollout, index: int, parsed: ParsedTurn, chat: ChatFormat) -> str:
    """What the environment wrote behind the turn's last output: nothing, or that the budget is spent.

    Raises:
        ConfigError: the recorded observation is neither.
    """
    turn = rollout.turns[index]
    for ending in ("", f"\n{BUDGET_SPENT}"):
        if tuple(chat.observation_ids(parsed, _shown(turn.tool_results, ending))) == turn.observation_ids:
            return ending
    raise ConfigError(
        f"rollout {rollout.id}, turn {index + 1}: its tool outputs are other tokens than this policy's chat format "
        "writes; the rollouts have to be of the same tokenizer and chat template"
    )
