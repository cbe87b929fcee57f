"""One run: `Training.improve` is the outer loop of the algorithm, `take_step` its body.

evaluate baseline -> warm up critic -> repeat: roll out, update, (evaluate, save), guard
-> evaluate best -> test once -> report
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig
from agentrl.data.tasks import Splits
from agentrl.errors import CheckpointError, TrainingStopped
from agentrl.evaluation.measure import HOLDOUT_MISSING, Measurement
from agentrl.evaluation.report import write_report
from agentrl.monitoring.tracking import Tracking
from agentrl.policy.policy import Policy
from agentrl.policy.ranks import Ranks
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.checks import FirstUpdate
from agentrl.ppo.experience import Experience
from agentrl.ppo.recording import token_facts
from agentrl.ppo.rules import GAMING_RULES
from agentrl.ppo.trainer import PPOTrainer
from agentrl.progress import Reporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import Outage, OutageGuard
from agentrl.rollout.shared import SharedRollouts
from agentrl.rollout.trajectory import to_trajectories
from agentrl.runs import RunDirectory
from agentrl.runs.files import STOP
from agentrl.training.ahead import Ahead, in_thread
from agentrl.training.batches import Batches
from agentrl.training.history import History
from agentrl.training.memory import memory_metrics, open_phases, peak_rss_bytes
from agentrl.training.profile import PROFILE, profile_of, step_metrics
from agentrl.training.saving import Checkpoints
from agentrl.training.stopping import Watch, go_back, stop_record
from agentrl.types import Trajectory

DISK = "disk"
"""The stop rule of a run directory that is full, gone or read-only."""


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to."""

    run_dir: Path
    summary: dict[str, Any]
    """The contents of summary.json."""
    stopped_by: str | None
    """Name of the stop rule that ended the run, "interrupted", or None for a run that took all its steps."""


class Training:
    """The state of one run: what `improve` reads and writes."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        splits: Splits,
        policy: Policy,
        engine: RolloutEngine | SharedRollouts,
        reporter: Reporter,
        ranks: Ranks | None = None,
        *,
        tracking: Tracking | None = None,
        is_profiled: bool = False,
    ) -> None:
        self.config, self.run, self.splits, self.reporter = config, run, splits, reporter
        self.policy, self.engine, self.ranks = policy, engine, ranks or Ranks()
        self.is_profiled = is_profiled
        self.phases = open_phases(policy.device, is_profiled=is_profiled)
        guarded = OutageGuard(
            engine,
            max_lost_fraction=config.ppo.guards.max_ungraded_fraction,
            max_outage_seconds=config.ppo.guards.max_outage_seconds,
            tell=reporter.message,
            clock=engine.clock,
        )
        reference = ReferencePolicy.freeze(policy)
        self.reference_digest = reference.digest()
        trained, self.reference = self.ranks.shard(policy, reference)
        self.ppo = PPOTrainer(
            trained,
            self.reference,
            config.ppo,
            seed=config.seed,
            ranks=self.ranks,
            phases=self.phases,
            keep=self.keep_tokens,
        )
        self.first_update = FirstUpdate(self.ppo, engine=engine_attention(config))
        self.history = History(run, tracking.metrics if tracking else None)
        self.watch = Watch(config, run, lambda: self.history.rows, reporter.message, self.ranks)
        self.measurement = Measurement(config, run, splits, policy, engine, guarded, reporter, self.ranks)
        threshold = self.measurement.pass_threshold
        self.batches = Batches(config, run, splits.train, guarded, reporter, pass_threshold=threshold)
        self.ahead = Ahead(self.batches.make)
        self.checkpoints = Checkpoints(
            run.checkpoint_path(""),
            policy,
            self.ppo,
            config.checkpoint,
            reference_digest=self.reference_digest,
            data_digest=splits.digest(),
            selection=self.measurement.selection,
            # Whatever else remembers from step to step joins here.
            parts={
                "measurement": self.measurement,
                "history": self.history,
                "warnings": self.watch,
                "run": run,
                **({"order": self.batches.curriculum} if self.batches.curriculum else {}),
                **({"ahead": self.ahead} if config.ppo.overlap else {}),
            },
            ranks=self.ranks,
            needed_step=self.watch.needed_step,
        )
        self.step = 0
        self.update_of: dict[str, Any] = {}  # the file and the ids of the rollouts that are learned from
        self.is_training = False  # between steps, so that a checkpoint of now can be gone on from
        self.started = time.monotonic()
        self.seconds_before = 0.0  # wall time of the processes that this one resumes

    async def improve(self, *, resume: bool) -> TrainingResult:
        """The outer loop, to its end or to the first rule that stops it."""
        stopped_by = None
        try:
            await self.start(resume=resume)
            while self.step < self.config.ppo.steps:
                with stop_on_a_full_disk():
                    await self.take_step()
        except TrainingStopped as stop:
            stopped_by = self.stopped(stop)
        finally:
            await self.ahead.aclose()
        return await self.finish(stopped_by)

    async def start(self, *, resume: bool) -> None:
        """Measure the baseline and warm up the critic, as far as an earlier process has not; or take up its last step.

        Raises:
            CheckpointError: there is a checkpoint that does not fit, or none can be written.
        """
        was_stopped = resume and self.ranks.on_first(lambda: go_back(self.run.path, self.reporter.message))
        state = self.checkpoints.restore(self.reporter) if resume else None
        if state is None:
            await self.measurement.measure_baseline()
            self.checkpoints.save_start()
        if state is not None and state["step"] is not None:
            await self.go_on(state)
            if self.step and not was_stopped:
                self.watch.stop()  # the process before this one may have ended just before it
        elif self.config.ppo.steps:
            await self.warm_up_critic()
            self.checkpoints.save(0, wall_seconds=self.wall_seconds)
        self.reporter.phase("training")
        if self.first_update.delicate:
            self.reporter.message(self.first_update.attention)
        self.phases.take_seconds()  # of what came before the first step
        self.is_training = self.config.ppo.steps > 0

    async def go_on(self, state: dict[str, Any]) -> None:
        """Take up what a checkpoint holds, and measure it where its process was interrupted in that."""
        self.step, self.seconds_before = state["step"], state["wall_seconds"]
        await self.engine.sync(self.policy)
        self.reporter.message(f"resuming after step {self.step}")
        self.is_training = True
        is_measured = not self.step or "reward_validation" in self.history.rows[-1]
        if not is_measured and self.is_due(self.config.evaluation.every_steps):
            await self.measure_step()

    async def take_step(self) -> None:
        """One step of PPO.

        Raises:
            TrainingStopped: a rule says that there should be no further one.
        """
        ppo = self.config.ppo
        self.update_of = {}
        self.run.check()
        # 1. Roll out the next tasks; where endpoints fail, wait for them. Overlapped, they were rolled out during the
        #    last update, and those after them begin now.
        with self.phases("rollout"):
            batch = await self.ahead.take(self.step + 1)
        if ppo.overlap and self.step + 1 < ppo.steps:
            self.ahead.start(self.step + 2)

        # 2. Learn from every rollout that has a grade.
        file = f"train-{self.step + 1:06d}"
        self.update_of = {"file": file, "ids": [rollout.id for rollout in batch.rollouts]}
        started = time.monotonic()
        try:
            trajectories = self.batches.trajectories(batch.rollouts)
            self.first_update.before(trajectories)
            metrics = await self.learn(trajectories)
        except FloatingPointError as error:
            raise TrainingStopped("non_finite", str(error)) from error
        self.ranks.collect_weights()
        self.step += 1
        metrics |= self.measurement.describe(batch.drawn) | batch.metrics  # of tasks as they came: others were chosen
        metrics |= memory_metrics(self.phases.take_peaks())
        metrics["seconds_update"] = time.monotonic() - started
        if ppo.overlap:
            metrics["seconds_overlapped"] = self.ahead.seconds
        self.record(self.ranks.broadcast(metrics))  # times differ from rank to rank, decisions must not
        with self.phases("rollout"):
            await self.ahead.settle()
        with self.phases("sync"):
            await self.engine.sync(self.policy)

        # 3. Measure, save, and stop when something went bad.
        if self.is_due(self.config.evaluation.every_steps):
            with self.phases("evaluation"):
                await self.measure_step()
        self.watch.warn()
        if self.is_due(self.config.checkpoint.every_steps):
            with self.phases("checkpoint"):
                self.save()
        if self.is_profiled:
            self.history.amend(self.ranks.broadcast(step_metrics(self.phases.take_seconds())))
        self.first_update.after(metrics)
        self.watch.stop()

    def stopped(self, stop: TrainingStopped) -> str:
        """Say which rule ended the run, and leave stop.json; returns the rule's name."""
        self.reporter.message(f"stopped by {stop.rule}: {stop}")
        self.keep_record(stop)
        if isinstance(stop, Outage):
            self.run.keep_rollouts("withheld", stop.rollouts, self.reporter.message)
        return stop.rule

    def keep_record(self, stop: TrainingStopped) -> None:
        """stop.json; a run ends without it where the disk refuses."""
        record = stop_record(stop, step=self.step, batch=self.update_of, checkpoints=self.checkpoints.folder)
        if stop.rule in GAMING_RULES:
            record["samples"] = self.measurement.suspects()
        with suppress(CheckpointError):
            self.run.write_json(STOP, record)

    def is_due(self, every_steps: int) -> bool:
        """Whether something that is done every so many steps, and at the end, is to be done now."""
        return self.step % every_steps == 0 or self.step == self.config.ppo.steps

    async def learn(self, trajectories: list[Trajectory]) -> dict[str, float]:
        """The update; overlapped, beside the event loop, so that the next batch's rollouts go on."""
        if self.config.ppo.overlap:
            return await in_thread(lambda: self.ppo.update(trajectories))
        return self.ppo.update(trajectories)

    def keep_tokens(self, learned: Sequence[Trajectory], experience: Experience) -> None:
        """What the update sees in each token, for those who read the episodes."""
        if self.config.checkpoint.token_facts:
            facts = token_facts(learned, experience, self.config.ppo)
            self.run.keep_token_facts(self.update_of["file"], facts, self.reporter.message)

    async def warm_up_critic(self) -> None:
        """Rollouts of step 0's tasks teach the value head; step 1's advantages then do not start from nothing."""
        if self.config.ppo.critic_warmup_steps and self.config.ppo.steps:
            self.reporter.phase("warming up the critic")
            rollouts = await self.batches.draw(0)
            if trajectories := self.batches.trajectories(rollouts):
                self.ppo.warm_up_critic(trajectories)

    def record(self, metrics: dict[str, float]) -> None:
        """The step's line of metrics."""
        self.history.add(self.step, metrics)
        self.reporter.step(self.step, self.config.ppo.steps, metrics)

    async def measure_step(self) -> None:
        """Validation after a step; its figures join the step's line of metrics."""
        figures = await self.measurement.measure_step(self.step)
        if watched := to_trajectories(self.measurement.watched_rollouts, self.config.ppo):
            figures["sqrt_kl"] = math.sqrt(max(0.0, self.ppo.kl_per_trajectory(watched)))
        self.history.amend(figures)

    def save(self) -> None:
        """A checkpoint to go on from."""
        self.checkpoints.save(self.step, wall_seconds=self.wall_seconds)

    @property
    def wall_seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    async def finish(self, stopped_by: str | None) -> TrainingResult:
        """Save, measure what came of it, and sum up."""
        is_mid_update = stopped_by == "non_finite"  # then only an earlier checkpoint can be gone on from
        is_measurable = bool(self.measurement.reports) and stopped_by not in (Outage.RULE, HOLDOUT_MISSING, DISK)
        try:
            with stop_on_a_full_disk():
                if self.is_training and not is_mid_update and stopped_by != DISK:
                    self.save()
                self.is_training = False
                if is_measurable:
                    await self.measurement.measure_result(self.step, is_final_whole=not is_mid_update)
        except TrainingStopped as stop:
            stopped_by = stopped_by or self.stopped(stop)
        return self.summarise(stopped_by)

    def summarise(self, stopped_by: str | None) -> TrainingResult:
        """Write summary.json and report.html."""
        summary = {
            "name": self.config.name,
            "seed": self.config.seed,
            "steps": self.step,
            "best_step": self.measurement.best_step,
            "stopped_by": stopped_by,
            "wall_seconds": self.wall_seconds,
            "peak_rss_bytes": peak_rss_bytes(),
            "reference_digest_before": self.reference_digest,
            "reference_digest_after": self.reference.digest(),
            "lost_rollouts": self.run.lost_rollouts,
            **self.measurement.summary(),
        }
        try:
            self.run.write_summary(summary)
            if self.is_profiled:
                self.run.write_json(PROFILE, profile_of(self.history.rows))
            self.ranks.on_first(lambda: write_report(self.run.path))
        except (CheckpointError, OSError) as error:  # the caller is told the figures all the same
            self.reporter.message(f"the summary could not be kept: {error}")
        return TrainingResult(self.run.path, summary, stopped_by)

    def interrupted(self) -> TrainingResult:
        """Save what is finished: a later `--resume` takes it up."""
        if self.is_training:
            try:
                self.save()
            except CheckpointError as error:
                self.reporter.message(str(error))
        return self.summarise("interrupted")


@contextmanager
def stop_on_a_full_disk() -> Iterator[None]:
    """What cannot be written ends a run as a stop rule does: all that was saved before is whole.

    Raises:
        TrainingStopped: in place of a CheckpointError.
    """
    try:
        yield
    except CheckpointError as error:
        raise TrainingStopped(DISK, str(error)) from error


def engine_attention(config: RunConfig) -> str:
    """What computes attention where tokens are sampled."""
    return "agentrl's own" if config.inference.kind == "in_process" else f"{config.inference.kind}'s own"
