"""Rewards on tokens, and advantages from them."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Advantages(NamedTuple):
    """Both [B, T], zero off the action mask."""

    advantages: Tensor
    returns: Tensor


def last_action(action_mask: Tensor) -> Tensor:
    """[B] position of each trajectory's last action token."""
    positions = torch.arange(action_mask.shape[1], device=action_mask.device)
    return torch.where(action_mask, positions, -1).argmax(-1)


def token_rewards(
    rewards_B: Tensor, kl_BT: Tensor, action_mask: Tensor, *, kl_coef: float, turn_rewards: Tensor | None = None
) -> Tensor:
    """[B, T] reward of each token: r_t = -beta * KL_t, plus what turns earned, plus R on the last action token.

    The last action, not the last token: a trajectory may end on tool output, which is masked, and a reward there
    would be lost.

    Args:
        turn_rewards: [B, T] on the last action token of each turn.
    """
    rewards = torch.where(action_mask, -kl_coef * kl_BT, 0.0)
    if turn_rewards is not None:
        rewards = rewards + turn_rewards
    rewards[torch.arange(len(rewards_B)), last_action(action_mask)] += rewards_B
    return rewards


def gae(
    rewards: Tensor,
    values: Tensor,
    action_mask: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    bootstrap: Tensor | None = None,
) -> Advantages:
    """Generalized advantage estimation over action tokens (Schulman et al. 2016, arXiv:1506.02438, eq. 16).

    delta_t = r_t + gamma * V_next - V_t;  A_t = delta_t + gamma * lambda * A_next

    "next" is the next action token: tool and prompt tokens are stepped over, so tool output changes no advantage.
    A trajectory ends for good (V_next = 0 after its last action) unless it is cut: budgets are part of the task.

    Args:
        rewards: [B, T] after KL shaping. Non-zero off the mask is an error, it would vanish.
        values: [B, T] V of the tokens before t; anything off the mask, NaN included.
        action_mask: [B, T] bool, True where the policy sampled the token.
        bootstrap: [B] value of the state at which a trajectory was cut for reasons that are not the task's, 0 where
            it ended; None is 0 everywhere.

    Returns:
        advantages and returns, [B, T], zero off the mask, not normalised.

    Raises:
        ValueError: a reward lies on a masked token.
    """
    if bool((rewards.masked_fill(action_mask, 0.0) != 0).any()):
        raise ValueError("a reward lies on a token that the policy did not sample; it would be lost")
    advantages = torch.zeros_like(rewards)
    carry = rewards.new_zeros(len(rewards))
    next_value = carry if bootstrap is None else bootstrap
    for t in range(rewards.shape[1] - 1, -1, -1):
        is_action = action_mask[:, t]
        delta = rewards[:, t] + gamma * next_value - values[:, t]
        carry = torch.where(is_action, delta + gamma * gae_lambda * carry, carry)
        next_value = torch.where(is_action, values[:, t], next_value)
        advantages[:, t] = torch.where(is_action, carry, 0.0)
    return Advantages(advantages, torch.where(action_mask, advantages + values, 0.0))


def turn_numbers(turn_ids: Tensor, action_mask: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T] number of each action token's turn, from 0 without gaps (0 off the mask), and [B, T] where turns begin."""
    before = turn_ids.masked_fill(~action_mask, -1).cummax(-1).values.roll(1, -1)
    before[:, 0] = -1
    is_first = action_mask & (turn_ids > before)
    return torch.where(action_mask, is_first.cumsum(-1) - 1, 0), is_first


def turn_sums(tokens: Tensor, turns: Tensor, chosen: Tensor) -> Tensor:
    """[B, K] sums over each turn's chosen tokens; `tokens` [B, T] may be anything elsewhere."""
    sums = tokens.new_zeros(len(tokens), int(turns.max()) + 1)
    return sums.scatter_add(-1, turns, torch.where(chosen, tokens, 0.0))


def turn_gae(
    rewards: Tensor,
    values: Tensor,
    turn_ids: Tensor,
    action_mask: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
) -> Advantages:
    """GAE with one action a turn (Turn-PPO, arXiv:2512.17008): the value is that of the turn's first action token.

    Every action token of a turn has the turn's advantage and return. Turns are told apart by their ids: by their
    rewards (a turn ends where the reward is not 0) those without one would be merged into the next.

    Args:
        rewards: [B, T] after KL shaping; a turn earns the sum over its action tokens.
        values: [B, T] V of the tokens before t.
        turn_ids: [B, T] ascending.
        action_mask: [B, T] bool.
    """
    turns, is_first = turn_numbers(turn_ids, action_mask)
    has_turn = turn_sums(torch.ones_like(rewards), turns, is_first) > 0
    found = gae(
        turn_sums(rewards, turns, action_mask),
        turn_sums(values, turns, is_first),
        has_turn,
        gamma=gamma,
        gae_lambda=gae_lambda,
    )
    return Advantages(*(torch.where(action_mask, each.gather(-1, turns), 0.0) for each in found))


def whiten(advantages: Tensor, action_mask: Tensor) -> Tensor:
    """Mean 0 and (population) standard deviation 1 over the action tokens of the whole batch; zero off the mask.

    A batch without variance (std below 1e-8) is only centred: dividing would turn rounding noise into signal.
    """
    chosen = advantages[action_mask]
    std = chosen.std(correction=0)
    centred = advantages - chosen.mean()
    return torch.where(action_mask, centred / std if std > 1e-8 else centred, 0.0)


def explained_variance(values: Tensor, returns: Tensor, action_mask: Tensor) -> float:
    """1 - Var(G - V) / Var(G) over action tokens: 1 is a perfect critic, 0 no better than the mean."""
    target = returns[action_mask]
    variance = target.var(correction=0)
    return float(1 - (target - values[action_mask]).var(correction=0) / variance) if variance > 1e-8 else 0.0
