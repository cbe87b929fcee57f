"""The same tensors through trl's GRPO and through ours: equal advantages, equal losses, equal gradients."""

from __future__ import annotations

from typing import Any
from unittest.mock import MagicMock

import pytest
import torch
from torch import Tensor
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

from agentrl.config import PPOConfig
from agentrl.policy.policy import PolicyOutput
from agentrl.ppo.batch import make_batch
from agentrl.ppo.experience import Experience
from agentrl.ppo.groups import grpo
from agentrl.ppo.loss import token_weights
from agentrl.ppo.objective import loss_terms
from tests.tiny import sampled_trajectories, tiny_policy

MAX_LENGTH = 32


def example() -> tuple[Experience, Tensor]:
    """Trajectories with tool output inside and ratios far from 1; and log-probabilities of now."""
    batch = make_batch(sampled_trajectories(tiny_policy(), 8), pad_id=0)
    generator = torch.Generator().manual_seed(0)
    old = -2 * torch.rand(batch.action_mask.shape, generator=generator).where(batch.action_mask, 0.0)
    now = old + 0.5 * torch.randn(old.shape, generator=generator).where(batch.action_mask, 0.0)
    advantages = torch.randn(len(batch), 1, generator=generator).expand_as(old)
    zeros, ones = torch.zeros_like(old), torch.ones_like(old)
    trusted = torch.ones(len(batch), dtype=torch.bool)
    experience = Experience(batch, old, zeros, zeros, advantages.where(batch.action_mask, 0.0), zeros, ones, trusted)
    return experience, now.clamp(max=0.0)


def trl_loss(experience: Experience, now: Tensor, **settings: Any) -> Tensor:
    """GRPOTrainer's own loss on given log-probabilities; tool output is masked by its tool mask."""
    mask = experience.batch.action_mask.long()
    trainer = MagicMock()
    defaults = {
        "aux_loss_enabled": False, "top_entropy_quantile": 1.0, "off_policy_mask_threshold": None, "beta": 0.0,
        "importance_sampling_level": "token", "use_vllm": False, "_entropy_bonus_enabled": False,
        "current_gradient_accumulation_steps": 1, "max_completion_length": MAX_LENGTH,
        "epsilon_low": 0.2, "epsilon_high": 0.28,
    }  # fmt: skip
    for name, value in {**defaults, **settings}.items():
        setattr(trainer, name, value)
    trainer.args.delta, trainer.args.steps_per_generation = settings.get("delta"), 1
    trainer.accelerator.num_processes = 1
    trainer.accelerator.gather = trainer.accelerator.reduce = lambda tensor, **_: tensor
    trainer._get_per_token_logps_and_entropies.return_value = (now, torch.zeros_like(now), None)
    inputs = {
        "prompt_ids": experience.batch.token_ids[:, :0],
        "prompt_mask": mask[:, :0],
        "completion_ids": experience.batch.token_ids,
        "completion_mask": torch.ones_like(mask),
        "tool_mask": mask,
        "advantages": experience.advantages.amax(-1) + experience.advantages.amin(-1),  # one sign a row, zeros beside
        "old_per_token_logps": experience.old_logprobs,
        "num_items_in_batch": mask.sum(),
    }
    loss: Tensor = GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss


def our_loss(experience: Experience, now: Tensor, config: PPOConfig) -> Tensor:
    mask = experience.batch.action_mask
    output = PolicyOutput(logprobs=now, entropy=torch.zeros_like(now), values=torch.zeros_like(now))
    weights = token_weights(mask, config.aggregation, constant=config.aggregation_constant)
    return (weights * loss_terms(experience, output, config, kl_coef=0.0)["loss"]).sum()


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({"preset": "grpo"}, {"loss_type": "grpo", "epsilon_high": 0.2}),
        (
            {"preset": "dr_grpo", "aggregation_constant": float(MAX_LENGTH)},
            {"loss_type": "dr_grpo", "epsilon_high": 0.2},
        ),
        ({"preset": "dapo"}, {"loss_type": "bnpo"}),
        ({"preset": "dapo"}, {"loss_type": "dapo"}),
        ({"preset": "dapo", "dual_clip": 3.0}, {"loss_type": "dapo", "delta": 3.0}),
        ({"preset": "rloo", "clip_range_high": 0.28, "dual_clip": None}, {"loss_type": "luspo"}),
        (
            {"preset": "gspo"},
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon_low": 3.0e-4,
                "epsilon_high": 4.0e-4,
            },
        ),
    ],
)
def test_loss_and_gradient_are_those_of_trl(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    experience, logprobs = example()
    found = []
    for loss_of in (
        lambda now: our_loss(experience, now, PPOConfig(**ours)),
        lambda now: trl_loss(experience, now, **theirs),
    ):
        now = logprobs.clone().requires_grad_()
        loss = loss_of(now)
        found.append((loss.detach(), *torch.autograd.grad(loss, now)))
    assert float(found[1][1].abs().sum()) > 0
    torch.testing.assert_close(found[0], found[1], atol=1e-6, rtol=1e-5)


def test_the_advantage_is_that_of_trl() -> None:
    """(R - mean) / (std + eps) with trl's own standard deviation; the eps is 1e-4 there and 1e-6 here."""
    rewards = torch.rand(6, 4, generator=torch.Generator().manual_seed(0))
    expected = (rewards - rewards.mean(1, keepdim=True)) / (nanstd(rewards, dim=1)[:, None] + 1e-4)
    found = grpo(rewards.flatten(), torch.arange(6).repeat_interleave(4)).view(6, 4)
    torch.testing.assert_close(found, expected, atol=0, rtol=1e-3)
