"""Golden values of GAE, over tokens and over turns, and of whitening."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from agentrl.ppo.advantage import (
    Advantages,
    explained_variance,
    gae,
    last_action,
    token_rewards,
    turn_gae,
    whiten,
)


def row(values: Sequence[float]) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


def mask_of(*bits: int) -> Tensor:
    return torch.tensor([bits], dtype=torch.bool)


def run(
    rewards: Sequence[float],
    values: Sequence[float],
    mask: Tensor | None = None,
    *,
    gamma: float = 1.0,
    gae_lambda: float = 0.95,
) -> Advantages:
    mask = mask_of(*[1] * len(rewards)) if mask is None else mask
    return gae(row(rewards), row(values), mask, gamma=gamma, gae_lambda=gae_lambda)


TWO_TURNS = {"rewards": (0, 0, 0, 0, 1), "values": (0.2, 0.4, 9, 9, 0.6), "mask": mask_of(1, 1, 0, 0, 1)}


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 20, generator=generator) < 0.5
    mask[:, 7] = True
    rewards = torch.randn(3, 20, generator=generator, dtype=torch.float64).where(mask, 0.0)
    return rewards, torch.randn(3, 20, generator=generator, dtype=torch.float64), mask


def test_gae_of_a_single_turn_is_the_golden_one() -> None:
    torch.testing.assert_close(run((0, 0, 1), (0.5, 0.6, 0.7)).advantages, row((0.46575, 0.385, 0.3)))


def test_gae_of_two_turns_steps_over_tool_tokens() -> None:
    result = run(**TWO_TURNS)  # type: ignore[arg-type]
    torch.testing.assert_close(result.advantages, row((0.751, 0.58, 0, 0, 0.4)))
    torch.testing.assert_close(result.returns, row((0.951, 0.98, 0, 0, 1.0)))


@pytest.mark.parametrize(
    ("gamma", "gae_lambda", "expected"),
    [(0.99, 0.95, (0.732273, 0.5702, 0, 0, 0.4)), (1.0, 1.0, (0.8, 0.6, 0, 0, 0.4))],
)
def test_gae_of_two_turns_with_other_discounts(gamma: float, gae_lambda: float, expected: Sequence[float]) -> None:
    result = run(**TWO_TURNS, gamma=gamma, gae_lambda=gae_lambda)  # type: ignore[arg-type]
    torch.testing.assert_close(result.advantages, row(expected), atol=1e-6, rtol=0)


def test_an_unmasked_recursion_would_give_other_values() -> None:
    wrong = run(TWO_TURNS["rewards"], TWO_TURNS["values"]).advantages  # type: ignore[arg-type]
    torch.testing.assert_close(wrong[0, :2], row((1.493853, 1.36195))[0], atol=1e-6, rtol=0)


def test_kl_in_the_reward_lowers_the_advantages_as_computed_by_hand() -> None:
    mask = mask_of(1, 1, 0, 0, 1)
    rewards = token_rewards(row((1,))[0], row((0.1, -0.05, 0, 0, 0.2)), mask, kl_coef=0.1)
    torch.testing.assert_close(rewards, row((-0.01, 0.005, 0, 0, 0.98)))
    advantages = gae(rewards, row((0.2, 0.4, 9, 9, 0.6)), mask, gamma=1.0, gae_lambda=0.95).advantages
    torch.testing.assert_close(advantages, row((0.7277, 0.566, 0, 0, 0.38)))


def test_a_trajectory_ends_for_good_after_its_last_action() -> None:
    torch.testing.assert_close(run((0, 0), (0.5, 0.5), gae_lambda=1.0).advantages, row((-0.5, -0.5)))


def test_a_trajectory_that_was_cut_goes_on_with_the_value_of_where_it_was_cut() -> None:
    both = row((0, 0)).repeat(2, 1), row((0.5, 0.5)).repeat(2, 1), torch.ones(2, 2, dtype=torch.bool)
    found = gae(*both, gamma=1.0, gae_lambda=1.0, bootstrap=row((0.5, 0))[0])
    torch.testing.assert_close(found.advantages, torch.tensor([[0.0, 0.0], [-0.5, -0.5]], dtype=torch.float64))


# Turns

TURN_MASK = mask_of(0, 1, 1, 0, 0, 1, 1, 1, 0, 1, 0)
TURN_IDS = torch.tensor([[-1, 0, 0, -1, -1, 1, 1, 1, -1, 4, -1]])  # whatever numbers, as long as they rise


def turns(rewards: Tensor, values: Tensor) -> Advantages:
    return turn_gae(rewards, values, TURN_IDS, TURN_MASK, gamma=0.99, gae_lambda=0.9)


def test_gae_over_turns_is_the_golden_one_on_every_token_of_a_turn() -> None:
    rewards = row((0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0))
    values = row((9, 0.2, 7, 9, 9, 0.4, 7, 7, 9, 0.6, math.nan))  # a turn's value is that of its first token
    found = turns(rewards, values)
    a, b, c = 0.6864064, 0.5504, 0.4
    torch.testing.assert_close(found.advantages, row((0, a, a, 0, 0, b, b, b, 0, c, 0)), atol=1e-9, rtol=0)
    g, h, i = a + 0.2, b + 0.4, 1.0
    torch.testing.assert_close(found.returns, row((0, g, g, 0, 0, h, h, h, 0, i, 0)), atol=1e-9, rtol=0)


def test_a_turn_without_a_reward_is_a_turn_all_the_same() -> None:
    """Found by their rewards, the first two turns here would be one."""
    values = row((0,) * 11)
    with_nothing_before = turns(row((0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0)), values).advantages
    assert float(with_nothing_before[0, 1]) == pytest.approx(0.891**2)
    assert float(with_nothing_before[0, 5]) == pytest.approx(0.891)


def test_a_turn_earns_the_sum_over_its_tokens_wherever_they_are() -> None:
    values = row((0,) * 11)
    one = turns(row((0, 0, 0, 0, 0, 0.1, 0.2, 0.3, 0, 0, 0)), values)
    other = turns(row((0, 0, 0, 0, 0, 0, 0, 0.6, 0, 0, 0)), values)
    torch.testing.assert_close(one.advantages, other.advantages)


def test_with_turns_of_one_token_both_granularities_are_the_same() -> None:
    rewards, values, mask = random_case(5)
    ids = torch.where(mask, torch.arange(20), -1)
    options = {"gamma": 0.97, "gae_lambda": 0.9}
    by_turn, by_token = turn_gae(rewards, values, ids, mask, **options), gae(rewards, values, mask, **options)
    torch.testing.assert_close(by_turn.advantages, by_token.advantages)
    torch.testing.assert_close(by_turn.returns, by_token.returns)


def test_what_turns_earned_lies_on_their_last_tokens_and_none_is_lost() -> None:
    mask = mask_of(0, 1, 1, 0, 1)
    earned = row((0, 0, 0.25, 0, 0.5))
    rewards = token_rewards(row((1,))[0], row((0,) * 5), mask, kl_coef=0.1, turn_rewards=earned)
    torch.testing.assert_close(rewards, row((0, 0, 0.25, 0, 1.5)))


def test_gae_equals_gae_on_the_action_tokens_alone() -> None:
    for seed in range(200):
        rewards, values, mask = random_case(seed)
        whole = gae(rewards, values, mask, gamma=0.97, gae_lambda=0.9)
        for i in range(3):
            kept = mask[i]
            alone = run(rewards[i, kept].tolist(), values[i, kept].tolist(), gamma=0.97, gae_lambda=0.9)
            torch.testing.assert_close(whole.advantages[i, kept], alone.advantages[0], atol=1e-9, rtol=0)
            torch.testing.assert_close(whole.returns[i, kept], alone.returns[0], atol=1e-9, rtol=0)


@pytest.mark.parametrize("junk", [1e6, math.nan, math.inf])
def test_values_of_tool_tokens_change_nothing(junk: float) -> None:
    rewards, values, mask = random_case(1)
    clean = gae(rewards, values, mask, gamma=0.99, gae_lambda=0.9)
    dirty = gae(rewards, values.where(mask, junk), mask, gamma=0.99, gae_lambda=0.9)
    assert torch.equal(clean.advantages, dirty.advantages)
    assert torch.equal(clean.returns, dirty.returns)
    assert not clean.advantages[~mask].any()
    assert not clean.returns[~mask].any()


@pytest.mark.parametrize("junk", [1e6, math.nan])
def test_a_reward_on_a_token_that_was_not_sampled_is_an_error(junk: float) -> None:
    with pytest.raises(ValueError, match="did not sample"):
        run((0, junk, 1), (0, 0, 0), mask_of(1, 0, 1))


def test_kl_of_tool_tokens_is_no_reward() -> None:
    mask = mask_of(0, 1, 0, 1, 0)
    rewards = token_rewards(row((1,))[0], row((math.nan, 0.5, 1e6, 0.5, math.inf)), mask, kl_coef=0.1)
    torch.testing.assert_close(rewards, row((0, -0.05, 0, 0.95, 0)))


def test_the_reward_of_a_trajectory_that_ends_on_tool_output_lies_on_its_last_action_and_none_is_lost() -> None:
    mask = torch.tensor([[0, 1, 1, 0, 0], [0, 0, 1, 0, 1], [0, 1, 0, 0, 0]], dtype=torch.bool)
    rewards_B = torch.tensor([1.0, 0.5, -2.0])
    assert last_action(mask).tolist() == [2, 4, 1]
    rewards_BT = token_rewards(rewards_B, torch.zeros(3, 5), mask, kl_coef=0.1)
    assert torch.equal(rewards_BT.sum(-1), rewards_B)
    assert rewards_BT[0, 2] == 1.0
    assert rewards_BT[2, 1] == -2.0


def test_without_discount_an_advantage_is_the_reward_to_go_less_the_value() -> None:
    rewards, values, mask = random_case(3)
    to_go = rewards.flip(-1).cumsum(-1).flip(-1)
    result = gae(rewards, values, mask, gamma=1.0, gae_lambda=1.0)
    torch.testing.assert_close(result.advantages, torch.where(mask, to_go - values, 0.0), atol=1e-9, rtol=0)


def test_with_lambda_0_an_advantage_is_the_td_error() -> None:
    result = run((0.1, 0.2, 1), (0.5, 0.6, 0.7), gamma=0.9, gae_lambda=0.0)
    expected = row((0.1 + 0.9 * 0.6 - 0.5, 0.2 + 0.9 * 0.7 - 0.6, 1 - 0.7))
    torch.testing.assert_close(result.advantages, expected)


def test_whitened_advantages_are_the_golden_ones() -> None:
    whitened = whiten(row((1, 2, 3, 99, 4)), mask_of(1, 1, 1, 0, 1))
    torch.testing.assert_close(whitened, row((-1.341641, -0.447214, 0.447214, 0, 1.341641)), atol=1e-6, rtol=0)


def test_whitening_ignores_padding() -> None:
    generator = torch.Generator().manual_seed(0)
    advantages, mask = torch.randn(4, 9, generator=generator), torch.rand(4, 9, generator=generator) < 0.6
    padded = torch.cat([advantages, torch.full((4, 7), math.nan)], -1)
    longer_mask = torch.cat([mask, torch.zeros(4, 7, dtype=torch.bool)], -1)
    assert torch.equal(whiten(padded, longer_mask)[:, :9], whiten(advantages, mask))


@pytest.mark.parametrize("constant", [0.0, 0.3, 1000.1])
def test_whitening_of_equal_advantages_gives_zeros(constant: float) -> None:
    whitened = whiten(torch.full((2, 50), constant), torch.ones(2, 50, dtype=torch.bool))
    torch.testing.assert_close(whitened, torch.zeros(2, 50), atol=1e-4, rtol=0)


def test_whitening_of_a_single_action_gives_zero() -> None:
    assert whiten(row((0.0, 7.0)), mask_of(0, 1)).tolist() == [[0.0, 0.0]]


def test_explained_variance_is_1_for_a_perfect_critic_and_0_for_a_constant() -> None:
    returns, mask = row((1, 2, 3, 99)), mask_of(1, 1, 1, 0)
    assert explained_variance(returns, returns, mask) == 1.0
    assert explained_variance(row((5, 5, 5, 5)), returns, mask) == pytest.approx(0.0)
    assert explained_variance(-returns, returns, mask) < 0
    assert explained_variance(returns, row((2, 2, 2, 2)), mask) == 0.0
