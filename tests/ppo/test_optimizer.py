from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from agentrl.config import PPOConfig
from agentrl.ppo.optimizer import load_state_tensors, make_optimizer, state_tensors
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy

NAME = "model.weight"
CONFIG = PPOConfig(learning_rate=1e-4)  # a fiftieth of what bfloat16 can tell from 1


def weight(dtype: torch.dtype) -> nn.Parameter:
    return nn.Parameter(torch.ones(4, 4, dtype=dtype))


def take_steps(parameter: nn.Parameter, optimizer: torch.optim.Optimizer, first: int, last: int) -> None:
    for seed in range(first, last):
        generator = torch.Generator().manual_seed(seed)
        parameter.grad = (torch.rand(4, 4, generator=generator) + 0.5).to(torch.bfloat16).to(parameter.dtype)
        optimizer.step()


def test_steps_too_small_for_bfloat16_add_up() -> None:
    low, full = weight(torch.bfloat16), weight(torch.float32)
    for parameter in (low, full):
        take_steps(parameter, make_optimizer({NAME: parameter}, CONFIG), 0, 200)
    assert float(full.detach().max()) < 0.99
    assert torch.equal(low, full.to(torch.bfloat16))


def test_plain_adamw_would_lose_them() -> None:
    low = weight(torch.bfloat16)
    take_steps(low, torch.optim.AdamW([low], lr=1e-4, weight_decay=0.0), 0, 200)
    assert bool((low == 1).all())


def test_the_weights_stay_where_they_were_in_memory_and_keep_their_gradient() -> None:
    low = weight(torch.bfloat16)
    place = low.data_ptr()
    take_steps(low, make_optimizer({NAME: low}, CONFIG), 0, 2)
    assert low.data_ptr() == place
    assert low.grad is not None
    assert low.grad.dtype == low.dtype == torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_restored_optimiser_goes_on_bit_for_bit(dtype: torch.dtype) -> None:
    whole, half = weight(dtype), weight(dtype)
    take_steps(whole, make_optimizer({NAME: whole}, CONFIG), 0, 100)
    before = make_optimizer({NAME: half}, CONFIG)
    take_steps(half, before, 0, 50)
    kept: dict[str, Tensor] = state_tensors(before, {NAME: half})
    after = make_optimizer({NAME: half}, CONFIG)
    load_state_tensors(after, {NAME: half}, kept)
    take_steps(half, after, 50, 100)
    assert torch.equal(half, whole)


def test_a_policy_in_bfloat16_learns_at_a_small_learning_rate() -> None:
    policy = tiny_policy(dtype=torch.bfloat16)
    before = policy.model.lm_head.weight.detach().clone()
    trainer = make_trainer(policy, learning_rate=3e-5, value_learning_rate=1e-3)
    for _ in range(3):
        metrics = trainer.update(sampled_trajectories(policy))
        assert metrics["optimizer_steps"] == 1
    masters = {name for name in trainer.optimizer_tensors() if name.endswith("/master")}
    assert masters == {f"{name}/master" for name, each in policy.named_parameters() if each.dtype == torch.bfloat16}
    assert not torch.equal(trainer.optimizer_tensors()["model.model.embed_tokens.weight/master"], before.float())
