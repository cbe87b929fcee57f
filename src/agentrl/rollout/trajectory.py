"""Rollout -> Trajectory: one token sequence, the mask of what the policy sampled, and the reward."""

from __future__ import annotations

from collections.abc import Iterable

from agentrl.config import TokenPenaltyConfig
from agentrl.types import Rollout, Trajectory


def token_penalty(score: float, output_tokens: int, config: TokenPenaltyConfig) -> float:
    """Reward to take off for length: per_1000_tokens * tokens / 1000, at most `cap`, only where the task succeeded.

    Gated on score >= gate: an ungated penalty teaches giving up early on hard items. Tool output costs nothing.
    """
    if score < config.gate:
        return 0.0
    return min(config.per_1000_tokens * output_tokens / 1000, config.cap)


def to_trajectory(rollout: Rollout, penalty: TokenPenaltyConfig, *, malformed_call_penalty: float = 0.0) -> Trajectory:
    """The rollout as it was sampled, token for token; its reward is the score less what tokens and bad calls cost.

    Raises:
        ValueError: the rollout has no grade, or infrastructure ended it.
    """
    if not rollout.is_valid or rollout.grade.score is None:
        raise ValueError(f"rollout {rollout.id} is not valid for training: {rollout.error or rollout.grade.reason}")
    ids = list(rollout.prompt_ids)
    mask, logprobs = [False] * len(ids), [0.0] * len(ids)
    turns, versions = [-1] * len(ids), [-1] * len(ids)
    for index, turn in enumerate(rollout.turns):
        sampled, observed = len(turn.token_ids), len(turn.observation_ids)
        ids += [*turn.token_ids, *turn.observation_ids]
        mask += [True] * sampled + [False] * observed
        logprobs += [*turn.engine_logprobs, *[0.0] * observed]
        turns += [index] * sampled + [-1] * observed
        versions += [turn.policy_version] * sampled + [-1] * observed
    score = rollout.grade.score
    cost = token_penalty(score, rollout.output_tokens, penalty) + malformed_call_penalty * rollout.malformed_calls
    return Trajectory(
        rollout_id=rollout.id,
        task_id=rollout.task.id,
        token_ids=tuple(ids),
        action_mask=tuple(mask),
        engine_logprobs=tuple(logprobs),
        turn_ids=tuple(turns),
        policy_versions=tuple(versions),
        score=score,
        reward=score - cost,
    )


def to_trajectories(
    rollouts: Iterable[Rollout], penalty: TokenPenaltyConfig | None = None, *, malformed_call_penalty: float = 0.0
) -> list[Trajectory]:
    """All rollouts that may be learned from. Ungraded and infra-failed ones are left out, never scored 0.

    So are rollouts whose prompt left no room for a single token: nothing was sampled.
    """
    penalty = penalty or TokenPenaltyConfig(per_1000_tokens=0.0)
    return [
        to_trajectory(rollout, penalty, malformed_call_penalty=malformed_call_penalty)
        for rollout in rollouts
        if rollout.is_valid and rollout.output_tokens
    ]
