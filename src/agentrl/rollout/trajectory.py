"""Rollout -> Trajectory: one token sequence, the mask of what the policy sampled, and the rewards."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from agentrl.config import PPOConfig, TokenPenaltyConfig
from agentrl.rollout.process_rewards import Signal
from agentrl.rollout.rewards import outcome_reward
from agentrl.types import Rollout, Trajectory

SCORE_ALONE = PPOConfig(token_penalty=TokenPenaltyConfig(per_1000_tokens=0.0))


def to_trajectory(rollout: Rollout, config: PPOConfig = SCORE_ALONE, signals: Sequence[Signal] = ()) -> Trajectory:
    """The rollout as it was sampled, token for token, with what it earned.

    Args:
        config: the prices on tokens and calls; without it the reward is the score.
        signals: process rewards, see `build_signals`.

    Raises:
        ValueError: the rollout has no grade, infrastructure ended it, or a server did not tell its tokens.
        ConfigError: a function of a signal failed.
    """
    if not rollout.is_valid or rollout.grade.score is None:
        raise ValueError(f"rollout {rollout.id} is not valid for training: {rollout.error or rollout.grade.reason}")
    if any(turn.unseen_tokens for turn in rollout.turns):
        raise ValueError(f"rollout {rollout.id} cannot be trained on: the API that it was sampled from tells no tokens")
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
    return Trajectory(
        rollout_id=rollout.id,
        task_id=rollout.task.id,
        token_ids=tuple(ids),
        action_mask=tuple(mask),
        engine_logprobs=tuple(logprobs),
        turn_ids=tuple(turns),
        policy_versions=tuple(versions),
        score=rollout.grade.score,
        reward=outcome_reward(rollout, config),
        turn_rewards=_turn_rewards(rollout, signals, config.gamma),
        state_keys=_state_keys(rollout),
    )


def to_trajectories(
    rollouts: Iterable[Rollout], config: PPOConfig = SCORE_ALONE, signals: Sequence[Signal] = ()
) -> list[Trajectory]:
    """All rollouts that may be learned from. Ungraded and infra-failed ones are left out, never scored 0.

    So are rollouts whose prompt left no room for a single token: nothing was sampled.

    Raises:
        ValueError, ConfigError: as `to_trajectory`.
    """
    return [
        to_trajectory(rollout, config, signals) for rollout in rollouts if rollout.is_valid and rollout.output_tokens
    ]


def _turn_rewards(rollout: Rollout, signals: Sequence[Signal], gamma: float) -> tuple[float, ...]:
    """[turns] The signals' rewards together; empty without signals."""
    if not signals:
        return ()
    return tuple(map(sum, zip(*(signal.rewards(rollout, gamma) for signal in signals), strict=True)))


def _state_keys(rollout: Rollout) -> tuple[str, ...]:
    """[turns] A hash of what the policy read last before each turn: the prompt, then what tools answered."""
    read = [rollout.prompt_ids, *(turn.observation_ids for turn in rollout.turns[:-1])]
    return tuple(hashlib.sha256(repr(tuple(ids)).encode()).hexdigest()[:16] for ids in read)
