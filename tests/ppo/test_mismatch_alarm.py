"""Accidents between engine and trainer, and between two passes of the trainer: metrics show them, guards say so."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from agentrl.config import PPOConfig
from agentrl.ppo.guards import Finding, judge
from agentrl.ppo.mismatch import mismatch_metrics
from agentrl.ppo.rules import rules
from agentrl.ppo.trainer import PPOTrainer
from tests.ppo.test_checks import sampled
from tests.tiny import make_trainer, tiny_policy


def found_after(metrics: dict[str, float], steps: int = 1) -> dict[str, Finding]:
    """What the guards say after `steps` steps with such metrics."""
    history = [{"step": step, **metrics} for step in range(1, steps + 1)]
    return {finding.rule.name: finding for finding in judge(history, rules(PPOConfig()))}


@pytest.mark.parametrize("std", [0.02, 0.05, 0.1])
def test_noise_on_the_engine_s_logits_is_measured_at_its_predicted_size(std: float) -> None:
    """To second order in s, with p over the vocabulary: KL = s^2/2 (1 - sum p^2), chi^2 is twice that.

    The chosen token's log-probability moves by s sqrt(1 - 2 p + sum p^2) times a normal number, whose mean size is
    sqrt(2/pi); its probability by p times that.
    """
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(100_000, 12, generator=generator, dtype=torch.float64)
    noisy = logits + std * torch.randn(logits.shape, generator=generator, dtype=torch.float64)
    engine_all, old_all = noisy.log_softmax(-1), logits.log_softmax(-1)
    chosen = torch.multinomial(engine_all.exp(), 1, generator=generator)
    engine, old = engine_all.gather(1, chosen).T, old_all.gather(1, chosen).T
    everything = torch.ones_like(old, dtype=torch.bool)
    found = mismatch_metrics(old, engine, (old - engine).exp(), everything)
    p, squares = old_all.exp(), old_all.exp().square().sum(-1)
    moved = std * math.sqrt(2 / math.pi) * (1 - 2 * p + squares[:, None]).sqrt()
    kl = float(std**2 / 2 * (1 - squares).mean())
    assert found["mismatch_kl"] == pytest.approx(kl, rel=0.05)
    assert found["mismatch_chi2"] == pytest.approx(2 * kl, rel=0.05, abs=6 * std / math.sqrt(len(logits)))
    assert found["mismatch_abs_logprob_mean"] == pytest.approx(float((p * moved).sum(-1).mean()), rel=0.03)
    by_probability = float((p.square() * moved).sum(-1).mean())
    assert found["mismatch_abs_prob_mean"] == pytest.approx(by_probability, rel=0.03)
    level = found_after(found).get("mismatch_prob")
    assert (level is not None) is (by_probability > 0.005)  # the documented level
    stopped = found_after(found, steps=5).get("mismatch_prob")
    assert bool(stopped and stopped.is_stop) is (by_probability > 0.01)


def update_on(trainer: PPOTrainer, engine: Any) -> dict[str, float]:
    return trainer.update(sampled(engine))


def test_a_right_engine_raises_no_alarm() -> None:
    policy = tiny_policy()
    found = found_after(update_on(make_trainer(policy), policy))
    assert not {name for name in found if name.startswith(("mismatch", "recompute", "first_clip"))}


def test_dropout_in_the_trainer_raises_the_alarm() -> None:
    policy = tiny_policy()
    trajectories = sampled(policy)
    for layer in policy.model.model.layers:
        layer.mlp.register_forward_hook(lambda _module, _inputs, output: nn.functional.dropout(output, 0.3))
    torch.manual_seed(0)
    metrics = make_trainer(policy).update(trajectories)
    assert metrics["ratio_recompute_maxdev"] > 0.05
    found = found_after(metrics)
    assert "recompute" in found
    assert found["first_clip"].is_stop


def test_another_temperature_in_the_engine_raises_the_alarm() -> None:
    policy, engine = tiny_policy(), tiny_policy(temperature=0.7)
    metrics = update_on(make_trainer(policy), engine)
    assert metrics["ratio_recompute_maxdev"] == 0  # the trainer agrees with itself
    assert found_after(metrics)["mismatch_kl"].is_stop
