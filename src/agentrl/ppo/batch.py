"""The one door from lists of ints into tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from agentrl.types import Trajectory


@dataclass(frozen=True)
class TrajectoryBatch:
    """B trajectories, right-padded to the longest, T. Position t of every [B, T] field describes token t."""

    token_ids: Tensor
    """[B, T] long."""
    attention_mask: Tensor
    """[B, T] long, 0 for padding."""
    action_mask: Tensor
    """[B, T] bool, True where the policy sampled the token."""
    engine_logprobs: Tensor
    """[B, T] under the engine, zero off the mask."""
    turn_ids: Tensor
    """[B, T] long, ascending, -1 off the mask."""
    state_ids: Tensor
    """[B, T] long, equal where turns began from the same state; -1 off the mask and where no state is known."""
    rewards: Tensor
    """[B] what the trajectory earned at its end, before KL."""
    turn_rewards: Tensor
    """[B, T] what a turn earned by itself, on its last action token."""
    group_ids: Tensor
    """[B] long, equal for trajectories of one task."""

    def __len__(self) -> int:
        return int(self.token_ids.shape[0])

    def rows(self, index: Tensor | slice) -> TrajectoryBatch:
        """Some trajectories, cut to the longest among them."""
        picked = {field.name: getattr(self, field.name)[index] for field in fields(self)}
        lengths = picked["attention_mask"].sum(-1)
        length = int(lengths.max()) if len(lengths) else 1  # no rows: the share of a rank that only keeps step
        return TrajectoryBatch(**{k: v if v.ndim == 1 else v[:, :length] for k, v in picked.items()})

    def to(self, device: torch.device) -> TrajectoryBatch:
        return TrajectoryBatch(**{field.name: getattr(self, field.name).to(device) for field in fields(self)})


def check_trajectory(trajectory: Trajectory) -> None:
    """The invariants of docs/algorithm.md.

    Raises:
        ValueError: the mask does not fit the tokens, or an action has no log-probability.
    """
    where = f"trajectory {trajectory.rollout_id}"
    n = len(trajectory.token_ids)
    names = ("action_mask", "engine_logprobs", "turn_ids", "policy_versions")
    if any(len(getattr(trajectory, name)) != n for name in names):
        raise ValueError(f"{where}: token_ids, {', '.join(names)} differ in length")
    if not any(trajectory.action_mask):
        raise ValueError(f"{where}: the policy sampled no token")
    if trajectory.action_mask[0]:
        raise ValueError(f"{where}: the first token cannot be an action, nothing stands before it")
    for is_action, logprob in zip(trajectory.action_mask, trajectory.engine_logprobs, strict=True):
        if is_action and not (math.isfinite(logprob) and logprob <= 0):
            raise ValueError(f"{where}: an action token has log-probability {logprob}")
    for reward in (trajectory.reward, *trajectory.turn_rewards):
        if not math.isfinite(reward):
            raise ValueError(f"{where}: the reward is {reward}")
    for name in ("turn_rewards", "state_keys"):
        if (given := getattr(trajectory, name)) and len(given) <= max(trajectory.turn_ids):
            raise ValueError(f"{where}: {len(given)} {name} for {max(trajectory.turn_ids) + 1} turns")


def fresh_enough(trajectories: Sequence[Trajectory], *, policy_version: int, max_staleness: int) -> list[Trajectory]:
    """Those of which no token is more than `max_staleness` updates behind `policy_version`.

    The oldest token decides: where the weights changed between two turns, an episode has several versions.
    """

    def lag(trajectory: Trajectory) -> int:
        pairs = zip(trajectory.policy_versions, trajectory.action_mask, strict=False)
        return policy_version - min((version for version, is_action in pairs if is_action), default=policy_version)

    return [trajectory for trajectory in trajectories if lag(trajectory) <= max_staleness]


def make_batch(trajectories: Sequence[Trajectory], *, pad_id: int) -> TrajectoryBatch:
    """Trajectories as tensors, in the order given.

    Raises:
        ValueError: no trajectory, or one that breaks an invariant.
    """
    if not trajectories:
        raise ValueError("no trajectory to train on")
    for trajectory in trajectories:
        check_trajectory(trajectory)
    length = max(len(trajectory.token_ids) for trajectory in trajectories)

    def padded(rows: Iterable[Sequence[float]], fill: float, dtype: torch.dtype) -> Tensor:
        return torch.tensor([[*row, *[fill] * (length - len(row))] for row in rows], dtype=dtype)

    def field(name: str, fill: float, dtype: torch.dtype) -> Tensor:
        return padded((getattr(trajectory, name) for trajectory in trajectories), fill, dtype)

    groups = _numbers(trajectory.task_id for trajectory in trajectories)
    states = _numbers(key for trajectory in trajectories for key in trajectory.state_keys)
    lengths = torch.tensor([len(trajectory.token_ids) for trajectory in trajectories])
    return TrajectoryBatch(
        token_ids=field("token_ids", pad_id, torch.long),
        attention_mask=(torch.arange(length) < lengths[:, None]).long(),
        action_mask=field("action_mask", 0, torch.bool),
        engine_logprobs=field("engine_logprobs", 0.0, torch.float),
        turn_ids=field("turn_ids", -1, torch.long),
        state_ids=padded((_state_ids(trajectory, states) for trajectory in trajectories), -1, torch.long),
        rewards=torch.tensor([trajectory.reward for trajectory in trajectories], dtype=torch.float),
        turn_rewards=padded((_turn_rewards(trajectory) for trajectory in trajectories), 0.0, torch.float),
        group_ids=torch.tensor([groups[trajectory.task_id] for trajectory in trajectories]),
    )


def _numbers(names: Iterable[str]) -> dict[str, int]:
    """Consecutive numbers in the order of first appearance."""
    return {name: number for number, name in enumerate(dict.fromkeys(names))}


def _state_ids(trajectory: Trajectory, states: dict[str, int]) -> list[int]:
    keys = [states[key] for key in trajectory.state_keys]
    return [keys[turn] if keys and turn >= 0 else -1 for turn in trajectory.turn_ids]


def _turn_rewards(trajectory: Trajectory) -> list[float]:
    rewards = [0.0] * len(trajectory.token_ids)
    if trajectory.turn_rewards:
        last = {turn: t for t, turn in enumerate(trajectory.turn_ids) if turn >= 0}
        for turn, t in last.items():
            rewards[t] = trajectory.turn_rewards[turn]
    return rewards


def deal(batch: TrajectoryBatch, n_hands: int, generator: torch.Generator) -> list[Tensor]:
    """Row indices of the hands that a batch is dealt into at random, one a minibatch.

    Groups stay whole, so that what their prompts have in common is computed once; only where there are fewer groups
    than hands are they split.
    """
    groups = [torch.nonzero(batch.group_ids == group)[:, 0].cpu() for group in range(int(batch.group_ids.max()) + 1)]
    groups = [group for group in groups if len(group)]
    groups = [groups[i] for i in torch.randperm(len(groups), generator=generator).tolist()]
    if len(groups) >= n_hands:
        chosen = torch.arange(len(groups)).tensor_split(n_hands)
        return [torch.cat([groups[i] for i in hand.tolist()]) for hand in chosen]
    rows = torch.cat([group[torch.randperm(len(group), generator=generator)] for group in groups])
    return list(rows.tensor_split(min(n_hands, len(rows))))
