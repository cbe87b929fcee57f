"""Advantages over siblings, against goldens, hand-made tables and enumeration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrl.config import PPOConfig
from agentrl.ppo.batch import make_batch
from agentrl.ppo.groups import (
    gigpo,
    group_advantages,
    group_metrics,
    grpo,
    informative_rows,
    kl_advantages,
    rloo,
    shared_state_fraction,
    task_rewards,
)
from agentrl.ppo.kl import kl_estimate
from agentrl.types import Trajectory
from tests.ppo.test_kl import SEQUENCE_GRADIENT, SEQUENCE_REFERENCE, close, sequence_gradient, sequences
from tests.tiny import make_trainer, make_trajectory, sampled_trajectories, tiny_policy

REWARDS = torch.tensor([1.0, 0.0, 0.0, 1.0], dtype=torch.float64)
ONE_GROUP = torch.zeros(4, dtype=torch.long)
WITHOUT_CRITIC = ("rloo", "grpo", "dr_grpo", "dapo", "gspo", "gigpo")


def test_rloo_compares_with_the_mean_of_the_others() -> None:
    close(rloo(REWARDS, ONE_GROUP), (2 / 3, -2 / 3, -2 / 3, 2 / 3))


def test_grpo_divides_by_the_sample_standard_deviation() -> None:
    close(grpo(REWARDS, ONE_GROUP), (0.866024, -0.866024, -0.866024, 0.866024))


def test_dr_grpo_divides_by_nothing() -> None:
    close(grpo(REWARDS, ONE_GROUP, scale_by_std=False), (0.5, -0.5, -0.5, 0.5))


def test_rloo_is_the_distance_to_the_mean_times_n_over_n_less_one() -> None:
    rewards = torch.randn(7, dtype=torch.float64)
    one = torch.zeros(7, dtype=torch.long)
    torch.testing.assert_close(rloo(rewards, one), grpo(rewards, one, scale_by_std=False) * 7 / 6)


@pytest.mark.parametrize("estimate", [rloo, grpo])
def test_groups_do_not_see_each_other(estimate: Callable[[Tensor, Tensor], Tensor]) -> None:
    rewards, groups = torch.randn(9, dtype=torch.float64), torch.tensor([0, 1, 0, 2, 1, 2, 0, 1, 2])
    found = estimate(rewards, groups)
    for group in range(3):
        alone = estimate(rewards[groups == group], torch.zeros(3, dtype=torch.long))
        assert torch.equal(found[groups == group], alone)


@pytest.mark.parametrize("estimate", [rloo, grpo])
@pytest.mark.parametrize("rewards", [(0.1, 0.1, 0.1), (1 / 3,) * 7, (0.7,)])
def test_equal_rewards_and_groups_of_one_have_exactly_no_advantage(
    estimate: Callable[[Tensor, Tensor], Tensor], rewards: tuple[float, ...]
) -> None:
    found = estimate(torch.tensor(rewards), torch.zeros(len(rewards), dtype=torch.long))
    assert found.tolist() == [0.0] * len(rewards)


def test_a_least_standard_deviation_keeps_a_judges_noise_small() -> None:
    noise = torch.tensor([0.80, 0.80, 0.81, 0.80], dtype=torch.float64)
    assert float(grpo(noise, ONE_GROUP).max()) == pytest.approx(1.5, abs=1e-3)
    assert float(grpo(noise, ONE_GROUP, min_std=0.05).max()) == pytest.approx(0.15, abs=1e-3)


def test_rloo_is_unbiased_on_a_bandit_of_three_arms() -> None:
    """The mean over all 27 groups of three draws is the exact gradient."""
    scores = torch.tensor([1.0, 0.5, -0.3], dtype=torch.float64)
    logits = torch.tensor([0.3, -0.2, 0.5], dtype=torch.float64, requires_grad=True)
    logprobs = logits.log_softmax(-1)
    (exact,) = torch.autograd.grad((logprobs.exp() * scores).sum(), logits, retain_graph=True)
    found = torch.zeros(3, dtype=torch.float64)
    for arms in product(range(3), repeat=3):
        drawn = torch.tensor(arms)
        estimate = (rloo(scores[drawn], torch.zeros(3, dtype=torch.long)) * logprobs[drawn]).mean()
        (gradient,) = torch.autograd.grad(estimate, logits, retain_graph=True)
        found += logprobs[drawn].sum().exp().detach() * gradient
    torch.testing.assert_close(found, exact, atol=1e-10, rtol=0)


# GiGPO

TURNS: list[tuple[list[int], bool]] = [([1], False), ([2, 3], True), ([4], False), ([5], True)]


def episode(reward: float, *states: str, task_id: str = "t") -> Trajectory:
    """Two turns, the first of two tokens."""
    one = make_trajectory(TURNS, reward=reward)
    turns = tuple({1: 0, 3: 1}.get(turn, -1) for turn in one.turn_ids)
    return replace(one, task_id=task_id, turn_ids=turns, state_keys=states)


def step_part(*episodes: Trajectory, **options: Any) -> list[list[float]]:
    """What GiGPO adds to the advantages over episodes, on the tokens of the four actions."""
    batch = make_batch(episodes, pad_id=0)
    options = {"gamma": 0.5, "scale_by_std": False, **options}
    added = gigpo(batch, step_weight=1.0, **options) - gigpo(batch, step_weight=0.0, **options)
    assert not added[~batch.action_mask].any()
    return [[round(value, 6) for value in row] for row in added[:, [1, 2, 4]].tolist()]


def test_gigpo_without_repeated_states_is_the_advantage_over_episodes() -> None:
    episodes = [episode(1.0, "a", "b"), episode(0.0, "c", "d"), episode(0.5, "e", "f")]
    assert step_part(*episodes) == [[0.0] * 3] * 3
    batch = make_batch(episodes, pad_id=0)
    found = gigpo(batch, gamma=0.5, step_weight=1.0)
    expected = torch.where(batch.action_mask, grpo(batch.rewards, batch.group_ids)[:, None], 0.0)
    assert torch.equal(found, expected)
    assert shared_state_fraction(batch) == 0


def test_gigpo_compares_the_discounted_returns_of_turns_from_one_state() -> None:
    # from "s": returns 1 (last turn), 0.5 * 0.6 = 0.3 (first of two) and 0.2 (last turn); their mean is 0.5
    episodes = [episode(1.0, "a", "s"), episode(0.6, "s", "b"), episode(0.2, "c", "s")]
    assert step_part(*episodes) == [[0, 0, 0.5], [-0.2, -0.2, 0], [0, 0, -0.3]]
    assert shared_state_fraction(make_batch(episodes, pad_id=0)) == 0.5


def test_states_of_different_tasks_are_never_compared() -> None:
    assert step_part(episode(1.0, "s", "a"), episode(0.0, "s", "b", task_id="other")) == [[0.0] * 3] * 2


def test_what_turns_earned_is_part_of_the_return() -> None:
    one = replace(episode(1.0, "s", "a"), turn_rewards=(0.3, 0.0))
    other = episode(1.0, "s", "b")
    assert task_rewards(make_batch([one, other], pad_id=0)).tolist() == pytest.approx([1.3, 1.0])
    assert step_part(one, other) == [[0.15, 0.15, 0], [-0.15, -0.15, 0]]


# KL without a critic


def test_the_kl_part_gives_the_exact_gradient_of_a_sequence_kl() -> None:
    ref = sequences(SEQUENCE_REFERENCE)

    def loss(logprobs: Tensor, probabilities: Tensor) -> Tensor:
        kl = kl_estimate(logprobs.detach(), ref, "k1")
        advantages = kl_advantages(kl, torch.ones(4, 2, dtype=torch.bool), kl_coef=1.0)
        return -(probabilities[:, None] * advantages * logprobs).sum()

    close(sequence_gradient(loss), SEQUENCE_GRADIENT)


def test_the_kl_part_is_what_is_still_to_come_across_turns_less_its_mean() -> None:
    kl = torch.tensor([[9.0, 0.1, 0.2, 9.0, 0.3]])
    mask = torch.tensor([[False, True, True, False, True]])
    to_go = torch.tensor([0.6, 0.5, 0.3])
    found = kl_advantages(kl, mask, kl_coef=2.0)
    torch.testing.assert_close(found[mask], -2 * (to_go - to_go.mean()))
    assert not found[~mask].any()


# In an update


def grouped(n_groups: int = 3) -> list[Trajectory]:
    drawn = sampled_trajectories(tiny_policy(), 4 * n_groups)
    return [replace(each, task_id=f"t{i // 4}", turn_ids=_consecutive(each)) for i, each in enumerate(drawn)]


def _consecutive(trajectory: Trajectory) -> tuple[int, ...]:
    return tuple(turn // 2 if turn >= 0 else -1 for turn in trajectory.turn_ids)


def updated(trajectories: list[Trajectory], **config: Any) -> tuple[dict[str, float], dict[str, Tensor]]:
    policy = tiny_policy()
    metrics = make_trainer(policy, **config).update(trajectories)
    return metrics, {name: parameter.detach() for name, parameter in policy.named_parameters()}


def assert_equal_weights(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


@pytest.mark.parametrize("preset", WITHOUT_CRITIC)
def test_a_group_without_a_spread_or_siblings_changes_no_weight(preset: str) -> None:
    informative = grouped()
    flat = [replace(each, task_id="flat", reward=0.3) for each in informative[:4]]
    alone = replace(informative[5], task_id="alone", reward=0.9)
    metrics, weights = updated([alone, *informative, *flat], preset=preset, minibatches=2)
    expected, expected_weights = updated(informative, preset=preset, minibatches=2)
    assert metrics["trajectories_without_signal"] == 5
    assert_equal_weights(weights, expected_weights)
    for name in ("loss", "kl_per_trajectory", "grad_norm"):
        assert metrics[name] == expected[name]


@pytest.mark.parametrize("preset", ["rloo", "grpo"])
def test_where_no_group_has_a_spread_nothing_is_learned(preset: str) -> None:
    policy = tiny_policy()
    before = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    metrics = make_trainer(policy, preset=preset).update([replace(each, reward=1.0) for each in grouped()])
    assert (metrics["optimizer_steps"], metrics["zero_variance_fraction"], policy.version) == (0, 1, 1)
    assert_equal_weights(dict(policy.named_parameters()), before)


@pytest.mark.parametrize("preset", WITHOUT_CRITIC)
def test_without_a_critic_none_is_trained_or_asked(preset: str) -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, preset=preset)
    policy.value_head.forward = None  # type: ignore[assignment,method-assign]
    metrics = trainer.update(grouped())
    assert metrics["optimizer_steps"] == 1
    assert not {"value_loss", "explained_variance", "value_mean"} & metrics.keys()
    assert not [name for name in trainer.optimizer_tensors() if name.startswith("value_head")]


@pytest.mark.parametrize("advantage", ["rloo", "grpo", "gigpo"])
def test_rows_with_signal_are_those_of_groups_with_an_advantage(advantage: str) -> None:
    trajectories = [replace(each, reward=1.0) if i < 4 else each for i, each in enumerate(grouped())]
    batch = make_batch(trajectories, pad_id=0)
    config = PPOConfig(preset=advantage)  # type: ignore[arg-type]
    assert informative_rows(batch, config).tolist() == list(range(4, 12))
    found = group_advantages(batch, config)
    assert not found[~batch.action_mask].any()


def test_an_advantage_that_needs_a_critic_is_no_group_advantage() -> None:
    with pytest.raises(ValueError, match="allowed: rloo, grpo, gigpo"):
        group_advantages(make_batch(grouped(), pad_id=0), PPOConfig())


def test_groups_of_equal_rewards_are_counted_by_what_they_scored() -> None:
    scores = {"all0": (0, 0), "all1": (1, 1), "between": (0.5, 0.5), "informative": (0, 1), "alone": (1,)}
    made = [make_trajectory(TURNS, reward=float(score)) for each in scores.values() for score in each]
    names = [name for name, each in scores.items() for _ in each]
    metrics = group_metrics([replace(each, task_id=name) for each, name in zip(made, names, strict=True)])
    assert metrics == {
        "zero_variance_fraction": 0.75,
        "groups_zero_variance_all0": 0.25,
        "groups_zero_variance_all1": 0.25,
        "groups_zero_variance_mixed": 0.25,
    }
    assert group_metrics([make_trajectory(TURNS)]) == {}
