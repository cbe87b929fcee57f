from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from agentrl.config import KLConfig, PolicyConfig, PPOConfig
from agentrl.policy.policy import Policy
from agentrl.ppo import objective
from agentrl.ppo.batch import make_batch
from agentrl.ppo.loss import probability_ratio, token_weights
from agentrl.ppo.trainer import PPOTrainer
from agentrl.types import Trajectory
from tests.engine_fixtures import make_tokenizer
from tests.tiny import (
    VOCABULARY,
    bandit_policy,
    gradient_of_update,
    make_trainer,
    make_trajectory,
    sampled_trajectories,
    tiny_policy,
)

MODES = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm")
NO_CLIPPING = 1e9


def weights_of(policy: Policy) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert [name for name in found if not torch.equal(found[name], expected[name])] == []


def moved(policy: Policy, seed: int = 0, scale: float = 0.01) -> None:
    """Push the weights, as earlier optimiser steps would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, parameter in policy.named_parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)


# The first pass


def test_the_first_ratio_is_exactly_1() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, microbatch_tokens=60)
    metrics = trainer.update(sampled_trajectories(policy, 12))
    assert metrics["ratio_recompute_maxdev"] == 0
    assert metrics["clip_fraction"] == 0
    assert metrics["approx_kl"] == 0


def test_the_first_gradient_is_that_of_the_plain_policy_gradient() -> None:
    trajectories = sampled_trajectories(tiny_policy())
    found = gradient_of_update(
        lambda: make_trainer(tiny_policy(), value_coef=0.0, max_grad_norm=NO_CLIPPING), trajectories
    )
    policy = tiny_policy()
    trainer = make_trainer(policy)
    batch = make_batch(trajectories, pad_id=0)
    experience = trainer._experience(batch, [torch.arange(len(batch))], gae_lambda=0.95)
    logprobs = policy.evaluate(batch.token_ids, batch.action_mask).logprobs
    loss = -(experience.weights * experience.advantages * logprobs).sum() / batch.action_mask.sum()
    loss.backward()  # type: ignore[no-untyped-call]
    for name, parameter in policy.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(found[name], parameter.grad, atol=1e-6, rtol=1e-4)


def test_dropout_makes_the_recomputation_detector_fire() -> None:
    policy = tiny_policy(attention_dropout=0.3)
    trajectories = sampled_trajectories(policy)
    policy.model.train()
    assert make_trainer(policy).update(trajectories)["ratio_recompute_maxdev"] > 0.01


def test_a_temperature_that_differs_between_the_passes_makes_the_recomputation_detector_fire() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy)
    evaluate = policy.evaluate

    def cooler_with_gradients(*args: Any, **kwargs: Any) -> Any:
        policy.temperature = 0.7 if torch.is_grad_enabled() else 1.0
        return evaluate(*args, **kwargs)

    policy.evaluate = cooler_with_gradients  # type: ignore[method-assign]
    assert trainer.update(sampled_trajectories(policy))["ratio_recompute_maxdev"] > 0.01


def test_an_engine_at_another_temperature_shows_in_the_mismatch() -> None:
    trajectories = sampled_trajectories(tiny_policy())
    same = make_trainer(tiny_policy()).update(trajectories)
    assert same["mismatch_abs_logprob_mean"] < 1e-5
    assert same["mismatch_abs_prob_mean"] < 1e-6
    assert same["mismatch_weight_mean"] == pytest.approx(1.0, abs=1e-5)
    assert same["mismatch_ess"] == pytest.approx(1.0, abs=1e-5)
    other = make_trainer(tiny_policy(temperature=0.7)).update(trajectories)
    assert other["mismatch_abs_logprob_mean"] > 0.1
    assert other["mismatch_abs_prob_mean"] > 1e-3
    assert other["mismatch_ess"] < 0.99


def test_the_mismatch_is_told_by_its_mean_its_99th_percentile_and_its_largest() -> None:
    policy = tiny_policy()
    ids, start = list(range(1, 102)), 1
    (own,) = policy.score(ids, start, [1.0])
    apart = [0.0] * 97 + [-0.1, -0.2, -3.0]  # of 100 tokens
    pieces = [(ids[:start], False), (ids[start:], True)]
    engine = [logprob + by for logprob, by in zip(own, apart, strict=True)]
    metrics = make_trainer(policy).update([make_trajectory(pieces, engine_logprobs=engine)] * 2)
    assert metrics["mismatch_abs_logprob_mean"] == pytest.approx(0.033, abs=1e-4)
    assert metrics["mismatch_abs_logprob_p99"] == pytest.approx(0.2, abs=1e-4)
    assert metrics["mismatch_abs_logprob_max"] == pytest.approx(3.0, abs=1e-4)


def test_effective_sample_size_is_the_golden_one() -> None:
    policy = tiny_policy()
    pieces: list[tuple[list[int], bool]] = [([1, 2], False), ([3, 4, 5, 6], True)]
    blank = make_trajectory(pieces)
    ids, mask = torch.tensor([blank.token_ids]), torch.tensor([blank.action_mask])
    logprobs = policy.evaluate(ids, mask).logprobs[mask].detach()
    engine = (logprobs - torch.tensor([2.0, 1.0, 0.5, 0.5]).log()).tolist()
    metrics = make_trainer(policy).update([make_trajectory(pieces, engine_logprobs=engine)])
    assert metrics["mismatch_ess"] == pytest.approx(0.727273, abs=1e-4)


def test_tokens_that_the_engine_draws_too_rarely_count_more_up_to_the_cap() -> None:
    plain = sampled_trajectories(tiny_policy())
    rare = [replace(t, engine_logprobs=tuple(p - 9.0 for p in t.engine_logprobs)) for t in plain]

    def run(trajectories: Sequence[Trajectory]) -> dict[str, Tensor]:
        return gradient_of_update(
            lambda: make_trainer(tiny_policy(), value_coef=0.0, max_grad_norm=NO_CLIPPING, mismatch_cap=2.0),
            trajectories,
        )

    once = run(plain)
    for name, gradient in run(rare).items():
        torch.testing.assert_close(gradient, 2 * once[name], atol=1e-5, rtol=1e-3)


# What changes no gradient


@pytest.mark.parametrize("aggregation", MODES)
def test_neither_microbatches_nor_the_order_of_trajectories_change_the_gradient(aggregation: str) -> None:
    trajectories = sampled_trajectories(tiny_policy(), 10)
    assert len({len(trajectory.token_ids) for trajectory in trajectories}) > 3

    def run(trajectories: Sequence[Trajectory], microbatch_tokens: int) -> dict[str, Tensor]:
        return gradient_of_update(
            lambda: make_trainer(
                tiny_policy(),
                aggregation=aggregation,
                microbatch_tokens=microbatch_tokens,
                entropy_coef=0.01,
                max_grad_norm=NO_CLIPPING,
            ),
            trajectories,
        )

    whole = run(trajectories, 100_000)
    for other in (run(trajectories, 1), run(trajectories, 70), run(trajectories[::-1], 130)):
        for name, expected in whole.items():
            torch.testing.assert_close(other[name], expected, atol=1e-6, rtol=1e-4)


def test_the_size_of_a_microbatch_changes_no_minibatch() -> None:
    policy = tiny_policy()
    batch = make_batch(sampled_trajectories(policy, 13), pad_id=0)

    def hands(microbatch_tokens: int) -> list[list[int]]:
        trainer = make_trainer(policy, minibatches=4, microbatch_tokens=microbatch_tokens)
        dealt = trainer._minibatches(batch, torch.Generator().manual_seed(0))
        return [sorted(torch.cat(pieces).tolist()) for pieces in dealt]

    assert hands(1) == hands(60) == hands(100_000)
    assert sorted(len(hand) for hand in hands(60)) == [3, 3, 3, 4]
    assert sorted(chain(*hands(60))) == list(range(13))


def test_groups_stay_whole_where_there_are_enough_of_them() -> None:
    policy = tiny_policy()
    drawn = [replace(each, task_id=f"t{i % 5}") for i, each in enumerate(sampled_trajectories(policy, 15))]
    batch = make_batch(drawn, pad_id=0)
    trainer = make_trainer(policy, minibatches=3)
    dealt = trainer._minibatches(batch, torch.Generator().manual_seed(0))
    tasks = [{i % 5 for i in torch.cat(pieces).tolist()} for pieces in dealt]
    assert sorted(map(len, tasks)) == [1, 2, 2]
    assert set.union(*tasks) == set(range(5))
    assert sum(len(torch.cat(pieces)) for pieces in dealt) == 15


def test_an_update_takes_as_many_optimiser_steps_as_the_config_says_however_short_the_trajectories() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, minibatches=4, epochs=2, microbatch_tokens=1_000_000, learning_rate=1e-5)
    assert trainer.update(sampled_trajectories(policy, 12))["optimizer_steps"] == 8


def test_there_are_never_more_minibatches_than_trajectories() -> None:
    policy = tiny_policy()
    assert make_trainer(policy, minibatches=4).update(sampled_trajectories(policy, 2))["optimizer_steps"] == 2


def test_what_follows_the_last_action_and_log_probabilities_off_the_mask_leave_the_gradient_bitwise_alone() -> None:
    pieces: list[tuple[list[int], bool]] = [([1, 2], False), ([3, 4, 5], True), ([6, 7], False)]
    clean = make_trajectory(pieces, reward=1.0, engine_logprobs=[-3.0, -2.0, -4.0])
    dirty = replace(
        clean,
        token_ids=(*clean.token_ids[:-2], 50, 51),
        engine_logprobs=tuple(
            p if is_action else -123.0 for p, is_action in zip(clean.engine_logprobs, clean.action_mask, strict=True)
        ),
    )

    def run(trajectory: Trajectory) -> dict[str, Tensor]:
        return gradient_of_update(lambda: make_trainer(tiny_policy()), [trajectory])

    assert_same(run(dirty), run(clean))


def test_padding_changes_no_loss() -> None:
    trajectories = sampled_trajectories(tiny_policy(), 6)
    padded = [
        replace(
            trajectory,
            token_ids=trajectory.token_ids + (9,) * 7,
            action_mask=trajectory.action_mask + (False,) * 7,
            engine_logprobs=trajectory.engine_logprobs + (0.0,) * 7,
            turn_ids=trajectory.turn_ids + (-1,) * 7,
            policy_versions=trajectory.policy_versions + (-1,) * 7,
        )
        for trajectory in trajectories
    ]
    plain, longer = (make_trainer(tiny_policy()).update(given) for given in (trajectories, padded))
    for name, value in plain.items():
        assert longer[name] == pytest.approx(value, abs=1e-5), name


def test_advantages_are_whitened_over_the_whole_step_whatever_the_pieces() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy)
    batch = make_batch(sampled_trajectories(policy, 9), pad_id=0)
    whole = trainer._experience(batch, [torch.arange(9)], gae_lambda=0.95)
    split = trainer._experience(batch, [torch.tensor([i]) for i in range(9)], gae_lambda=0.95)
    torch.testing.assert_close(split.advantages, whole.advantages, atol=1e-5, rtol=0)
    chosen = whole.advantages[batch.action_mask]
    assert float(chosen.mean()) == pytest.approx(0, abs=1e-5)
    assert float(chosen.std(correction=0)) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(
        whole.returns,
        make_trainer(policy, whiten_advantages=False)._experience(batch, [torch.arange(9)], gae_lambda=0.95).returns,
    )


# The gradient of the whole loss


def float64_policy() -> Policy:
    """GPT-2: Qwen3's norms compute in float32 whatever the weights are."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=2, n_positions=64, initializer_range=0.2)
    policy = Policy(GPT2LMHeadModel(config).double(), make_tokenizer(), PolicyConfig(value_hidden_size=16))
    torch.nn.init.normal_(policy.value_head.out.weight, std=0.3)
    policy.value_head.double()
    return policy


@pytest.mark.parametrize("placement", ["reward", "loss"])
def test_the_gradient_of_the_whole_loss_equals_central_differences(
    placement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = float64_policy()
    kl = KLConfig(coef=0.3, placement=placement, estimator="k2" if placement == "loss" else "k1")  # type: ignore[arg-type]
    trainer = make_trainer(policy, entropy_coef=0.05, value_coef=0.7, kl=kl, dual_clip=None)
    batch = make_batch(sampled_trajectories(policy, 6), pad_id=0)
    batch = replace(batch, engine_logprobs=batch.engine_logprobs.double(), rewards=batch.rewards.double())
    experience = trainer._experience(batch, [torch.arange(6)], gae_lambda=0.95)
    weights = token_weights(batch.action_mask, "token_mean")
    moved(policy)  # ratios away from 1: some are clipped, none at the kink
    with torch.no_grad():
        ratio = probability_ratio(policy.evaluate(batch.token_ids, batch.action_mask).logprobs, experience.old_logprobs)
    weight = objective.importance(experience, ratio, trainer.config)
    monkeypatch.setattr(objective, "importance", lambda *_: weight)  # it has no gradient: it must not move either

    def loss() -> Tensor:
        return (weights * trainer._loss_terms(experience)["loss"]).sum()

    named = dict(policy.named_parameters())
    gradients = dict(zip(named, torch.autograd.grad(loss(), list(named.values())), strict=True))
    generator = torch.Generator().manual_seed(1)
    h = 1e-6
    # The critic's gradient stops at the trunk, so the trunk's is the gradient of the loss without the critic.
    for prefix, value_coef in (("value_head.", 0.7), ("model.", 0.0)):
        trainer.config = trainer.config.model_copy(update={"value_coef": value_coef})
        names = [name for name in named if name.startswith(prefix)]
        for _ in range(4):
            directions = {name: torch.randn(named[name].shape, generator=generator).double() for name in names}

            def at(step: float, directions: dict[str, Tensor] = directions) -> float:
                with torch.no_grad():
                    for name, direction in directions.items():
                        named[name] += step * direction
                    value = float(loss())
                    for name, direction in directions.items():
                        named[name] -= step * direction
                return value

            numeric = (at(h) - at(-h)) / (2 * h)
            analytic = float(sum((gradients[name] * directions[name]).sum() for name in names))
            assert analytic == pytest.approx(numeric, rel=1e-4)


def test_without_an_entropy_bonus_the_entropy_is_reported_and_has_no_gradient() -> None:
    trajectories = sampled_trajectories(tiny_policy())
    without = make_trainer(tiny_policy()).update(trajectories)
    with_bonus = make_trainer(tiny_policy(), entropy_coef=0.1).update(trajectories)
    assert without["entropy"] == with_bonus["entropy"] > 0
    assert without["loss"] == pytest.approx(without["policy_loss"] + 0.1 * without["value_loss"], abs=1e-6)
    assert with_bonus["loss"] == pytest.approx(without["loss"] - 0.1 * without["entropy"], abs=1e-6)


@pytest.mark.parametrize("aggregation", MODES)
def test_metrics_are_token_means_whatever_the_aggregation(aggregation: str) -> None:
    trajectories = sampled_trajectories(tiny_policy())
    settings = {"epochs": 3, "learning_rate": 1e-3, "guards": {"max_update_kl": 1e9}}
    first = make_trainer(tiny_policy(), aggregation=aggregation, **{**settings, "epochs": 1}).update(trajectories)
    expected = make_trainer(tiny_policy()).update(trajectories)
    for name in ("entropy", "approx_kl", "clip_fraction", "policy_loss"):
        assert first[name] == pytest.approx(expected[name], abs=1e-6)
    later = make_trainer(tiny_policy(), aggregation=aggregation, **settings).update(trajectories)
    assert 0 <= later["clip_fraction"] <= 1


# Clipping, rates, what is not finite


def test_the_reported_gradient_norm_is_the_true_one_and_clipping_keeps_its_direction() -> None:
    trajectories = sampled_trajectories(tiny_policy())
    free = gradient_of_update(lambda: make_trainer(tiny_policy(), max_grad_norm=NO_CLIPPING), trajectories)
    clipped = gradient_of_update(lambda: make_trainer(tiny_policy(), max_grad_norm=0.01), trajectories)
    free_vector, clipped_vector = (torch.cat([g.flatten() for g in given.values()]) for given in (free, clipped))
    metrics = make_trainer(tiny_policy(), max_grad_norm=0.01).update(trajectories)
    assert metrics["grad_norm"] == pytest.approx(float(free_vector.norm()), rel=1e-3)
    assert float(clipped_vector.norm()) <= 0.01 * 1.001
    assert float(torch.cosine_similarity(free_vector, clipped_vector, dim=0)) > 0.9999


def test_the_reported_gradient_norm_is_the_largest_of_the_update() -> None:
    policy = tiny_policy()
    trajectories = [replace(t, reward=100.0 if i == 3 else 0.0) for i, t in enumerate(sampled_trajectories(policy, 4))]
    trainer = make_trainer(policy, minibatches=4, whiten_advantages=False, learning_rate=0.0)
    norms = []
    backward = trainer._backward

    def listening(*args: Any) -> dict[str, float]:
        norms.append(backward(*args))
        return norms[-1]

    trainer._backward = listening  # type: ignore[method-assign]
    assert trainer.update(trajectories)["grad_norm"] == max(row["grad_norm"] for row in norms) > 10


def test_a_learning_rate_of_0_leaves_the_weights_bitwise_alone() -> None:
    policy = tiny_policy()
    before = weights_of(policy)
    trainer = make_trainer(policy, learning_rate=0.0, value_learning_rate=0.0, minibatches=3, epochs=2)
    trajectories = sampled_trajectories(policy)
    trainer.warm_up_critic(trajectories)
    metrics = trainer.update(trajectories)
    assert metrics["grad_norm"] > 0
    assert_same(weights_of(policy), before)


def test_the_critic_may_stand_still_while_the_policy_learns_and_the_other_way_round() -> None:
    for rates, still in (
        ({"learning_rate": 1e-3, "value_learning_rate": 0.0}, "value_head."),
        ({"learning_rate": 0.0, "value_learning_rate": 1e-3}, "model."),
    ):
        policy = tiny_policy()
        before = weights_of(policy)
        make_trainer(policy, **rates).update(sampled_trajectories(policy))
        changed = {name for name, weights in weights_of(policy).items() if not torch.equal(weights, before[name])}
        assert changed
        assert not any(name.startswith(still) for name in changed)


def test_weight_decay_spares_norms_and_biases() -> None:
    trainer = make_trainer(tiny_policy(), weight_decay=0.1)
    for group in trainer.optimizer.param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] == 0.1}


def test_every_trainable_parameter_is_in_the_optimiser_and_moves() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy)
    before = weights_of(policy)
    inside = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert inside == {id(parameter) for _, parameter in policy.named_parameters()}
    trainer.update(sampled_trajectories(policy))
    assert [name for name, weights in weights_of(policy).items() if torch.equal(weights, before[name])] == []


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_whose_gradient_is_not_finite_is_not_taken_and_counted(bad: float) -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, minibatches=2)
    trainer.update(sampled_trajectories(policy))
    before, state = weights_of(policy), trainer.optimizer_tensors()
    hook = policy.model.model.norm.weight.register_hook(lambda gradient: gradient * bad)
    metrics = trainer.update(sampled_trajectories(policy))
    assert (metrics["skipped_optimizer_steps"], metrics["optimizer_steps"]) == (2, 0)
    assert "loss" not in metrics
    assert_same(weights_of(policy), before)
    assert_same(trainer.optimizer_tensors(), state)
    hook.remove()
    assert trainer.update(sampled_trajectories(policy))["optimizer_steps"] == 2


def test_a_minibatch_that_is_not_finite_takes_no_other_one_with_it() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, minibatches=4)
    backward, calls = trainer._backward, []

    def second_one_fails(*args: Any) -> dict[str, float]:
        calls.append(backward(*args))
        return calls[-1] | ({"loss": float("nan")} if len(calls) == 2 else {})

    trainer._backward = second_one_fails  # type: ignore[method-assign]
    metrics = trainer.update(sampled_trajectories(policy))
    assert (metrics["skipped_optimizer_steps"], metrics["optimizer_steps"]) == (1, 3)
    assert math.isfinite(metrics["loss"])


def test_trajectories_of_older_weights_never_reach_the_loss() -> None:
    """The update with them in the batch is bit-equal to the update without them, but for their count."""
    policies = [tiny_policy(), tiny_policy()]
    found = []
    for policy, has_stale in zip(policies, (True, False), strict=True):
        policy.version = 2
        fresh = sampled_trajectories(policy, 6)
        stale = [replace(fresh[0], reward=100.0, policy_versions=tuple(min(1, v) for v in fresh[0].policy_versions))]
        found.append(make_trainer(policy, minibatches=2).update([*fresh[:3], *(stale * has_stale), *fresh[3:]]))
    assert [metrics.pop("stale_trajectories") for metrics in found] == [1.0, 0.0]
    assert found[0] == found[1]
    assert_same(*(weights_of(policy) for policy in policies))


def test_a_batch_of_nothing_but_older_weights_is_refused() -> None:
    policy = tiny_policy()
    trajectories = sampled_trajectories(policy)
    policy.version = 1
    with pytest.raises(ValueError, match=r"older weights than allowed: ppo.max_staleness is 0, the policy's version 1"):
        make_trainer(policy).update(trajectories)
    make_trainer(policy, max_staleness=1).update(trajectories)


def test_weights_that_are_not_finite_are_found_at_the_next_update() -> None:
    policy = tiny_policy()
    trajectories = sampled_trajectories(policy)
    with torch.no_grad():
        policy.model.model.norm.weight[0] = float("nan")
    metrics = make_trainer(policy).update(trajectories)
    assert metrics["skipped_optimizer_steps"] == 1
    assert math.isnan(metrics["kl_per_token"])


def test_an_update_that_moved_too_far_drops_the_rest_of_the_batch() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, learning_rate=0.3, minibatches=4, epochs=2)
    metrics = trainer.update(sampled_trajectories(policy, 8))
    assert metrics["abandoned_minibatches"] == 1
    assert metrics["optimizer_steps"] == 1  # the second minibatch saw it: its own step was not taken either
    calm = make_trainer(tiny_policy(), learning_rate=1e-5, minibatches=4).update(sampled_trajectories(policy, 8))
    assert "abandoned_minibatches" not in calm


def test_the_order_of_minibatches_depends_on_seed_and_version_alone() -> None:
    def run(seed: int) -> dict[str, Tensor]:
        policy = tiny_policy()
        trajectories = sampled_trajectories(policy, 12)
        torch.manual_seed(torch.seed())  # the global generator plays no part
        make_trainer(policy, seed=seed, minibatches=4).update(trajectories)
        return weights_of(policy)

    assert_same(run(3), run(3))
    assert any(not torch.equal(weights, run(4)[name]) for name, weights in run(3).items())


# Critic, penalty, KL


def test_the_warm_up_teaches_the_critic_and_leaves_the_policy_bitwise_alone() -> None:
    policy = tiny_policy()
    before = weights_of(policy)
    trainer = make_trainer(policy, value_learning_rate=1e-2, critic_warmup_steps=200)
    trajectories = sampled_trajectories(policy, 12)
    assert trainer.warm_up_critic(trajectories)["explained_variance"] > 0.9
    after = weights_of(policy)
    assert_same(*({name: w for name, w in given.items() if name.startswith("model.")} for given in (after, before)))
    assert trainer.optimizer_tensors() == {}
    assert policy.version == 0


def test_without_any_reward_and_a_fresh_critic_there_is_no_policy_gradient() -> None:
    policy = tiny_policy()
    torch.nn.init.zeros_(policy.value_head.out.weight)
    before = weights_of(policy)
    trajectories = [replace(trajectory, reward=0.0) for trajectory in sampled_trajectories(policy)]
    metrics = make_trainer(policy).update(trajectories)
    assert metrics["policy_loss"] == 0
    assert_same(weights_of(policy), before)


def test_the_adaptive_controller_follows_the_kl_of_the_batch() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, kl=KLConfig(coef=0.2, controller="adaptive", horizon=100))
    moved(policy, scale=0.3)
    metrics = trainer.update(sampled_trajectories(policy))
    assert metrics["kl_coef"] == 0.2
    error = min(max(metrics["kl_per_trajectory"] / 6 - 1, -0.2), 0.2)
    assert trainer.kl.coef == pytest.approx(0.2 * (1 + error * 8 / 100))


def solve_bandit(
    start: Sequence[float], scores: Sequence[float], kl: KLConfig, *, updates: int = 240, **settings: Any
) -> list[float]:
    """Arms' probabilities after PPO on batches that hold every arm as often as the policy draws it."""
    policy = bandit_policy(start)
    config = PPOConfig(
        learning_rate=0.1, value_learning_rate=0.1, adam_eps=1e-8, betas=(0.0, 0.9), minibatches=1,
        kl=KLConfig(coef=kl.coef), microbatch_tokens=10**9, **{"whiten_advantages": False, **settings},
        learning_rate_schedule="cosine", steps=updates,
    )  # fmt: skip
    config = config.model_copy(update={"kl": kl})  # unchecked
    trainer = PPOTrainer(policy, make_trainer(policy).reference, config)
    for _ in range(updates):
        logprobs = policy.model.arms.detach().log_softmax(-1)
        trajectories: list[Trajectory] = []
        for arm, count in enumerate((400 * logprobs.exp()).round().int().tolist()):
            pieces: list[tuple[list[int], bool]] = [([99], False), ([arm], True)]
            one = make_trajectory(
                pieces, reward=scores[arm], engine_logprobs=[float(logprobs[arm])], policy_version=policy.version
            )
            trajectories += [one] * count
        trainer.update(trajectories)
    return policy.model.arms.detach().softmax(-1).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("preset", ["rloo", "dr_grpo"])
def test_without_a_critic_ppo_ends_at_the_same_optimum(preset: str) -> None:
    found = solve_bandit(**THREE_ARMS, kl=KLConfig(coef=0.5), preset=preset, critic_warmup_steps=0, value_coef=0.0)  # type: ignore[arg-type]
    assert found == pytest.approx((0.529056, 0.291944, 0.179000), abs=5e-3)


def test_twenty_updates_leave_the_reference_bitwise_alone() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, minibatches=2)
    frozen = trainer.reference.policy.model
    trajectories = sampled_trajectories(policy, 4)
    before = trainer.reference.digest()
    metrics = [trainer.update([_stamped(each, policy.version) for each in trajectories]) for _ in range(20)]
    assert trainer.reference.digest() == before
    assert metrics[0]["kl_per_token"] == metrics[0]["kl_per_trajectory"] == 0
    assert metrics[-1]["kl_per_token"] > 0
    trained = {id(parameter) for group in trainer.optimizer.param_groups for parameter in group["params"]}
    assert not [
        name
        for name, parameter in frozen.named_parameters()
        if parameter.grad is not None or parameter.requires_grad or id(parameter) in trained
    ]


def _stamped(trajectory: Trajectory, version: int) -> Trajectory:
    return replace(trajectory, policy_versions=tuple(version if m else -1 for m in trajectory.action_mask))


def test_the_schedule_scales_every_learning_rate_of_its_step() -> None:
    policy = tiny_policy()
    rates = {"learning_rate": 1e-3, "value_learning_rate": 1e-2}
    trainer = make_trainer(policy, steps=4, learning_rate_schedule="linear", **rates)
    seen = []
    for _ in range(3):
        trajectories = [_stamped(each, policy.version) for each in sampled_trajectories(policy, 3)]
        seen.append(trainer.update(trajectories)["learning_rate"])
    assert seen == pytest.approx([1e-3, 7.5e-4, 5e-4])
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {5e-4, 5e-3}


THREE_ARMS = {"start": (0.2, 0.3, 0.5), "scores": (1.0, 0.5, 0.0)}


@pytest.mark.parametrize(("placement", "estimator"), [("reward", "k1"), ("loss", "k2")])
def test_ppo_ends_at_the_optimum_of_reward_less_kl(placement: str, estimator: str) -> None:
    kl = KLConfig(coef=0.5, placement=placement, estimator=estimator)  # type: ignore[arg-type]
    found = solve_bandit(**THREE_ARMS, kl=kl)  # type: ignore[arg-type]
    assert found == pytest.approx((0.529056, 0.291944, 0.179000), abs=5e-3)


def test_k3_as_a_loss_would_end_elsewhere() -> None:
    refused_by_the_config = KLConfig(coef=0.5).model_copy(update={"placement": "loss", "estimator": "k3"})
    found = solve_bandit(**THREE_ARMS, kl=refused_by_the_config)  # type: ignore[arg-type]
    assert found == pytest.approx((0.565885, 0.221659, 0.212456), abs=5e-3)


@pytest.mark.parametrize(("beta", "expected"), [(1.0, 0.731059), (0.5, 0.880797), (0.25, 0.982014)])
def test_beta_sets_how_far_the_better_of_two_arms_is_preferred(beta: float, expected: float) -> None:
    found = solve_bandit((0.5, 0.5), (1.0, 0.0), KLConfig(coef=beta))
    assert found[0] == pytest.approx(expected, abs=5e-3)
