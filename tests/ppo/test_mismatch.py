"""Engine against trainer: what is corrected, what is dropped, what is measured."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from agentrl.ppo.mismatch import effective_sample_size, mismatch_metrics, mismatch_weights, trusted
from tests.tiny import make_trainer, make_trajectory, sampled_trajectories, tiny_policy


def test_effective_sample_size_is_the_golden_one() -> None:
    assert effective_sample_size(torch.tensor([2, 1, 0.5, 0.5]).log()) == pytest.approx(0.727273, abs=1e-6)
    assert effective_sample_size(torch.zeros(9)) == pytest.approx(1)


def test_effective_sample_size_of_weights_too_large_for_a_float_is_finite() -> None:
    assert effective_sample_size(torch.tensor([500.0, 0.0])) == pytest.approx(0.5)


NOISE = 0.05


@pytest.fixture(scope="module")
def noisy() -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the trainer, and of an engine whose ratios to it have log-normal noise; 200 x 500 tokens."""
    generator = torch.Generator().manual_seed(0)
    old = -3 * torch.rand(200, 500, generator=generator, dtype=torch.float64) - 0.5
    engine = old + NOISE * torch.randn(200, 500, generator=generator, dtype=torch.float64)
    return old, engine, torch.ones(200, 500, dtype=torch.bool)


def test_noise_in_the_engine_shows_in_the_predicted_size(noisy: tuple[Tensor, Tensor, Tensor]) -> None:
    old, engine, mask = noisy
    metrics = mismatch_metrics(old, engine, mismatch_weights(old, engine, cap=100.0), mask)
    variance = NOISE**2
    assert metrics["mismatch_abs_logprob_mean"] == pytest.approx(NOISE * math.sqrt(2 / math.pi), rel=0.02)
    assert metrics["mismatch_abs_logprob_p99"] == pytest.approx(2.576 * NOISE, rel=0.02)
    assert metrics["mismatch_weight_mean"] == pytest.approx(math.exp(variance / 2), abs=1e-3)
    assert metrics["mismatch_kl"] == pytest.approx(variance / 2, rel=0.05)
    assert metrics["mismatch_chi2"] == pytest.approx(math.exp(2 * variance) - 1, rel=0.1)
    assert metrics["mismatch_ess"] == pytest.approx(math.exp(-variance), abs=1e-3)
    assert 0.95 < metrics["mismatch_pearson"] < 0.999


def test_a_product_over_the_trajectory_would_leave_few_effective_samples() -> None:
    """exp(-T s^2): 0.287 for 50 tokens with noise of 0.158 (or 500 with 0.05); by token hardly anything is lost."""
    noise = 0.1581 * torch.randn(20_000, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    engine, mask = torch.full_like(noise, -3.0), torch.ones(noise.shape, dtype=torch.bool)
    metrics = mismatch_metrics(engine + noise, engine, mismatch_weights(engine + noise, engine, cap=2.0), mask)
    assert metrics["mismatch_ess_trajectories"] == pytest.approx(0.287, abs=0.02)
    assert metrics["mismatch_ess"] == pytest.approx(math.exp(-(0.1581**2)), abs=1e-3)


def test_engines_that_agree_show_no_mismatch() -> None:
    old, mask = -torch.rand(3, 9), torch.ones(3, 9, dtype=torch.bool)
    metrics = mismatch_metrics(old, old, mismatch_weights(old, old, cap=2.0), mask)
    ones = {"mismatch_weight_mean", "mismatch_ess", "mismatch_ess_trajectories", "mismatch_pearson"}
    assert metrics == {name: pytest.approx(float(name in ones), abs=1e-6) for name in metrics}


def test_trajectories_are_judged_by_their_geometric_mean_and_by_their_worst_token() -> None:
    mask = torch.tensor([[False, True, True, False]]).repeat(4, 1)
    log_ratio = torch.tensor([[9, 0.1, -0.1, 9], [9, 0.02, 0.02, 9], [9, 0, -11.0, 9], [9, 0, 0, 9]])
    engine = torch.full((4, 4), -20.0)

    def kept(**ranges: Any) -> list[bool]:
        options = {"trajectory_range": None, "token_range": None, **ranges}
        return trusted(engine + log_ratio, engine, mask, **options).tolist()  # type: ignore[no-any-return]

    assert kept() == [True] * 4
    assert kept(trajectory_range=(0.99, 1.01)) == [True, False, False, True]
    assert kept(token_range=(1e-4, 100.0)) == [True, True, False, True]


def test_a_trajectory_that_is_not_trusted_is_dropped_not_clamped() -> None:
    """The update is that of the others alone."""
    policies = [tiny_policy(), tiny_policy()]
    good = [replace(each, reward=float(i)) for i, each in enumerate(sampled_trajectories(policies[0], 4))]
    bad = replace(good[0], reward=9.0, engine_logprobs=tuple(p - 9.0 for p in good[0].engine_logprobs))
    options: dict[str, Any] = {"mismatch_token_range": (1e-4, 100.0), "kl": {"coef": 0.0}}
    metrics = [
        make_trainer(policy, **options).update(given)
        for policy, given in zip(policies, ([*good, bad], good), strict=True)
    ]
    assert [each["mismatch_dropped"] for each in metrics] == [1, 0]
    for (name, one), (_, other) in zip(*(policy.named_parameters() for policy in policies), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4, msg=name)


def test_where_no_trajectory_is_trusted_nothing_is_learned() -> None:
    policy = tiny_policy()
    bad = [
        replace(each, engine_logprobs=tuple(p - 9.0 for p in each.engine_logprobs))
        for each in sampled_trajectories(policy, 3)
    ]
    metrics = make_trainer(policy, mismatch_token_range=(1e-4, 100.0)).update(bad)
    assert (metrics["mismatch_dropped"], metrics["optimizer_steps"]) == (3, 0)


def test_the_engines_log_probabilities_spare_a_pass_and_are_what_the_ratio_is_taken_to() -> None:
    policy = tiny_policy()
    trainer = make_trainer(policy, preset="rloo", old_logprobs="engine", clip_range_high=0.28)
    passes = []
    evaluate = policy.evaluate

    def counted(*args: Any, **kwargs: Any) -> Any:
        passes.append(torch.is_grad_enabled())
        return evaluate(*args, **kwargs)

    policy.evaluate = counted  # type: ignore[method-assign]
    pieces: list[tuple[list[int], bool]] = [([1, 2], False), ([3, 4], True)]
    (own,) = policy.score([1, 2, 3, 4], 2, [1.0])
    drawn = [make_trajectory(pieces, reward=float(i), engine_logprobs=[own[0] - 0.5, own[1]]) for i in range(2)]
    metrics = trainer.update(drawn)
    assert passes == [True]
    assert metrics["ratio_maxdev"] == pytest.approx(math.exp(0.5) - 1, abs=1e-4)
    assert metrics["clip_fraction"] == pytest.approx(0.5)
    assert not [name for name in metrics if name.startswith("mismatch") or "recompute" in name]
