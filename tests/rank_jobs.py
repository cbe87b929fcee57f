"""What several processes of a test do at the same time; in a module of its own, as each of them imports it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from torch import Tensor

from agentrl.config import PolicyConfig, PPOConfig
from agentrl.errors import ConfigError, TrainingStopped
from agentrl.policy.processes import ProcessRanks
from agentrl.policy.ranks import Ranks
from agentrl.policy.reference import ReferencePolicy
from agentrl.policy.sharding import ShardedRanks, Sharding
from agentrl.ppo.trainer import PPOTrainer
from agentrl.rollout.outage import Outage, OutageGuard
from agentrl.rollout.shared import SharedRollouts
from agentrl.types import Rollout, Task
from tests.factories import make_rollout, make_task
from tests.tiny import sampled_trajectories, tiny_policy

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Case:
    """Updates of a tiny policy; small microbatches, so that there are some to share."""

    n_trajectories: int
    n_updates: int = 3
    policy: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    ppo: dict[str, Any] = field(default_factory=dict)


CASES = {
    "several microbatches": Case(9),
    "three for two": Case(3, ppo={"minibatches": 1, "epochs": 1}),
    "one for two": Case(1, ppo={"minibatches": 1}),
    "adapters": Case(6, policy={"lora": {"rank": 4, "alpha": 8}}),
    "untied": Case(5, n_updates=2, model={"tie_word_embeddings": False}),
    "recomputed layers": Case(5, n_updates=2, policy={"gradient_checkpointing": True}),
    "penalty in the loss": Case(
        6, n_updates=2, ppo={"kl": {"placement": "loss", "estimator": "k2"}, "entropy_coef": 0.01}
    ),
    "critic of its own": Case(5, n_updates=2, policy={"critic": "separate"}),
    "critic on the trunk": Case(5, n_updates=2, policy={"critic": "shared"}),
    "preset gspo": Case(6, n_updates=2, ppo={"preset": "gspo", "critic_warmup_steps": 0}),
}


@dataclass(frozen=True)
class Outcome:
    """What a case came to on one rank."""

    weights: dict[str, Tensor]
    metrics: list[dict[str, float]]
    optimizer: dict[str, Tensor]
    digests: tuple[str, str]
    """Of the reference, before and after."""
    warmed_up: float
    """Explained variance after a critic warm-up."""


def play(case: Case, ranks: Ranks) -> Outcome:
    """The case on the ranks that are there."""
    policy = tiny_policy(config=PolicyConfig(value_hidden_size=16, **case.policy), **case.model)
    settings = {"learning_rate": 1e-3, "minibatches": 2, "epochs": 2, "microbatch_tokens": 40, "critic_warmup_steps": 2}
    whole = ReferencePolicy.freeze(policy)
    before = whole.digest()
    trained, reference = ranks.shard(policy, whole)
    trainer = PPOTrainer(trained, reference, PPOConfig(**{**settings, **case.ppo}), ranks=ranks)
    trajectories = sampled_trajectories(policy, case.n_trajectories)
    has_critic = trainer.config.has_critic
    warmed_up = trainer.warm_up_critic(trajectories)["explained_variance"] if has_critic else 0.0
    metrics = []
    for seed in range(case.n_updates):
        metrics.append(trainer.update(sampled_trajectories(policy, case.n_trajectories, seed=seed)))
        ranks.collect_weights()
    weights = {name: parameter.detach().clone() for name, parameter in policy.named_parameters()}
    return Outcome(weights, metrics, trainer.optimizer_tensors(), (before, reference.digest()), warmed_up)


def play_all(folder: Path, rank: int) -> None:
    """Every case, with replicated and with sharded weights; the outcomes are kept in `folder`."""
    kinds: dict[str, Callable[[], ProcessRanks]] = {
        "replicated": lambda: ProcessRanks(CPU),
        "sharded": lambda: ShardedRanks(CPU, Sharding()),
        "sharded, kept gathered": lambda: ShardedRanks(CPU, Sharding(reshard_after_forward=False)),
    }
    for kind, make in kinds.items():
        for name, case in CASES.items():
            if kind != "sharded, kept gathered" or name == "several microbatches":
                torch.save(play(case, make()), folder / f"{kind}-{name}-{rank}.pt")
    roll_out_all(folder, rank)
    fail_all(folder, rank)
    end_apart(folder, rank)  # last: afterwards they know each other no more


def together(work: Callable[..., None], *arguments: Any, count: int = 2, folder: Path) -> None:
    """Run `work(*arguments, rank)` in that many processes that know each other."""
    multiprocessing.spawn(_process, (work, arguments, count, str(folder / "meeting")), nprocs=count)


def _process(rank: int, work: Callable[..., None], arguments: tuple[Any, ...], count: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=count)
    work(*arguments, rank)


class CountingEngine:
    """Stands for a RolloutEngine: a rollout carries the rank that drew it, as its cost in dollars."""

    tools = ("look",)

    def __init__(self, rank: int, *, lost: int = 0, is_slow: bool = False) -> None:
        self.rank, self.lost, self.is_slow = rank, lost, is_slow

    async def run(self, tasks: Sequence[Task], *, samples_per_task: int, **_: Any) -> list[Rollout]:
        while self.is_slow:
            await asyncio.sleep(0.01)
        return [self._draw(task.id, sample) for task in tasks for sample in range(samples_per_task)]

    async def run_again(self, rollouts: Sequence[Rollout], **_: Any) -> list[Rollout]:
        return [self._draw(rollout.task.id, rollout.sample_index) for rollout in rollouts]

    async def wait_until_healthy(self) -> None: ...

    def _draw(self, task_id: str, sample: int) -> Rollout:
        self.lost -= 1
        return make_rollout(task_id, sample, None if self.lost >= 0 else 1.0, cost_usd=float(self.rank))


def roll_out(rank: int, tasks: int, *, is_remote: bool = False, **engine: Any) -> Any:
    """(task, sample, rank) of the rollouts that an OutageGuard returns, or how it ended."""
    ranks = ProcessRanks(CPU)
    shared = SharedRollouts(cast(Any, CountingEngine(rank, **engine)), ranks, is_remote=is_remote)
    options: dict[str, Any] = {"tell": lambda _: None, "clock": shared.clock}
    guard = OutageGuard(shared, max_lost_fraction=0.1, max_outage_seconds=0.5, **options)
    if "is_slow" in engine and rank == 1:
        ranks.ask_to_stop()
    try:
        found = asyncio.run(guard.run([make_task(f"t{n}") for n in range(tasks)], samples_per_task=2))
    except Outage:
        return "outage"
    except asyncio.CancelledError:
        return "stopped"
    return [(rollout.task.id, rollout.sample_index, int(rollout.cost_usd)) for rollout in found]


def roll_out_all(folder: Path, rank: int) -> None:
    """Rollouts of several tasks, of one, of one rank's servers; through an outage of one rank, and into a stop."""
    found = {
        "five tasks": roll_out(rank, 5),
        "one task": roll_out(rank, 1),
        "remote": roll_out(rank, 3, is_remote=True),
        "short outage": roll_out(rank, 4, lost=3 * rank),
        "long outage": roll_out(rank, 4, lost=10**6 * rank),
        "stop": roll_out(rank, 4, is_slow=rank == 0),
    }
    (folder / f"rollouts-{rank}.json").write_text(json.dumps(found))


def fail_all(folder: Path, rank: int) -> None:
    """An error of the first rank's work is everybody's, with all that it carries."""
    ranks = ProcessRanks(CPU)

    def work() -> None:
        raise TrainingStopped("disk", "no space left")

    async def waiting_work() -> None:
        work()

    said = []
    for run in (lambda: ranks.on_first(work), lambda: asyncio.run(ranks.on_first_async(waiting_work()))):
        try:
            run()
        except TrainingStopped as stop:
            said.append([stop.rule, str(stop)])
    (folder / f"error-{rank}.json").write_text(json.dumps(said))


def end_apart(folder: Path, rank: int) -> None:
    """One rank meets an error while the other waits for it: who says what."""
    ranks = ProcessRanks(CPU)
    try:
        with ranks.ending_together():
            if rank == 1:
                raise ConfigError("this disk has no data")
            ranks.gather([rank])
    except (ConfigError, SystemExit) as end:
        (folder / f"end-{rank}.txt").write_text(f"{type(end).__name__}: {end}")
    dist.destroy_process_group()
