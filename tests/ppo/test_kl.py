"""Estimators and placements of the KL, against enumeration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from agentrl.config import KLConfig
from agentrl.ppo.advantage import gae, token_rewards
from agentrl.ppo.kl import KLController, kl_estimate

POLICY = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
EXACT_GRADIENT = (0.098938, -0.093885, -0.005053)


def close(found: Tensor, expected: tuple[float, ...], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), atol=tolerance, rtol=0)


@pytest.mark.parametrize(
    ("estimator", "mean", "variance"),
    [("k1", 0.0252672, 0.0490864), ("k2", 0.0248624, 0.0002055), ("k3", 0.0252672, 0.0002546)],
)
def test_mean_and_variance_of_an_estimator(estimator: str, mean: float, variance: float) -> None:
    k = kl_estimate(POLICY.log(), REFERENCE.log(), estimator)
    assert float((POLICY * k).sum()) == pytest.approx(mean, abs=5e-8)
    assert float((POLICY * (k - (POLICY * k).sum()).square()).sum()) == pytest.approx(variance, abs=5e-8)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_k1_and_k3_average_to_the_exact_kl(estimator: str) -> None:
    exact = (POLICY * (POLICY / REFERENCE).log()).sum()
    found = (POLICY * kl_estimate(POLICY.log(), REFERENCE.log(), estimator)).sum()
    assert float(found - exact) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_k3_is_never_negative(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    ref = -5 * torch.rand(100_000, generator=generator, dtype=dtype)
    scale = 10 ** (-9 * torch.rand(100_000, generator=generator, dtype=dtype))  # far apart, and all but equal
    logprobs = ref + scale * torch.randn(100_000, generator=generator, dtype=dtype)
    assert bool((kl_estimate(logprobs, ref, "k3") >= 0).all())
    assert not kl_estimate(ref, ref, "k3").any()


def test_an_unknown_estimator_is_refused() -> None:
    with pytest.raises(ValueError, match="k4"):
        kl_estimate(POLICY, POLICY, "k4")


def gradient(loss: Callable[[Tensor], Tensor]) -> Tensor:
    logits = POLICY.log().requires_grad_()
    (found,) = torch.autograd.grad(loss(torch.log_softmax(logits, -1)), logits)
    return found


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k1", (0.0, 0.0, 0.0)), ("k2", EXACT_GRADIENT), ("k3", (0.1, -0.1, 0.0))],
)
def test_gradient_of_an_estimator_as_a_loss(estimator: str, expected: tuple[float, ...]) -> None:
    close(gradient(lambda logprobs: (POLICY * kl_estimate(logprobs, REFERENCE.log(), estimator)).sum()), expected)


def test_k3_as_a_loss_follows_the_forward_kl() -> None:
    as_loss = gradient(lambda logprobs: (POLICY * kl_estimate(logprobs, REFERENCE.log(), "k3")).sum())
    forward = gradient(lambda logprobs: (REFERENCE * (REFERENCE.log() - logprobs)).sum())
    torch.testing.assert_close(as_loss, forward)


@pytest.mark.parametrize(("estimator", "expected"), [("k1", EXACT_GRADIENT), ("k3", (-0.001062, 0.006115, -0.005053))])
def test_gradient_of_an_estimator_inside_the_reward(estimator: str, expected: tuple[float, ...]) -> None:
    k = kl_estimate(POLICY.log(), REFERENCE.log(), estimator)
    close(gradient(lambda logprobs: (POLICY * k * logprobs).sum()), expected)


def test_the_exact_gradient_of_the_kl_is_the_golden_one() -> None:
    close(gradient(lambda logprobs: (logprobs.exp() * (logprobs - REFERENCE.log())).sum()), EXACT_GRADIENT)


SEQUENCE_LOGITS = torch.tensor([0.4, -0.3, 0.8], dtype=torch.float64)
"""Of token 1 being 1; of token 2 being 1 after a 0, and after a 1."""
SEQUENCE_REFERENCE = torch.tensor([0.0, 0.5, 0.2], dtype=torch.float64)
SEQUENCE_GRADIENT = (0.086914, -0.078483, 0.076839)


def sequences(logits: Tensor) -> Tensor:
    """[4, 2] token log-probabilities of the sequences 00, 01, 10, 11."""

    def of(logit: Tensor, token: int) -> Tensor:
        return torch.nn.functional.logsigmoid(logit if token else -logit)

    return torch.stack(
        [torch.stack([of(logits[0], a), of(logits[1 + a], b)]) for a in (0, 1) for b in (0, 1)],
    )


def sequence_gradient(loss: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    logits = SEQUENCE_LOGITS.clone().requires_grad_()
    logprobs = sequences(logits)
    probabilities = logprobs.detach().sum(-1).exp()
    (found,) = torch.autograd.grad(loss(logprobs, probabilities), logits)
    return found


def test_the_exact_gradient_of_a_sequence_kl_is_the_golden_one() -> None:
    ref = sequences(SEQUENCE_REFERENCE)
    close(sequence_gradient(lambda p, _: (p.sum(-1).exp() * (p - ref).sum(-1)).sum()), SEQUENCE_GRADIENT)


def test_k1_in_the_reward_gives_the_exact_gradient_of_a_sequence_kl() -> None:
    ref = sequences(SEQUENCE_REFERENCE)
    mask, nothing = torch.ones(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.float64)

    def loss(logprobs: Tensor, probabilities: Tensor) -> Tensor:
        kl = kl_estimate(logprobs.detach(), ref, "k1")
        rewards = token_rewards(nothing[:, 0], kl, mask, kl_coef=1.0)
        advantages = gae(rewards, nothing, mask, gamma=1.0, gae_lambda=1.0).advantages
        return -(probabilities[:, None] * advantages * logprobs).sum()

    close(sequence_gradient(loss), SEQUENCE_GRADIENT)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [("k2", (0.096104, -0.078483, 0.076839)), ("k3", (0.098688, -0.079019, 0.083900))],
)
def test_a_token_local_kl_loss_forgets_what_early_tokens_do_to_later_kl(
    estimator: str, expected: tuple[float, ...]
) -> None:
    ref = sequences(SEQUENCE_REFERENCE)
    close(
        sequence_gradient(lambda p, weights: (weights[:, None] * kl_estimate(p, ref, estimator)).sum()),
        expected,
    )


def test_k2_of_the_summed_log_ratio_gives_the_exact_gradient() -> None:
    ref = sequences(SEQUENCE_REFERENCE).sum(-1)
    close(sequence_gradient(lambda p, weights: (weights * kl_estimate(p.sum(-1), ref, "k2")).sum()), SEQUENCE_GRADIENT)


def adaptive(coef: float = 0.2, **config: float) -> KLController:
    return KLController(KLConfig(coef=coef, controller="adaptive", **config))  # type: ignore[arg-type]


@pytest.mark.parametrize(("kl", "expected"), [(12, 0.201024), (6, 0.2), (3, 0.198976), (6.6, 0.200512)])
def test_the_adaptive_controller_moves_beta_as_published(kl: float, expected: float) -> None:
    controller = adaptive()
    controller.update(kl, 256)
    assert controller.coef == pytest.approx(expected, abs=1e-9)


def test_a_fixed_controller_stays() -> None:
    controller = KLController(KLConfig(coef=0.05))
    controller.update(1000.0, 256)
    assert controller.coef == 0.05


@pytest.mark.parametrize("kl", [float("nan"), float("inf"), -float("inf")])
def test_a_kl_that_is_not_finite_moves_no_beta(kl: float) -> None:
    controller = adaptive()
    controller.update(kl, 256)
    assert controller.coef == 0.2


@pytest.mark.parametrize(("kl", "bound"), [(1e9, 0.5), (-1e9, 0.1)])
def test_beta_stays_within_its_bounds(kl: float, bound: float) -> None:
    controller = adaptive(min_coef=0.1, max_coef=0.5)
    for _ in range(1000):
        controller.update(kl, 256)
    assert controller.coef == bound


def test_a_controller_with_a_restored_beta_goes_on_as_if_it_had_not_stopped() -> None:
    series = (12.0, 8.0, 2.0, 7.0)
    whole, first, second = adaptive(), adaptive(), adaptive(coef=1.0)
    for kl in series:
        whole.update(kl, 128)
    for kl in series[:2]:
        first.update(kl, 128)
    second.coef = first.coef
    for kl in series[2:]:
        second.update(kl, 128)
    assert second.coef == whole.coef
