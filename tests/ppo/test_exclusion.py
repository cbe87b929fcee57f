"""What infrastructure broke teaches nothing: the update with it in the batch is bit-equal to the update without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from agentrl.config import PPOConfig, TokenPenaltyConfig
from agentrl.config.ppo import KLConfig
from agentrl.evaluation import compare, evaluate_rollouts
from agentrl.evaluation.infrastructure import conduct_metrics
from agentrl.rollout.trajectory import to_trajectories
from agentrl.types import FailureClass, Grade, Rollout, StopReason
from tests.factories import make_rollout
from tests.tiny import make_trainer, tiny_policy

PRICES = PPOConfig(token_penalty=TokenPenaltyConfig(per_1000_tokens=1.0), malformed_call_penalty=0.1)


def group(task_id: str, scores: Sequence[float]) -> list[Rollout]:
    """Episodes of different lengths and ends."""
    stops = (StopReason.FINAL, StopReason.TURN_LIMIT, StopReason.STUCK)
    return [
        make_rollout(task_id, i, score, ("look",) * (i % 3), 6 + 3 * i, stops[i % 3]) for i, score in enumerate(scores)
    ]


def lost(task_id: str, n: int) -> list[Rollout]:
    """Broken in every way, each with something that would move a mean: a score, a length, a time, log-probabilities."""
    long = [make_rollout(task_id, 50 + i, 0.0, ("look",) * 5, 60, seconds=999.0, cost_usd=9.0) for i in range(n)]
    ways: list[dict[str, Any]] = [
        {"stop_reason": StopReason.INFRASTRUCTURE, "broken_by": FailureClass.TOOL, "error": "answered 503"},
        {"stop_reason": StopReason.INFRASTRUCTURE, "broken_by": FailureClass.SANDBOX, "grade": Grade(1.0)},
        {"grade": Grade(None, "the grader hangs")},
        {"stop_reason": StopReason.TIME_LIMIT, "grade": Grade(0.0)},
        {"stop_reason": StopReason.INFRASTRUCTURE, "turns": (), "broken_by": FailureClass.ENGINE},
    ]
    return [replace(rollout, **ways[i % len(ways)]) for i, rollout in enumerate(long)]


def update(rollouts: Sequence[Rollout], **config: Any) -> tuple[dict[str, float], dict[str, torch.Tensor], float]:
    """What one update reports, all that it leaves behind, and the next step's beta."""
    policy = tiny_policy()
    trainer = make_trainer(policy, minibatches=3, epochs=2, **config)
    metrics = trainer.update(to_trajectories(rollouts, PRICES))
    state = {name: parameter.detach() for name, parameter in policy.named_parameters()}
    state |= {f"optimizer.{name}": tensor for name, tensor in trainer.optimizer_tensors().items()}
    return metrics, state, trainer.kl.coef


def assert_bit_equal(one: Sequence[Rollout], other: Sequence[Rollout], **config: Any) -> None:
    (metrics, state, beta), (expected_metrics, expected, expected_beta) = (
        update(each, **config) for each in (one, other)
    )
    assert metrics == expected_metrics
    assert beta == expected_beta
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []


VALID = [*group("a", (1.0, 0.0, 0.5, 0.0)), *group("b", (0.0, 0.0, 1.0)), *group("d", (1.0,))]
BATCHES = {
    "among others, first and last": [*lost("a", 2), *VALID[:4], *lost("b", 5), *VALID[4:], *lost("d", 3)],
    "a whole group": [*VALID[:4], *lost("c", 8), *VALID[4:]],
    "all but one of a group": [*VALID, *lost("d", 7)],
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize(
    "config",
    [{}, {"kl": KLConfig(controller="adaptive", coef=0.1)}, {"aggregation": "seq_mean_token_mean"}],
    ids=["token mean", "adaptive KL", "sequence mean"],
)
def test_an_update_is_bit_equal_with_and_without_what_infrastructure_broke(name: str, config: dict[str, Any]) -> None:
    assert_bit_equal(BATCHES[name], VALID, **config)


def test_the_comparison_would_notice_one_more_zero() -> None:
    """A lost rollout scored 0 is exactly what must not happen: the test above sees it."""
    scored_zero = replace(lost("a", 1)[0], stop_reason=StopReason.TURN_LIMIT, grade=Grade(0.0))
    with pytest.raises(AssertionError):
        assert_bit_equal([*VALID, scored_zero], VALID)


def test_equal_rewards_leave_finite_weights() -> None:
    metrics, state, _ = update([*group("a", (0.0,) * 4), *lost("a", 4)])
    assert all(torch.isfinite(tensor).all() for tensor in state.values())
    assert metrics["reward_train"] == 0.0


@pytest.mark.parametrize("name", BATCHES)
def test_no_statistic_counts_it(name: str) -> None:
    with_lost, without = (evaluate_rollouts(each, pass_threshold=0.75) for each in (BATCHES[name], VALID))
    assert with_lost.items == without.items
    assert with_lost.reward_interval == without.reward_interval
    assert conduct_metrics(BATCHES[name]) == conduct_metrics(VALID)
    before = evaluate_rollouts([make_rollout(task, 0, 0.25) for task in "abd"], pass_threshold=0.75)
    one, other = (compare(before, each) for each in (with_lost, without))
    assert (one.differences, one.quadrants, one.left_out) == (other.differences, other.quadrants, other.left_out)
    assert one.ungraded == len(BATCHES[name]) - len(VALID)
