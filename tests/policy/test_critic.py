"""`policy.critic`: what the value loss changes, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch

from agentrl.config import LoRAConfig, PolicyConfig
from agentrl.policy.checkpoint import load_checkpoint, save_checkpoint
from agentrl.policy.policy import Policy
from agentrl.policy.reference import ReferencePolicy
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy

Critic = Literal["detached", "shared", "separate"]


def policy_with(critic: Critic, *, lora: bool = False) -> Policy:
    return tiny_policy(config=PolicyConfig(value_hidden_size=16, critic=critic, lora=LoRAConfig() if lora else None))


def tokens(n: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.arange(5, 5 + n)[None], torch.arange(n)[None] >= 4


def moved_by(policy: Policy) -> set[str]:
    """The first two parts of the names of the parameters that the values' gradient reaches."""
    policy.evaluate(*tokens()).values.sum().backward()  # type: ignore[no-untyped-call]
    touched = [name for name, p in policy.named_parameters() if p.grad is not None and p.grad.any()]
    return {".".join(name.split(".")[: 2 if "trunk" in name else 1]) for name in touched}


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize(
    ("critic", "expected"),
    [
        ("detached", {"value_head"}),
        ("shared", {"value_head", "model"}),
        ("separate", {"value_head", "value_head.trunk"}),
    ],
)
def test_the_value_loss_reaches_the_trunk_that_the_critic_may_change(
    critic: Critic, expected: set[str], lora: bool
) -> None:
    assert moved_by(policy_with(critic, lora=lora)) == expected


def test_a_separate_critic_starts_as_the_detached_one() -> None:
    separate, detached = policy_with("separate"), policy_with("detached")
    separate.value_head.load_state_dict(detached.value_head.state_dict(), strict=False)
    torch.testing.assert_close(separate.evaluate(*tokens()).values, detached.evaluate(*tokens()).values)


def test_a_separate_critic_learns_while_the_policy_stands_still() -> None:
    policy = policy_with("separate")
    before, values = policy.digest(), policy.evaluate(*tokens()).values
    trunk = [parameter.detach().clone() for parameter in policy.value_head.trunk.parameters()]  # type: ignore[union-attr]
    make_trainer(policy, learning_rate=0.0, critic_learning_rate=1e-3).update(sampled_trajectories(policy))
    assert policy.digest() == before
    assert not torch.equal(policy.evaluate(*tokens()).values, values)
    assert any(not torch.equal(a, b) for a, b in zip(trunk, policy.value_head.trunk.parameters(), strict=True))  # type: ignore[union-attr]


def test_each_part_of_the_policy_learns_at_its_own_rate() -> None:
    trainer = make_trainer(
        policy_with("separate"), learning_rate=1e-5, critic_learning_rate=2e-5, value_learning_rate=1e-3
    )
    rate_of = {id(p): group["lr"] for group in trainer.optimizer.param_groups for p in group["params"]}
    found = {(name.split(".")[0], ".trunk." in name): rate_of[id(p)] for name, p in trainer.policy.named_parameters()}
    assert found == {("model", False): 1e-5, ("value_head", True): 2e-5, ("value_head", False): 1e-3}


@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_the_critics_warm_up_leaves_every_trunk_alone(critic: Critic) -> None:
    policy = policy_with(critic)
    kept = {name: p.detach().clone() for name, p in policy.named_parameters()}
    make_trainer(policy).warm_up_critic(sampled_trajectories(policy))
    moved = {name for name, p in policy.named_parameters() if not torch.equal(p, kept[name])}
    assert moved
    assert all(name.startswith("value_head.") and ".trunk." not in name for name in moved)


def test_without_values_the_critics_trunk_is_not_run() -> None:
    policy = policy_with("separate")
    calls: list[object] = []
    policy.value_head.trunk.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr]
    output = policy.evaluate(*tokens(), with_values=False)
    ReferencePolicy.freeze(policy).logprobs(*tokens())
    assert not calls
    assert not output.values.any()
    torch.testing.assert_close(output.logprobs, policy.evaluate(*tokens()).logprobs)


@pytest.mark.parametrize("lora", [False, True])
@pytest.mark.parametrize("critic", ["shared", "separate"])
def test_a_resumed_critic_goes_on_bit_for_bit(critic: Critic, lora: bool, tmp_path: Path) -> None:
    def step(policy: Policy, optimizer: dict[str, torch.Tensor] | None) -> dict[str, torch.Tensor]:
        trainer = make_trainer(policy, critic_learning_rate=1e-3)
        trainer.load_optimizer_tensors(optimizer or {})
        trainer.update(sampled_trajectories(policy, seed=policy.version))
        return trainer.optimizer_tensors()

    straight, broken_off = policy_with(critic, lora=lora), policy_with(critic, lora=lora)
    broken_off.value_head.load_state_dict(straight.value_head.state_dict())
    after_one = step(straight, None)
    save_checkpoint(tmp_path / "step-000001", straight, after_one, {"step": 1})
    step(straight, after_one)

    tensors, _ = load_checkpoint(tmp_path / "step-000001", broken_off)
    broken_off.version = 1
    step(broken_off, tensors)
    for (name, one), (_, other) in zip(straight.named_parameters(), broken_off.named_parameters(), strict=True):
        assert torch.equal(one, other), name
