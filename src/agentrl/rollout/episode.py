"""One episode under way: what it has gathered, and what its budgets still allow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agentrl.config import RolloutConfig
from agentrl.types import StopReason, ToolCall, ToolResult, Turn


@dataclass
class Episode:
    """Kept outside the turn loop, so that a time limit loses nothing."""

    config: RolloutConfig
    prompt_ids: tuple[int, ...]
    """Empty where a server keeps the context: then it is the server that says when it is full."""
    turns: list[Turn] = field(default_factory=list)
    answer: str = ""
    calls_counted: int = 0
    """Against `max_tool_calls`: calls that were refused or could not be read are counted too."""
    calls_made: int = 0
    """Sent to tools."""

    def __post_init__(self) -> None:
        self.context = list(self.prompt_ids)  # extended in place: turns cost what they add, not what came before
        self._read, self._sampled = len(self.prompt_ids), 0
        self._last_call = ("", "")
        self._repeats = 0

    @property
    def tokens_left(self) -> int:
        """That the next turn may sample; below 1 there is no room for it."""
        config = self.config
        left = min(config.max_turn_tokens, config.max_context_tokens - len(self.context))
        return left if config.max_output_tokens is None else min(left, config.max_output_tokens - self._sampled)

    @property
    def calls_left(self) -> int:
        return max(0, self.config.max_tool_calls - self.calls_counted)

    @property
    def cost_usd(self) -> float:
        prices = self.config.prices
        return prices.cost_usd(prompt_tokens=self._read, sampled_tokens=self._sampled, tool_calls=self.calls_made)

    def spent(self) -> StopReason | None:
        """The budget that leaves no further turn, if any."""
        if len(self.turns) >= self.config.max_turns:
            return StopReason.TURN_LIMIT
        if self.tokens_left < 1:
            return StopReason.TOKEN_BUDGET
        limit = self.config.max_cost_usd
        if limit is not None and self.turns and self.cost_usd >= limit:
            return StopReason.COST_BUDGET
        return None

    def say(self, turn: Turn, unseen_read: int = 0) -> None:
        """Add what the policy sampled.

        Args:
            unseen_read: tokens that it read before, where `context` does not hold them.
        """
        self.turns.append(turn)
        self.context += turn.token_ids
        self._sampled += turn.output_tokens
        self._read += unseen_read

    def read(self, results: Sequence[ToolResult], observation_ids: Sequence[int]) -> None:
        """Add what the last turn was answered."""
        self.turns[-1] = replace(self.turns[-1], tool_results=tuple(results), observation_ids=tuple(observation_ids))
        self.context += observation_ids
        self._read += len(observation_ids)

    def recall(self, turn: Turn) -> None:
        """Add a turn that an earlier episode took, with its answer; budgets count it as if it were taken now."""
        self.is_stuck(turn.tool_calls)
        self.calls_made += min(len(turn.tool_calls), self.calls_left)
        self.calls_counted += len(turn.tool_calls) + turn.malformed_calls
        self.say(turn)
        self.context += turn.observation_ids
        self._read += len(turn.observation_ids)

    def is_stuck(self, calls: Sequence[ToolCall]) -> bool:
        """Whether these calls, which follow all earlier ones, repeat one identical call once too often."""
        if self.config.max_repeated_calls is None:
            return False
        for call in calls:
            is_repeated = (call.name, call.arguments) == self._last_call
            self._repeats = self._repeats + 1 if is_repeated else 0
            self._last_call = (call.name, call.arguments)
            if self._repeats > self.config.max_repeated_calls:
                return True
        return False
