"""`rollout:` the limits of one episode, and what it costs."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from agentrl.config.section import Count, NonNegative, Positive, PositiveInt, Problem, Section


class PricesConfig(Section):
    """Every token of the conversation is counted once: earlier turns stay in the engine's cache."""

    usd_per_million_prompt_tokens: NonNegative = Field(
        default=0.0, description="Price of tokens that are read: the prompt and what tools answered."
    )
    usd_per_million_sampled_tokens: NonNegative = Field(
        default=0.0, description="Price of tokens that the policy writes."
    )
    usd_per_tool_call: NonNegative = Field(default=0.0, description="Price of a tool call that was made.")

    def cost_usd(self, *, prompt_tokens: int, sampled_tokens: int, tool_calls: int) -> float:
        """What an episode of that size costs."""
        tokens = prompt_tokens * self.usd_per_million_prompt_tokens
        tokens += sampled_tokens * self.usd_per_million_sampled_tokens
        return tokens / 1e6 + tool_calls * self.usd_per_tool_call


class RolloutConfig(Section):
    """A limit that the policy ran into is its own doing and is graded; running out of seconds leaves it ungraded."""

    max_tool_calls: Count = Field(
        default=10, description="Tool calls an episode; after them one turn is left for the answer."
    )
    max_turns: PositiveInt = Field(default=12, description="Generations an episode.")
    max_turn_tokens: PositiveInt = Field(default=256, description="Tokens sampled in one turn.")
    max_output_tokens: PositiveInt | None = Field(
        default=None, description="Tokens sampled in all turns of an episode; null leaves it to the context."
    )
    max_context_tokens: PositiveInt = Field(default=2048, description="Tokens of the whole conversation.")
    max_repeated_calls: Count | None = Field(
        default=10,
        description="Times that one identical tool call may be repeated in a row; one more ends the episode as stuck. "
        "Null is off.",
    )
    max_cost_usd: Positive | None = Field(
        default=None, description="US dollars an episode may cost at `prices`; null is no limit."
    )
    prices: PricesConfig = Field(default=PricesConfig(), description="What tokens and tool calls cost.")
    max_seconds: Positive = Field(default=300.0, description="Wall time of an episode, in seconds, grading excluded.")
    max_turn_seconds: Positive = Field(
        default=300.0, description="Seconds for the tool calls of one turn, retries included; then the episode is lost."
    )
    max_grading_seconds: Positive = Field(
        default=600.0, description="Seconds until a grade is given up, waiting for the grader included."
    )
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
        if self.max_cost_usd is not None and self.prices == PricesConfig():
            yield Problem(("max_cost_usd",), "found a limit but no price; set at least one of `prices`")
