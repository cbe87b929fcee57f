"""`rollout:` the limits of one episode."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from agentrl.config.section import Count, Positive, PositiveInt, Problem, Section


class RolloutConfig(Section):
    """A limit that the policy ran into is its own doing and is graded; running out of seconds leaves it ungraded."""

    max_tool_calls: Count = Field(
        default=10, description="Tool calls an episode; after them one turn is left for the answer."
    )
    max_turns: PositiveInt = Field(default=12, description="Generations an episode.")
    max_turn_tokens: PositiveInt = Field(default=256, description="Tokens sampled in one turn.")
    max_context_tokens: PositiveInt = Field(default=2048, description="Tokens of the whole conversation.")
    max_seconds: Positive = Field(default=300.0, description="Wall time of an episode, in seconds, grading excluded.")
    max_tool_output_chars: PositiveInt = Field(
        default=8000, description="Characters of a tool's output that the policy is shown; the rest is cut, visibly."
    )
    announce_budget: bool = Field(default=True, description="Tell the policy its tool budget in the system message.")
    max_concurrent: PositiveInt = Field(default=256, description="Episodes under way at once; more wait.")

    def problems(self) -> Iterator[Problem]:
        if self.max_turn_tokens > self.max_context_tokens:
            yield Problem(
                ("max_turn_tokens",),
                f"found {self.max_turn_tokens}; allowed: at most max_context_tokens ({self.max_context_tokens}), "
                "as a turn is part of the context",
            )
