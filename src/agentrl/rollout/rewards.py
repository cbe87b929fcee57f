"""What a rollout earns: the grader's score, less what tokens, tool calls and malformed calls cost."""

from __future__ import annotations

import math

from agentrl.config import PPOConfig, TokenPenaltyConfig, ToolEfficiencyConfig
from agentrl.types import Rollout


def token_penalty(score: float, tokens: int, config: TokenPenaltyConfig) -> float:
    """Reward to take off for length: per_1000_tokens * tokens / 1000, at most `cap`, only where the task succeeded.

    Gated on score >= gate: an ungated penalty teaches giving up early on hard items.
    """
    if score < config.gate:
        return 0.0
    return min(config.per_1000_tokens * tokens / 1000, config.cap)


def tool_efficiency(n_calls: int, config: ToolEfficiencyConfig) -> float:
    """The factor cos(m pi / (2 m + c)) on the score of an episode of m calls; 1 without calls (OTC, arXiv:2504.14870).

    As a factor it is gated by itself: a score of 0 stays 0, so that no call is ever worth less than giving up.
    """
    return math.cos(n_calls * math.pi / (2 * n_calls + config.smoothing))


def outcome_reward(rollout: Rollout, config: PPOConfig) -> float:
    """R of a graded rollout: score * efficiency - token penalty - malformed calls.

    Raises:
        ValueError: the rollout has no grade.
    """
    score, penalty = rollout.grade.score, config.token_penalty
    if score is None:
        raise ValueError(f"rollout {rollout.id} has no grade: {rollout.grade.reason}")
    tokens = rollout.output_tokens
    if penalty.count_tool_output:
        tokens += sum(len(turn.observation_ids) for turn in rollout.turns)
    factor = 1.0
    if config.tool_efficiency is not None:
        factor = tool_efficiency(len(rollout.tool_calls), config.tool_efficiency)
    cost = token_penalty(score, tokens, penalty) + config.malformed_call_penalty * rollout.malformed_calls
    return score * factor - cost
