"""Advantages without a critic: what a trajectory earned beside its siblings, the trajectories of the same task."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.ppo.advantage import gae, last_action, turn_numbers, turn_sums
from agentrl.ppo.batch import TrajectoryBatch
from agentrl.types import Trajectory

STD_EPS = 1e-6


def rloo(rewards: Tensor, groups: Tensor) -> Tensor:
    """R_i less the mean of its siblings: REINFORCE leave-one-out (Ahmadian et al. 2024, arXiv:2402.14740).

    Unbiased, as no reward is in its own baseline. It is n / (n - 1) times the distance to the group's mean.

    Args:
        rewards: [N].
        groups: [N] long, equal for siblings.

    Returns:
        [N], exactly 0 where all siblings earned the same, and for groups of one.
    """
    members = _Members(rewards, groups)
    return members.centred() * members.count / (members.count - 1).clamp(min=1)


def grpo(rewards: Tensor, groups: Tensor, *, scale_by_std: bool = True, min_std: float = 0.0) -> Tensor:
    """(R_i - mean) / (std + 1e-6), std the sample standard deviation of the group (GRPO, arXiv:2402.03300).

    Without the scale it is Dr. GRPO's (arXiv:2503.20783): dividing favours tasks that are nearly always or nearly
    never solved, and blows up what a judge's noise makes of equal answers; `min_std` bounds that.

    Returns:
        [N], exactly 0 where all siblings earned the same, and for groups of one.
    """
    members = _Members(rewards, groups)
    if not scale_by_std:
        return members.centred()
    return members.centred() / (members.std().clamp(min=min_std) + STD_EPS)


class _Members:
    """Statistics of groups, one value a member."""

    def __init__(self, values: Tensor, groups: Tensor) -> None:
        self._values = values
        names, self._group = torch.unique(groups, return_inverse=True)
        self._n_groups = len(names)
        self.count = self._sum(torch.ones_like(values))

    def _sum(self, values: Tensor) -> Tensor:
        return values.new_zeros(self._n_groups).index_add(0, self._group, values)[self._group]

    def centred(self) -> Tensor:
        """Exactly 0 in a group of equal values, where the mean may be off by a rounding error."""
        bounds = [
            self._values.new_zeros(self._n_groups).scatter_reduce(
                0, self._group, self._values, reduce, include_self=False
            )
            for reduce in ("amin", "amax")
        ]
        is_flat = (bounds[0] == bounds[1])[self._group]
        return torch.where(is_flat, 0.0, self._values - self._sum(self._values) / self.count)

    def std(self) -> Tensor:
        return (self._sum(self.centred().square()) / (self.count - 1).clamp(min=1)).sqrt()


def gigpo(
    batch: TrajectoryBatch, *, gamma: float, step_weight: float, scale_by_std: bool = True, min_std: float = 0.0
) -> Tensor:
    """A_episode + step_weight * A_step, [B, T] (GiGPO, arXiv:2505.10978).

    A_episode compares whole trajectories of a task. A_step compares the discounted returns of all turns in the group
    that began from the same state; a turn whose state nobody else was in has none.
    """
    episode = grpo(task_rewards(batch), batch.group_ids, scale_by_std=scale_by_std, min_std=min_std)
    turns, is_first = turn_numbers(batch.turn_ids, batch.action_mask)
    states = _anchors(batch)[is_first]
    rewards = batch.turn_rewards.clone()
    ends = torch.arange(len(batch), device=rewards.device), last_action(batch.action_mask)
    rewards[ends] += batch.rewards
    has_turn = turn_sums(torch.ones_like(rewards), turns, is_first) > 0
    earned = turn_sums(rewards, turns, batch.action_mask)
    returns = gae(earned, torch.zeros_like(earned), has_turn, gamma=gamma, gae_lambda=1.0).returns
    step = torch.zeros_like(returns)
    step[has_turn] = grpo(returns[has_turn], states, scale_by_std=scale_by_std, min_std=min_std)
    return torch.where(batch.action_mask, episode[:, None] + step_weight * step.gather(-1, turns), 0.0)


def _anchors(batch: TrajectoryBatch) -> Tensor:
    """[B, T] one number for each pair of task and state; of its own for a token whose state is not known."""
    n_states = int(batch.state_ids.max()) + 1
    known = batch.group_ids[:, None] * n_states + batch.state_ids
    alone = -1 - torch.arange(batch.state_ids.numel(), device=known.device).view_as(batch.state_ids)
    return torch.where(batch.state_ids >= 0, known, alone)


def shared_state_fraction(batch: TrajectoryBatch) -> float:
    """Fraction of the turns that began from a state in which another turn of their task began."""
    _, is_first = turn_numbers(batch.turn_ids, batch.action_mask)
    _, place, count = torch.unique(_anchors(batch)[is_first], return_inverse=True, return_counts=True)
    return float((count[place] > 1).float().mean())


def task_rewards(batch: TrajectoryBatch) -> Tensor:
    """[B] all that a trajectory earned, before KL."""
    return batch.rewards + batch.turn_rewards.sum(-1)


def group_advantages(batch: TrajectoryBatch, config: PPOConfig) -> Tensor:
    """[B, T] as `ppo.advantage` says, zero off the mask; KL plays no part in it."""
    by_std, min_std = config.scale_by_group_std, config.min_group_std
    rewards, groups = task_rewards(batch), batch.group_ids
    match config.advantage:
        case "gigpo":
            return gigpo(
                batch, gamma=config.gamma, step_weight=config.step_weight, scale_by_std=by_std, min_std=min_std
            )
        case "rloo":
            found = rloo(rewards, groups)
        case "grpo":
            found = grpo(rewards, groups, scale_by_std=by_std, min_std=min_std)
        case other:
            raise ValueError(f"{other} is no advantage over siblings; allowed: rloo, grpo, gigpo")
    return torch.where(batch.action_mask, found[:, None], 0.0)


def informative_rows(batch: TrajectoryBatch, config: PPOConfig) -> Tensor:
    """Indices of the trajectories whose group has an advantage at all.

    Groups of one and groups of equal rewards have none. They are left out before anything is computed: in the loss
    they would only make the others' share of the mean smaller.
    """
    has_signal = group_advantages(batch, config).ne(0).any(-1)
    return torch.nonzero(torch.isin(batch.group_ids, batch.group_ids[has_signal]))[:, 0]


def kl_advantages(kl_BT: Tensor, action_mask: Tensor, *, kl_coef: float) -> Tensor:
    """[B, T] -beta * (S_t - mean S), S_t the KL from t to the end of the trajectory: reward-to-go, across turns.

    Kept out of the group's statistics: scaled by a group's standard deviation, beta would be another one in each group.

    Args:
        kl_BT: [B, T] k1 of the action tokens.
    """
    to_go = torch.where(action_mask, kl_BT, 0.0).flip(-1).cumsum(-1).flip(-1)
    return torch.where(action_mask, -kl_coef * (to_go - to_go[action_mask].mean()), 0.0)


def group_metrics(trajectories: Sequence[Trajectory]) -> dict[str, float]:
    """How many tasks have samples that all earned the same, of the tasks with several samples.

    `all0` were all scored 0, `all1` all 1 or better, `mixed` all the same in between (or scored unlike, priced alike).
    """
    groups: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        groups.setdefault(trajectory.task_id, []).append(trajectory)
    several = [group for group in groups.values() if len(group) > 1]
    if not several:
        return {}
    flat = [group for group in several if len({each.reward + sum(each.turn_rewards) for each in group}) == 1]
    scores = [[each.score for each in group] for group in flat]
    all0, all1 = sum(max(each) <= 0 for each in scores), sum(min(each) >= 1 for each in scores)
    counts = {
        "zero_variance_fraction": len(flat),
        "groups_zero_variance_all0": all0,
        "groups_zero_variance_all1": all1,
        "groups_zero_variance_mixed": len(flat) - all0 - all1,
    }
    return {name: count / len(several) for name, count in counts.items()}
