"""`train`: from a config to a trained policy. The outer loop is `_Training.improve`, its body `take_step`.

load tasks, policy, reference -> check endpoints -> evaluate baseline -> warm up critic
-> repeat: roll out, update, (evaluate, checkpoint), guard -> evaluate best -> test once -> report
"""

from __future__ import annotations

import asyncio
import resource
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig, to_yaml, training_sections
from agentrl.data.batches import TaskOrder
from agentrl.data.tasks import Splits, load_tasks
from agentrl.errors import CheckpointError, TrainingStopped
from agentrl.evaluation.measure import Measurement
from agentrl.evaluation.report import write_report
from agentrl.interrupts import Stop
from agentrl.policy.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    prune,
    save_checkpoint,
)
from agentrl.policy.policy import Policy, check_baseline, folder_digest, load_policy
from agentrl.policy.progress_bars import without_progress_bars
from agentrl.policy.reference import ReferencePolicy
from agentrl.ppo.guards import violation
from agentrl.ppo.trainer import PPOTrainer
from agentrl.progress import Reporter, SilentReporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import Outage, OutageGuard
from agentrl.rollout.trajectory import to_trajectories
from agentrl.runs import RunDirectory, default_run_dir, environment_manifest
from agentrl.runs.lock import RunLock
from agentrl.tools.lifecycle import LEDGER
from agentrl.tools.preflight import check_endpoints
from agentrl.tools.serve import serving
from agentrl.types import Rollout, Task, Trajectory


@dataclass(frozen=True)
class TrainingResult:
    """What a run came to."""

    run_dir: Path
    summary: dict[str, Any]
    """The contents of summary.json."""
    stopped_by: str | None
    """Name of the stop rule that ended the run, "interrupted", or None for a run that took all its steps."""


def train(
    config: RunConfig, *, run_dir: Path | None = None, resume: bool = False, reporter: Reporter | None = None
) -> TrainingResult:
    """Train a policy as `config` says; everything is kept in the run directory.

    Works in a terminal, in CI and in a notebook (where a loop is already running, it moves to a thread of its own).

    Args:
        run_dir: new or empty, `runs/NAME-TIME` by default; with `resume`, the run to go on with.

    Raises:
        ConfigError: data, endpoints or device do not fit the config; nothing has been written.
        BaselineError: the baseline cannot be trained from; nothing has been written.
        CheckpointError: the run directory is in use, incomplete, or belongs to another config.
    """
    stop = Stop()

    def run() -> TrainingResult:
        with without_progress_bars():
            return _train(config, run_dir, resume, reporter or SilentReporter(), stop)

    if not _is_loop_running():
        return run()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(run)
        try:
            return future.result()
        except KeyboardInterrupt:
            stop()
            return future.result()


def _is_loop_running() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _train(config: RunConfig, run_dir: Path | None, resume: bool, reporter: Reporter, stop: Stop) -> TrainingResult:
    """Everything that can be wrong is found before the run directory is made."""
    sections = training_sections(config)
    if resume and run_dir is None:
        raise CheckpointError("resume needs to know the run: give its run directory")
    reporter.phase("loading tasks and baseline")
    splits = load_tasks(sections.data)
    policy = load_policy(config)
    values = {"data.path": sections.data.path} if sections.data.path else {}
    with (
        tempfile.TemporaryDirectory(prefix="agentrl-") as logs,
        serving(sections.tools.serve, values, log_dir=Path(logs)) as urls,
    ):
        base_url, probe = urls[0] if urls else "", splits.train[0]

        async def work() -> TrainingResult:
            await check_endpoints(
                sections.tools.endpoints,
                sections.grading,
                item=probe.item,
                messages=probe.messages,
                base_url=base_url,
                lifecycle=sections.tools.lifecycle,
            )
            engine = RolloutEngine.from_config(config, policy, base_url)
            engine.check_prompts((*splits.train, *splits.validation, *splits.test))
            await engine.sync(policy)  # an inference server shows here that it can serve the policy
            with _open_run(config, splits, run_dir, resume) as run:
                try:
                    await engine.open_ledger(run.path)
                    await _reap_siblings(engine, run.path)
                    training = _Training(config, run, splits, policy, engine, reporter)
                    return await stop.guard(training.improve(resume=resume), training.interrupted)
                finally:
                    await engine.aclose()
                    _keep_logs(Path(logs), run)

        return asyncio.run(work())


def _open_run(config: RunConfig, splits: Splits, run_dir: Path | None, resume: bool) -> RunDirectory:
    manifest = {
        **environment_manifest(),
        "data_digest": splits.digest(),
        "tasks": str(splits),
        "baseline_digest": folder_digest(check_baseline(config.workflow.baseline)),
    }
    folder = run_dir or default_run_dir(config.name)
    if resume:
        return RunDirectory.open(folder, to_yaml(config), manifest)
    return RunDirectory.create(folder, config_yaml=to_yaml(config), manifest=manifest)


async def _reap_siblings(engine: RolloutEngine, run: Path) -> None:
    """Close the sandboxes that crashed runs beside this one left open; where somebody works they are in use."""
    for ledger in sorted(run.absolute().parent.glob(f"*/{LEDGER}")):
        if ledger.parent == run.absolute():
            continue
        with suppress(CheckpointError, OSError):
            lock = RunLock.acquire(ledger.parent)
            try:
                await engine.reap(ledger.parent)
            finally:
                lock.release()


def _keep_logs(logs: Path, run: RunDirectory) -> None:
    """The servers started before there was a run directory; what they printed belongs in it."""
    for log in logs.iterdir():
        with (run.path / log.name).open("ab") as kept:
            kept.write(log.read_bytes())


class _Training:
    """The state of one run: what `improve` reads and writes."""

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        splits: Splits,
        policy: Policy,
        engine: RolloutEngine,
        reporter: Reporter,
    ) -> None:
        self.config, self.run, self.splits, self.reporter = config, run, splits, reporter
        self.policy, self.engine = policy, engine
        self.rollouts = OutageGuard(
            engine,
            max_lost_fraction=config.ppo.guards.max_ungraded_fraction,
            max_outage_seconds=config.ppo.guards.max_outage_seconds,
            tell=reporter.message,
        )
        self.reference = ReferencePolicy.freeze(policy)
        self.reference_digest = self.reference.digest()
        self.ppo = PPOTrainer(policy, self.reference, config.ppo, seed=config.seed)
        self.order = TaskOrder(splits.train, config.seed)
        self.history: list[dict[str, float]] = []
        self.measurement = Measurement(config, run, splits, policy, engine, self.rollouts, reporter)
        self.step = 0
        self.is_training = False  # between steps, so that a checkpoint of now can be gone on from
        self.started = time.monotonic()
        self.seconds_before = 0.0  # wall time of the processes that this one resumes

    async def improve(self, *, resume: bool) -> TrainingResult:
        """The outer loop, to its end or to the first rule that stops it."""
        try:
            await self.start(resume=resume)
            while self.step < self.config.ppo.steps:
                await self.take_step()
        except TrainingStopped as stop:
            return await self.finish(self.stopped(stop))
        return await self.finish(None)

    async def start(self, *, resume: bool) -> None:
        """Take up the newest checkpoint, or measure the baseline and warm up the critic."""
        if not (resume and await self.restore()):
            await self.measurement.measure_baseline()
            await self.warm_up_critic()
        self.reporter.phase("training")
        self.is_training = True

    async def take_step(self) -> None:
        """One step of PPO.

        Raises:
            TrainingStopped: a rule says that there should be no further one.
        """
        ppo = self.config.ppo
        # 1. Roll out the current policy on the next tasks; where endpoints fail, wait for them.
        started = time.monotonic()
        tasks = self.order.batch(self.step + 1, ppo.tasks_per_step)
        rollouts = await self.roll_out(tasks, self.step + 1)
        rolled_out = time.monotonic()

        # 2. Learn from every rollout that has a grade.
        try:
            metrics = self.ppo.update(self.trajectories(rollouts))
        except FloatingPointError as error:
            raise TrainingStopped("non_finite", str(error)) from error
        self.step += 1
        metrics |= self.measurement.describe(rollouts) | {
            "rolled_out_again": float(self.rollouts.rolled_out_again),
            "seconds_paused": self.rollouts.seconds_paused,
            "seconds_rollout": rolled_out - started,
            "seconds_update": time.monotonic() - rolled_out,
        }
        self.record(metrics)
        await self.engine.sync(self.policy)

        # 3. Measure, save, and stop when something went bad.
        if self.is_due(self.config.evaluation.every_steps):
            await self.measure_step()
        if self.is_due(self.config.checkpoint.every_steps):
            self.save()
        if fired := violation(self.history, ppo.guards):
            raise TrainingStopped(fired.rule, f"{fired.message}; best checkpoint: {self.measurement.best_path}")

    def stopped(self, stop: TrainingStopped) -> str:
        """Say which rule ended the run; returns its name."""
        self.reporter.message(f"stopped by {stop.rule}: {stop}")
        if isinstance(stop, Outage):
            self.run.write_rollouts("withheld", stop.rollouts)
        return stop.rule

    def is_due(self, every_steps: int) -> bool:
        """Whether something that is done every so many steps, and at the end, is to be done now."""
        return self.step % every_steps == 0 or self.step == self.config.ppo.steps

    async def roll_out(self, tasks: list[Task], step: int) -> list[Rollout]:
        rollouts = await self.rollouts.run(
            tasks, samples_per_task=self.config.ppo.samples_per_task, seed=f"{self.config.seed}/train/{step}"
        )
        self.run.write_rollouts(f"train-{step:06d}", rollouts)
        return rollouts

    def trajectories(self, rollouts: list[Rollout]) -> list[Trajectory]:
        """What may be learned from, with its rewards."""
        ppo = self.config.ppo
        return to_trajectories(rollouts, ppo.token_penalty, malformed_call_penalty=ppo.malformed_call_penalty)

    async def warm_up_critic(self) -> None:
        """Rollouts of step 0's tasks teach the value head; step 1's advantages then do not start from nothing."""
        if self.config.ppo.critic_warmup_steps and self.config.ppo.steps:
            self.reporter.phase("warming up the critic")
            rollouts = await self.roll_out(self.order.batch(0, self.config.ppo.tasks_per_step), 0)
            if trajectories := self.trajectories(rollouts):
                self.ppo.warm_up_critic(trajectories)

    def record(self, metrics: dict[str, float]) -> None:
        """One line of metrics a step, written at once: what is interrupted later still counts."""
        self.history.append({"step": self.step, **metrics})
        self.run.append_metrics(self.history[-1])
        self.reporter.step(self.step, self.config.ppo.steps, metrics)

    async def measure_step(self) -> None:
        """Validation after a step; its figures join the step's line of metrics."""
        self.history[-1] |= await self.measurement.measure_step(self.step)
        self.run.truncate_metrics(self.step - 1)
        self.run.append_metrics(self.history[-1])

    def save(self) -> None:
        """A checkpoint to go on from; all but the newest few are deleted."""
        state = {
            "step": self.step,
            "policy_version": self.policy.version,
            "kl_coef": self.ppo.kl.coef,
            "best_step": self.measurement.best_step,
            "best_reward": self.measurement.best_reward,
            "reference_digest": self.reference_digest,
            "wall_seconds": self.wall_seconds,
        }
        folder = self.run.checkpoint_path(f"step-{self.step:06d}")
        save_checkpoint(folder, self.policy, self.ppo.optimizer_tensors(), state)
        prune(folder.parent, self.config.checkpoint.keep_last)

    @property
    def wall_seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    async def restore(self) -> bool:
        """Go back to the newest whole checkpoint; False where the run has none yet."""
        folder, complaints = newest_checkpoint(self.run.checkpoint_path(""))
        for complaint in complaints:
            self.reporter.message(f"{complaint}; going back to an earlier one")
        if folder is None:
            return False
        tensors, state = load_checkpoint(folder, self.policy)
        if state["reference_digest"] != self.reference_digest:
            raise CheckpointError(f"{folder} was trained from another baseline than {self.config.workflow.baseline}")
        self.ppo.load_optimizer_tensors(tensors)
        self.ppo.kl.coef = state["kl_coef"]
        self.step, self.policy.version = state["step"], state["policy_version"]
        self.measurement.restore(best_step=state["best_step"], best_reward=state["best_reward"])
        self.seconds_before = state["wall_seconds"]
        await self.engine.sync(self.policy)
        self.run.truncate_metrics(self.step)
        self.history = self.run.read_metrics()
        self.reporter.message(f"resuming after step {self.step}")
        self.is_training = True
        is_unmeasured = self.history and "reward_validation" not in self.history[-1]
        if is_unmeasured and self.is_due(self.config.evaluation.every_steps):  # interrupted in that evaluation
            await self.measure_step()
        return True

    async def finish(self, stopped_by: str | None) -> TrainingResult:
        """Save, measure what came of it, and sum up."""
        is_mid_update = stopped_by == "non_finite"
        if not is_mid_update and (self.step or stopped_by is None):  # else: go on from an earlier one, or afresh
            self.save()
        self.is_training = False
        if stopped_by != Outage.RULE and self.measurement.reports:  # else nothing could be measured, or compared with
            try:
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
            **self.measurement.summary(),
        }
        self.run.write_summary(summary)
        write_report(self.run.path)
        return TrainingResult(self.run.path, summary, stopped_by)

    def interrupted(self) -> TrainingResult:
        """Save what is finished: a later `--resume` takes it up."""
        if self.is_training:
            self.save()
        return self.summarise("interrupted")


def peak_rss_bytes() -> int:
    """Most memory that this process ever held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kilobytes
