from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrl.config import LoRAConfig, PolicyConfig
from agentrl.errors import TrainingStopped
from agentrl.policy.policy import Policy
from agentrl.ppo.checks import CheckFailed, FirstUpdate, delicate_parts, meant_to_train
from agentrl.ppo.optimizer import make_optimizer
from agentrl.ppo.trainer import PPOTrainer
from agentrl.types import Trajectory
from tests.tiny import make_trainer, make_trajectory, tiny_model, tiny_policy

LORA = PolicyConfig(value_hidden_size=16, lora=LoRAConfig(rank=2, alpha=4))


def sampled(policy: Policy, n: int = 4) -> list[Trajectory]:
    """Trajectories with the log-probabilities that the policy gives them, as a right engine would."""
    found = []
    for i in range(n):
        plain = make_trajectory([([5, 6, 7 + i], False), ([8, 9 + i, 10], True)], reward=float(i % 2), name=f"r{i}")
        ids, mask = torch.tensor([plain.token_ids]), torch.tensor([plain.action_mask])
        with torch.no_grad():
            logprobs = policy.evaluate(ids, mask).logprobs[0].tolist()
        found.append(replace(plain, engine_logprobs=tuple(logprobs)))
    return found


def take_updates(trainer: PPOTrainer, n: int = 2) -> None:
    check = FirstUpdate(trainer, engine="slots")
    for _ in range(n):
        trajectories = sampled(trainer.policy)
        version = trainer.policy.version
        stamped = [
            replace(each, policy_versions=tuple(version if acts else -1 for acts in each.action_mask))
            for each in trajectories
        ]
        check.after(trainer.update(stamped))


@pytest.mark.parametrize("config", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("minibatches", [1, 2])
def test_a_healthy_update_trains_everything(config: PolicyConfig | None, minibatches: int) -> None:
    take_updates(make_trainer(tiny_policy(config=config), minibatches=minibatches), 3)


def test_a_fresh_critic_and_a_fresh_adapter_are_no_accident() -> None:
    policy = tiny_policy(config=LORA)
    torch.nn.init.zeros_(policy.value_head.out.weight)
    take_updates(make_trainer(policy), 3)


def test_a_critic_that_nobody_trains_is_no_accident() -> None:
    take_updates(make_trainer(tiny_policy(), value_coef=0.0))
    take_updates(make_trainer(tiny_policy(), preset="rloo"))


def test_a_frozen_lora_b_is_named() -> None:
    policy = tiny_policy(config=LORA)
    name, parameter = next((n, p) for n, p in policy.named_parameters() if "lora_B" in n)
    parameter.requires_grad_(False)
    with pytest.raises(CheckFailed, match=rf"{name}: (it is frozen|the optimiser does not hold it)"):
        take_updates(make_trainer(policy), 1)


def test_a_detached_parameter_is_named() -> None:
    """What a kernel without attention sinks does to them: the loss does not depend on them."""
    policy = tiny_policy()
    policy.model.model.layers[0].self_attn.sinks = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(CheckFailed, match=r"model\.model\.layers\.0\.self_attn\.sinks: it has no gradient"):
        take_updates(make_trainer(policy), 1)


def test_a_parameter_whose_gradient_stays_zero_is_named_at_the_second_update() -> None:
    policy = tiny_policy()
    norm = policy.model.model.layers[1].input_layernorm.weight
    norm.register_hook(torch.zeros_like)
    take_updates(make_trainer(policy), 1)
    with pytest.raises(CheckFailed, match=r"layers\.1\.input_layernorm\.weight: its gradient is zero"):
        take_updates(make_trainer(policy), 2)


def test_an_optimiser_without_the_value_head_is_named() -> None:
    trainer = make_trainer(tiny_policy())
    named = {name: each for name, each in trainer.policy.named_parameters() if name.startswith("model.")}
    trainer.optimizer = make_optimizer(named, trainer.config)
    with pytest.raises(CheckFailed, match=r"value_head\.out\.bias: the optimiser does not hold it"):
        take_updates(trainer, 1)


def test_an_update_without_an_optimiser_step_shows_nothing() -> None:
    check = FirstUpdate(make_trainer(tiny_policy()), engine="slots")
    check.after({"optimizer_steps": 0.0})
    check.after({"optimizer_steps": 3.0, "skipped_optimizer_steps": 1.0})


def test_a_minibatch_whose_every_token_is_clipped_shows_nothing() -> None:
    trainer = make_trainer(tiny_policy())
    check = FirstUpdate(trainer, engine="slots")
    for _ in range(3):
        metrics = trainer.update(sampled(trainer.policy))
        for name, parameter in trainer.policy.named_parameters():
            if name.startswith("model.") and parameter.grad is not None:
                parameter.grad.zero_()
        trainer.policy.version = 0  # the rollouts stay fresh
        check.after(metrics)


def test_the_parameters_meant_to_train_are_the_optimiser_s() -> None:
    for config in (None, LORA):
        trainer = make_trainer(tiny_policy(config=config))
        meant = meant_to_train(trainer.policy, trainer.config)
        assert meant.keys() == dict(trainer.policy.named_parameters()).keys()


def test_an_engine_that_agrees_passes_the_probe() -> None:
    trainer = make_trainer(tiny_policy())
    FirstUpdate(trainer, engine="slots").before(sampled(trainer.policy))


def test_an_engine_at_another_temperature_does_not_get_to_train() -> None:
    trainer = make_trainer(tiny_policy())
    check = FirstUpdate(trainer, engine="slots")
    with pytest.raises(TrainingStopped, match=r"mismatch_\w+ is .* \(allowed: .*sdpa") as stop:
        check.before(sampled(tiny_policy(temperature=0.7)))
    assert stop.value.rule == "mismatch_probe"


def test_dropout_in_the_trainer_does_not_get_to_train() -> None:
    policy = tiny_policy(attention_dropout=0.5)
    trajectories = sampled(policy)
    for layer in policy.model.model.layers:
        layer.mlp.register_forward_hook(lambda _module, _inputs, output: torch.nn.functional.dropout(output, 0.3))
    with pytest.raises(TrainingStopped):
        FirstUpdate(make_trainer(policy), engine="slots").before(trajectories)


def off_by(trajectories: list[Trajectory], probability: float) -> list[Trajectory]:
    """An engine that gives every action that much more probability."""
    return [
        replace(
            each,
            engine_logprobs=tuple(
                math.log(math.exp(logprob) + probability) if acts else 0.0
                for logprob, acts in zip(each.engine_logprobs, each.action_mask, strict=True)
            ),
        )
        for each in trajectories
    ]


def test_less_is_tolerated_where_kernels_are_known_to_go_wrong() -> None:
    trainer = make_trainer(tiny_policy())
    guards = trainer.config.guards
    assert guards.warn_mismatch_prob is not None
    assert guards.max_mismatch_prob is not None
    off = off_by(sampled(trainer.policy), (guards.warn_mismatch_prob + guards.max_mismatch_prob) / 2)
    trainer.config = trainer.config.model_copy(update={"guards": guards.model_copy(update={"max_mismatch_kl": None})})
    FirstUpdate(trainer, engine="slots").before(off)
    trainer.policy.model.config.num_experts = 8
    with pytest.raises(TrainingStopped, match="the model has experts"):
        FirstUpdate(trainer, engine="slots").before(off)


def test_sinks_and_experts_are_seen() -> None:
    model: Any = tiny_model()
    assert delicate_parts(model) == []
    model.model.layers[0].self_attn.sinks = torch.nn.Parameter(torch.zeros(2))
    model.config.num_local_experts = 4
    assert delicate_parts(model) == ["attention sinks", "experts"]


def test_rollouts_of_older_weights_prove_nothing() -> None:
    trainer = make_trainer(tiny_policy())
    trainer.policy.version = 3
    FirstUpdate(trainer, engine="slots").before(off_by(sampled(trainer.policy), 0.5))
