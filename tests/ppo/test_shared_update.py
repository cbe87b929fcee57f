"""One update that several ranks share, played by threads: the same gradient and the same figures as alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from agentrl.policy.ranks import Ranks
from agentrl.ppo.trainer import PPOTrainer
from agentrl.types import Trajectory
from tests.tiny import make_trainer, sampled_trajectories, tiny_policy


class Meeting:
    """Where threads exchange what they hold."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._barrier = Barrier(count, timeout=60)
        self._held: list[Any] = [None] * count

    def exchange(self, rank: int, value: Any) -> list[Any]:
        self._held[rank] = value
        self._barrier.wait()
        everything = list(self._held)
        self._barrier.wait()
        return everything


class ThreadRanks(Ranks):
    """A rank that is a thread."""

    def __init__(self, rank: int, meeting: Meeting) -> None:
        self.rank, self.count, self._meeting = rank, meeting.count, meeting

    def share(self, pieces: Sequence[Tensor]) -> list[Tensor]:
        return list(pieces[self.rank :: self.count])

    def sum(self, tensor: Tensor) -> Tensor:
        total: Tensor = sum(self._meeting.exchange(self.rank, tensor.detach().clone()))  # type: ignore[assignment]
        return total

    def max(self, value: float) -> float:
        return max(self._meeting.exchange(self.rank, value))

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        for parameter in parameters:
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            parameter.grad = self.sum(gradient)


def update(trainer: PPOTrainer, ranks: Ranks, trajectories: list[Trajectory]) -> tuple[Any, Any]:
    trainer.ranks = ranks
    return trainer.update(trajectories), {name: each.detach() for name, each in trainer.policy.named_parameters()}


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize(
    "config",
    [
        *({"aggregation": mode} for mode in ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum", "const_norm")),
        {"preset": "turn_gae", "entropy_coef": 0.01},
        {"preset": "dapo"},
        {"preset": "gspo"},
    ],
    ids=str,
)
def test_ranks_that_share_an_update_learn_what_one_learns_alone(count: int, config: dict[str, Any]) -> None:
    """Whitening and group statistics included: each rank holds the whole batch."""
    drawn = sampled_trajectories(tiny_policy(), 10)
    trajectories = [replace(each, task_id=f"t{i // 5}") for i, each in enumerate(drawn)]
    config = {"minibatches": 2, "microbatch_tokens": 25, "learning_rate": 1e-4, **config}
    alone, expected = update(make_trainer(tiny_policy(), **config), Ranks(), trajectories)
    meeting = Meeting(count)
    trainers = [make_trainer(tiny_policy(), **config) for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        shared = [pool.submit(update, each, ThreadRanks(i, meeting), trajectories) for i, each in enumerate(trainers)]
        played = [each.result() for each in shared]
    for metrics, weights in played:
        assert metrics == {name: pytest.approx(value, abs=1e-5, rel=1e-4) for name, value in alone.items()}
        for name, weight in weights.items():
            torch.testing.assert_close(weight, expected[name], atol=2e-6, rtol=1e-5)
