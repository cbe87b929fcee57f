"""What a step learns from: its tasks, all their samples, and in place of groups that teach nothing others."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.config import RunConfig
from agentrl.data.batches import TaskOrder
from agentrl.data.curriculum import Curriculum
from agentrl.errors import TrainingStopped
from agentrl.evaluation.discrimination import passed_signals
from agentrl.grading.versions import grade_versions, shown
from agentrl.progress import Reporter
from agentrl.rollout.outage import OutageGuard
from agentrl.rollout.trajectory import to_trajectories
from agentrl.runs import RunDirectory
from agentrl.training.resampling import top_up
from agentrl.types import Rollout, Task, Trajectory


@dataclass(frozen=True)
class Batch:
    """What a step learns from."""

    drawn: list[Rollout]
    """Of the step's own tasks."""
    rollouts: list[Rollout]
    """The same with groups that teach nothing replaced."""
    metrics: dict[str, float]
    """What it took."""


class Batches:
    """The batch of every step: a function of the seed, the step and the weights, but for a curriculum's memory.

    Args:
        rollouts: runs the tasks, and waits where endpoints fail.
        pass_threshold: a score at or above it is a success, see `grading`.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        tasks: Sequence[Task],
        rollouts: OutageGuard,
        reporter: Reporter,
        *,
        pass_threshold: float,
    ) -> None:
        curriculum = config.data.curriculum if config.data else None
        self.curriculum = Curriculum(tasks, config.seed, curriculum) if curriculum else None
        self.order = self.curriculum or TaskOrder(tasks, config.seed)
        self.signals = passed_signals(config)
        self.config, self.run, self.tasks = config, run, tasks
        self.rollouts, self.reporter, self.pass_threshold = rollouts, reporter, pass_threshold
        self._versions: dict[str, str] = {}  # of graders, and the file in which each was seen first

    async def make(self, step: int) -> Batch:
        """What a step learns from, rolled out by the weights that the engine has.

        Raises:
            Outage: the endpoints did not recover.
            TrainingStopped: the grader is another one than at first.
        """
        started = time.monotonic()
        drawn = await self.draw(step)
        if self.curriculum:
            self.curriculum.observe(step, self._successes(drawn))
        rollouts, resampled = await top_up(
            drawn,
            lambda tasks, number: self._roll_out(tasks, step, f"-again-{number}"),
            tasks=self.tasks,
            config=self.config.ppo.dynamic_sampling,
            seed=f"{self.config.seed}/again/{step}",
        )
        waited = {
            "rolled_out_again": float(self.rollouts.rolled_out_again),
            "seconds_paused": self.rollouts.seconds_paused,
            "seconds_rollout": time.monotonic() - started,
        }
        return Batch(drawn, rollouts, resampled | waited)

    async def draw(self, step: int) -> list[Rollout]:
        """All samples of the step's own tasks."""
        return await self._roll_out(self.order.batch(step, self.config.ppo.tasks_per_step), step)

    def trajectories(self, rollouts: Sequence[Rollout]) -> list[Trajectory]:
        """What may be learned from, with its rewards."""
        return to_trajectories(rollouts, self.config.ppo, self.signals)

    async def _roll_out(self, tasks: list[Task], step: int, suffix: str = "") -> list[Rollout]:
        """All samples of the tasks; `suffix` is for what a step rolls out besides its own tasks."""
        rollouts = await self.rollouts.run(
            tasks, samples_per_task=self.config.ppo.samples_per_task, seed=f"{self.config.seed}/train/{step}{suffix}"
        )
        name = f"train-{step:06d}{suffix}"
        self.run.keep_rollouts(name, rollouts, self.reporter.message)
        self._check_versions(name, rollouts)
        return rollouts

    def _check_versions(self, name: str, rollouts: Sequence[Rollout]) -> None:
        """Nothing is learned from scores that cannot be put side by side; a resumed run compares its manifest."""
        for version in grade_versions(rollouts):
            self._versions.setdefault(version, name)
        most = self.config.ppo.guards.max_grader_versions
        if most is not None and len(self._versions) > most:
            seen = ", ".join(f"{shown(version)} first in {file}" for version, file in self._versions.items())
            why = "ppo.guards.max_grader_versions"
            raise TrainingStopped("grader_changed", f"found scores of {len(self._versions)} graders ({why}): {seen}")

    def _successes(self, rollouts: Sequence[Rollout]) -> list[tuple[str, bool]]:
        """Task and success of every rollout that has a vote."""
        valid = [rollout for rollout in rollouts if rollout.is_valid]
        return [(each.task.id, (each.grade.score or 0.0) >= self.pass_threshold) for each in valid]
