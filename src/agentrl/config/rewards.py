"""What a rollout earns: prices on the grader's score, and rewards for the way to it (`ppo.process_rewards`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from agentrl.config.section import ALLOW_LISTS, FilePath, NonEmpty, NonNegative, Positive, Problem, Section, repeated

MAX_TURN_SCORE_SHARE = 0.2
"""Of the best score, what all turn scores together may earn: a judge of single turns is easily pleased."""
Function = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]


class TokenPenaltyConfig(Section):
    """A light price on sampled tokens, for rollouts that succeed: ungated it teaches to give up on hard items."""

    per_1000_tokens: NonNegative = Field(default=0.01, description="Reward lost per 1,000 sampled tokens; 0 is off.")
    cap: NonNegative = Field(default=0.1, description="Most reward that one rollout can lose to the penalty.")
    gate: float = Field(default=0.5, description="Only rollouts with at least this score pay.")
    count_tool_output: bool = Field(
        default=False, description="Tokens that tools answered are paid for as well: the policy asked for them."
    )


class ToolEfficiencyConfig(Section):
    """The score is multiplied by cos(m pi / (2 m + smoothing)) for m tool calls (OTC, arXiv:2504.14870)."""

    smoothing: Positive = Field(
        default=4.0,
        description="OTC's c, in calls: the smaller, the more the first calls cost. Useful calls cost as much as "
        "useless ones, so switch it on when accuracy has stopped rising.",
    )


class SignalConfig(Section):
    """Something about the way that may be rewarded once `agentrl doctor rewards` has found that it tells apart."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] = Field(description="Its name in the report.")
    weight: Positive = Field(default=0.1, description="Reward for a value of 1.")
    function: Function | None = Field(
        default=None,
        description="A function `package.module:function` of the rollout so far (a Rollout cut short, without grade) "
        "that returns a number from 0 to 1.",
    )


class PotentialConfig(SignalConfig):
    """A fact about the state before a turn; exactly one of `tool_called`, ... `function` says which."""

    tool_called: NonEmpty | None = Field(
        default=None, description="1 once this tool has answered a call without an error."
    )
    tool_called_before: Annotated[tuple[NonEmpty, NonEmpty], ALLOW_LISTS] | None = Field(
        default=None, description="[FIRST, THEN]: 1 once both tools have answered, FIRST before THEN was ever called."
    )
    no_malformed_calls: Literal[True] | None = Field(
        default=None, description="1 as long as every tool call could be read."
    )

    def problems(self) -> Iterator[Problem]:
        kinds = ("tool_called", "tool_called_before", "no_malformed_calls", "function")
        given = [kind for kind in kinds if getattr(self, kind) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            yield Problem((), f"potential '{self.name}': found {found}; allowed: exactly one of {', '.join(kinds)}")


class TurnScoreConfig(SignalConfig):
    """How good a single turn was: the mean over turns times `weight` is what an episode earns."""

    weight: Positive = Field(
        default=0.1,
        description="Reward for an episode whose turns all score 1; together at most a fifth of grading.max_score.",
    )
    function: Function | None = Field(
        default=None,
        description="A function `package.module:function` of the rollout up to and including the turn that returns a "
        "number from 0 to 1; null takes the grader's `turn_scores`.",
    )


class ProcessRewardsConfig(Section):
    """Rewards for the way to the answer, each behind a report that it goes with good answers."""

    report: FilePath = Field(description="What `agentrl doctor rewards` wrote: training starts if every signal passed.")
    potentials: Annotated[tuple[PotentialConfig, ...], ALLOW_LISTS] = Field(
        default=(),
        description="Facts that pay when they come true and are paid back at the end: they guide, and leave the best "
        "policy the best (potential-based shaping, Ng et al. 1999).",
    )
    turn_scores: Annotated[tuple[TurnScoreConfig, ...], ALLOW_LISTS] = Field(
        default=(), description="Scores of single turns, from a rubric; these do change which policy is best."
    )

    def problems(self) -> Iterator[Problem]:
        if not self.potentials and not self.turn_scores:
            yield Problem((), "found no signal; list some under potentials or turn_scores, or leave the section out")
        names = [signal.name for signal in (*self.potentials, *self.turn_scores)]
        for index in repeated(names):
            yield Problem((), f"found the name '{names[index]}' twice; every signal needs its own")


class DynamicSamplingConfig(Section):
    """Tasks whose samples all scored the same teach a critic-free update nothing; others take their place (DAPO)."""

    max_rounds: Annotated[int, Field(ge=1)] = Field(
        default=2, description="How many times a step's rollouts are topped up; then the groups stay as they are."
    )
