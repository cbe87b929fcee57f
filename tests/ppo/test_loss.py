"""The clip table, aggregations and ratios, against golden values."""

from __future__ import annotations

import pytest
import torch

from agentrl.ppo.loss import policy_loss, probability_ratio, sequence_ratio, token_weights, value_loss
from agentrl.ppo.mismatch import mismatch_weights

MODES = ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm")


@pytest.mark.parametrize(
    ("advantage", "ratio", "clip_high", "dual_clip", "expected", "gradient"),
    [
        (1, 1.3, 0.2, 3.0, -1.2, 0),
        (-1, 1.3, 0.2, 3.0, 1.3, 1),
        (-1, 0.7, 0.2, 3.0, 0.8, 0),
        (1, 0.7, 0.2, 3.0, -0.7, -1),
        (1, 1.25, 0.28, 3.0, -1.25, -1),
        (-1, 5, 0.2, None, 5, 1),
        (-1, 5, 0.2, 3.0, 3, 0),
    ],
)
def test_clipped_surrogate_and_where_its_gradient_flows(
    advantage: float, ratio: float, clip_high: float, dual_clip: float | None, expected: float, gradient: float
) -> None:
    r = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    a = torch.tensor(advantage, dtype=torch.float64)
    loss = policy_loss(r, a, clip_low=0.2, clip_high=clip_high, dual_clip=dual_clip)
    assert loss.item() == pytest.approx(expected)
    loss.backward()  # type: ignore[no-untyped-call]
    assert r.grad is not None
    assert r.grad.item() == gradient  # exactly 0 where the clip binds


@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_at_a_ratio_of_1_the_whole_gradient_flows(advantage: float) -> None:
    r = torch.ones((), requires_grad=True)
    policy_loss(r, torch.tensor(advantage), clip_low=0.2, clip_high=0.2, dual_clip=3.0).backward()  # type: ignore[no-untyped-call]
    assert r.grad is not None
    assert r.grad.item() == -advantage


def test_a_freak_log_ratio_cannot_overflow() -> None:
    ratio = probability_ratio(torch.tensor([0.0, -1e4]), torch.tensor([-1e4, 0.0]))
    assert ratio.isfinite().all()


def test_the_ratio_of_a_sequence_is_the_geometric_mean_not_the_product() -> None:
    log_ratio, mask = torch.tensor([[9.0, 0.1, 0.2, 9.0, 0.3]]), torch.tensor([[False, True, True, False, True]])
    ratio = sequence_ratio(log_ratio, torch.zeros(1, 5), mask)
    torch.testing.assert_close(ratio, torch.tensor([[1, 1.221403, 1.221403, 1, 1.221403]]))


def test_for_a_single_action_the_ratio_of_the_sequence_is_the_tokens() -> None:
    now = torch.tensor([[0.0, -1.3, 0.0], [0.0, 0.0, -0.2]], requires_grad=True)
    old, mask = torch.tensor([[0.0, -1.0, 0.0], [0.0, 0.0, -0.9]]), torch.tensor([[0, 1, 0], [0, 0, 1]]).bool()
    advantages = torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, -1.0]])
    found = []
    for ratio in (sequence_ratio(now, old, mask), probability_ratio(now, old)):
        loss = policy_loss(ratio, advantages, clip_low=0.2, clip_high=0.28, dual_clip=None)
        found.append((loss[mask], *torch.autograd.grad(loss[mask].sum(), now)))
    torch.testing.assert_close(found[0], found[1])


def test_the_gradient_of_a_sequence_ratio_is_shared_by_its_tokens() -> None:
    now, mask = torch.tensor([[0.0, 0.1, 0.3]], requires_grad=True), torch.tensor([[False, True, True]])
    ratio = sequence_ratio(now, torch.zeros(1, 3), mask)
    (gradient,) = torch.autograd.grad((ratio * mask).sum() / 2, now)
    torch.testing.assert_close(gradient, torch.tensor([[0.0, 0.5, 0.5]]) * ratio.detach())


def test_value_loss_is_the_larger_of_the_plain_and_the_clipped_error() -> None:
    values, old, returns = torch.tensor([1.0, 0.1, 0.0]), torch.zeros(3), torch.tensor([1.0, 1.0, 0.0])
    found = value_loss(values, old, returns, clip=0.2)
    # 1: plain 0, clipped at 0.2 leaves 0.8;  2: within the clip, both 0.9;  3: both 0
    torch.testing.assert_close(found, torch.tensor([0.32, 0.405, 0.0]))


TWO_SEQUENCES = torch.tensor([[0, 1, 1, 0, 0, 0], [0, 1, 1, 0, 1, 1]], dtype=torch.bool)
LOSSES = torch.tensor([[9.0, 1, 1, 9, 9, 9], [9, 2, 2, 9, 2, 2]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("token_mean", 1.666667), ("seq_mean_token_mean", 1.5), ("seq_mean_token_sum", 5.0), ("const_norm", 0.625)],
)
def test_aggregation_of_two_sequences_is_the_golden_one(mode: str, expected: float) -> None:
    weights = token_weights(TWO_SEQUENCES, mode, constant=8)
    assert float((weights * LOSSES).sum()) == pytest.approx(expected, abs=1e-6)
    assert not weights[~TWO_SEQUENCES].any()


@pytest.mark.parametrize("mode", MODES)
def test_the_parts_of_a_batch_add_up_to_the_batch(mode: str) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(8, 30, generator=generator) < torch.rand(8, 1, generator=generator)
    mask[:, 3] = True
    losses = torch.randn(8, 30, generator=generator)
    weighted = token_weights(mask, mode) * losses
    by_rank = weighted[:4].sum() + weighted[4:].sum()
    torch.testing.assert_close(by_rank, weighted.sum())


def test_an_unknown_aggregation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mean.*allowed: token_mean"):
        token_weights(TWO_SEQUENCES, "mean")


def test_an_engine_that_agrees_with_the_trainer_gives_weights_of_1() -> None:
    logprobs = -torch.rand(5, 7)
    assert torch.equal(mismatch_weights(logprobs, logprobs, cap=2.0), torch.ones(5, 7))


def test_mismatch_weights_are_capped_above_and_carry_no_gradient() -> None:
    engine = torch.tensor([-5.0, -1.0, -1.0])
    old = torch.tensor([-1.0, -1.5, -0.9], requires_grad=True)
    weights = mismatch_weights(old, engine, cap=2.0)
    torch.testing.assert_close(weights, torch.tensor([2.0, 0.606531, 1.105171]))
    assert not weights.requires_grad


def test_uncapped_weights_turn_the_engines_average_into_the_trainers() -> None:
    trainer, engine = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.2, 0.2, 0.6])
    scores = torch.tensor([1.0, 2.0, 4.0])

    def average(cap: float) -> float:
        return float((engine * mismatch_weights(trainer.log(), engine.log(), cap=cap) * scores).sum())

    assert average(100.0) == pytest.approx(float((trainer * scores).sum()))
    assert average(1.5) < average(100.0)  # tokens that the engine samples too rarely stay too rare
