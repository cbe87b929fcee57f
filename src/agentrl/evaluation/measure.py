"""What validation and test say of a run's policies, and which of them is best."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from statistics import pstdev
from typing import Any

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.errors import CheckpointError, TrainingStopped
from agentrl.evaluation.audit import audit_queue, suspects
from agentrl.evaluation.compare import evaluation_summary
from agentrl.evaluation.evaluate import evaluate
from agentrl.evaluation.grades import grade_metrics
from agentrl.evaluation.holdout import HoldoutHistory, HoldoutReport, describe_missing, watched
from agentrl.evaluation.infrastructure import conduct_metrics, infrastructure_metrics
from agentrl.evaluation.metrics import EvalReport, evaluate_rollouts
from agentrl.evaluation.selection import Ranked, Selection
from agentrl.labels import write_audit_queue
from agentrl.policy.checkpoint import load_weights
from agentrl.policy.policy import Policy, check_baseline
from agentrl.policy.ranks import Ranks
from agentrl.progress import Reporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import OutageGuard
from agentrl.rollout.shared import SharedRollouts
from agentrl.runs import RunDirectory, read_rollouts
from agentrl.runs.files import EVALUATIONS
from agentrl.runs.traces import from_trace
from agentrl.types import Rollout, Task

BASELINE, FINAL, BEST = "validation-baseline", "validation-final", "validation-best"
TEST_BASELINE, TEST_BEST = "test-baseline", "test-best"
HOLDOUT_MISSING = "holdout_missing"
"""The stop rule of hold-outs that cannot grade the baseline: watching would be an empty word."""


class Measurement:
    """The evaluations of one run; each keeps its report and its rollouts in the run directory.

    Attributes:
        selection: the best policies so far, by validation with as many samples an item as evaluations on the way take.
        holdouts: the first and the best of these evaluations, as the hold-out graders saw them.
        watched_rollouts: of the newest of these evaluations; empty in a run without hold-out graders.
    """

    def __init__(
        self,
        config: RunConfig,
        run: RunDirectory,
        splits: Splits,
        policy: Policy,
        engine: RolloutEngine | SharedRollouts,
        rollouts: OutageGuard,
        reporter: Reporter,
        ranks: Ranks | None = None,
    ) -> None:
        self.config, self.run, self.policy, self.reporter = config, run, policy, reporter
        self.engine, self.rollouts = engine, rollouts
        self.validation = splits.validation[: config.evaluation.validation_items]
        self.test = splits.test if config.evaluation.run_test else ()
        self.grading = training_sections(config).grading
        self.pass_threshold = self.grading.pass_threshold
        self.reports: dict[str, EvalReport] = {}
        self.watched: dict[str, HoldoutReport] = {}
        self.ranks = ranks or Ranks()
        self.selection = Selection(run.checkpoint_path(""), config.checkpoint.keep_best, ranks)
        self.holdouts = HoldoutHistory(1 - config.ppo.guards.max_ungraded_fraction)
        self.newest = BASELINE
        self.watched_rollouts: list[Rollout] = []
        self.versions = engine.grader_versions
        self.evidence: dict[str, Any] = {}  # the graders that all of selection and holdouts rests on

    @property
    def best_step(self) -> int:
        """The step whose weights are the best ones; 0 is the baseline."""
        return self.selection.best.step if self.selection.best else 0

    @property
    def best_path(self) -> Path:
        return self.selection.best_path

    async def measure(self, name: str, tasks: tuple[Task, ...], samples: int, *, step: int) -> list[Rollout]:
        """Evaluate the current weights, those of `step`, keeping report and rollouts under `name`; returns the latter.

        Raises:
            Outage: too much of it has no grade, and the endpoints did not recover.
        """
        report, rollouts = await evaluate(
            self.rollouts,
            tasks,
            samples_per_item=samples,
            pass_threshold=self.pass_threshold,
            name=name,
            seed=f"{self.config.seed}/{name.split('-')[0]}",
        )
        self.run.keep_rollouts(name, rollouts, self.reporter.message)
        self.run.write_json(f"{EVALUATIONS}/{name}.json", report.to_record())
        self.reports[name] = report
        self.watched[name] = seen = watched(rollouts, self.grading, step=step)
        calls = f"{report.mean('tool_calls'):.1f} calls per episode"
        shown = f", hold-out {seen.score:.3f}" if self.grading.holdout else ""
        self.reporter.message(f"{name}: reward {report.reward:.3f}{shown}, {calls}")
        if not name.startswith("test"):  # whoever reads the test split tunes on it
            self._put_aside(name, rollouts)
        return rollouts

    def _put_aside(self, name: str, rollouts: list[Rollout]) -> None:
        """The episodes that a person should look at; a run goes on without them where the disk refuses."""
        entries = audit_queue(rollouts, self.grading, seed=f"{self.config.seed}/{name}")
        with suppress(OSError):
            self.ranks.on_first(lambda: write_audit_queue(self.run.path, name, entries))

    async def measure_baseline(self) -> None:
        self.reporter.phase("evaluating the baseline on validation")
        evaluation = self.config.evaluation
        rollouts = await self.measure(BASELINE, self.validation, evaluation.samples_per_item, step=0)
        # Later evaluations take fewer samples an item: the bar for them is set by as many, drawn with the same seeds.
        first = [rollout for rollout in rollouts if rollout.sample_index < evaluation.periodic_samples_per_item]
        seen = watched(first, self.grading, step=0)
        if self.grading.holdout and not self.holdouts.is_usable(seen):
            raise TrainingStopped(HOLDOUT_MISSING, describe_missing(seen, first))
        self.holdouts.observe(seen)
        self.evidence = self._graders(self.reports[BASELINE])
        self.keep_best(evaluate_rollouts(first, pass_threshold=self.pass_threshold, name=BASELINE), seen)

    async def measure_step(self, step: int) -> dict[str, float]:
        """Validation after a step: its figures for the step's line of metrics."""
        started, name = time.monotonic(), f"validation-{step:06d}"
        samples = self.config.evaluation.periodic_samples_per_item
        rollouts = await self.measure(name, self.validation, samples, step=step)
        report, seen, self.newest = self.reports[name], self.watched[name], name
        if not self.evidence and not self.grading.holdout:  # a checkpoint from before graders were noted
            self.evidence = self._graders(report)
        if report.items and self.evidence != (graders := self._graders(report)):
            self.reporter.message(f"{name}: other graders than before, so earlier evaluations choose no checkpoint")
            self.evidence = graders
            self.holdouts.forget()
            self.selection.forget()
        self.watched_rollouts = rollouts if self.grading.holdout else []
        figures = self.holdouts.observe(seen) if self.grading.holdout else {}
        self.keep_best(report, seen)
        low, high = report.reward_interval or (report.reward, report.reward)
        return {
            "reward_validation": report.reward,
            "reward_validation_low": low,
            "reward_validation_high": high,
            **figures,
            **grade_metrics(rollouts, "_validation"),
            "seconds_evaluation": time.monotonic() - started,
        }

    def keep_best(self, report: EvalReport, seen: HoldoutReport) -> None:
        """Keep the current weights if validation says that they are among the best, and enough of it has a grade."""
        n_missing, limit = report.n_items_ungraded, self.config.ppo.guards.max_ungraded_fraction
        if n_missing > limit * (report.n_items + n_missing):
            self.reporter.message(f"{report.name}: {n_missing} items have no grade, so it chooses no checkpoint")
        elif not self.grading.holdout:
            self.selection.offer(self.policy, Ranked(seen.step, report.reward))
        elif not self.holdouts.is_usable(seen):
            covered = f"hold-outs graded {seen.coverage:.0%} of the rollouts"
            self.reporter.message(f"{report.name}: {covered}, so it chooses no checkpoint")
        else:
            self.selection.offer(self.policy, Ranked(seen.step, report.reward, seen.score))

    def _graders(self, report: EvalReport) -> dict[str, Any]:
        """Who graded an evaluation: figures of different graders are never compared."""
        return {**self.versions, "told": list(report.grader_versions)}

    async def measure_result(self, step: int, *, is_final_whole: bool) -> None:
        """The last and the best policy on validation, baseline and best once on test.

        Args:
            is_final_whole: the current weights are those that were measured after `step`.
        """
        self.reporter.phase("evaluating the result")
        samples, reports = self.config.evaluation.samples_per_item, self.reports
        is_outdated = bool(self.evidence) and self._graders(reports[BASELINE]) != self.evidence
        reports[FINAL] = reports[BEST] = reports[BASELINE]
        if step:
            await self.measure(FINAL, self.validation, samples, step=step)
        if self.best_step == step and is_final_whole:
            reports[BEST] = reports[FINAL]
        elif self.best_step:
            await self._load(self.best_path, self.best_step)
            await self.measure(BEST, self.validation, samples, step=self.best_step)
        if step and is_outdated:
            self.reporter.message("the graders have changed since the baseline was measured: measuring it again")
            await self._load(check_baseline(self.config.workflow.baseline), 0)
            await self.measure(BASELINE, self.validation, samples, step=0)
        if self.test:
            await self._measure_test(self.config.evaluation.test_samples_per_item)

    async def _measure_test(self, samples: int) -> None:
        """The test split's one use."""
        await self._load(check_baseline(self.config.workflow.baseline), 0)
        await self.measure(TEST_BASELINE, self.test, samples, step=0)
        self.reports[TEST_BEST] = self.reports[TEST_BASELINE]
        if self.best_step:
            await self._load(self.best_path, self.best_step)
            await self.measure(TEST_BEST, self.test, samples, step=self.best_step)

    async def _load(self, folder: Path, step: int) -> None:
        """Put the weights of a step into the policy; after training only, as the optimiser's state stays."""
        load_weights(folder, self.policy)
        self.policy.version = step
        await self.engine.sync(self.policy)

    def describe(self, rollouts: list[Rollout]) -> dict[str, float]:
        """What a training step's rollouts looked like, for metrics.jsonl."""
        report = evaluate_rollouts(rollouts, pass_threshold=self.pass_threshold, tools=self.engine.tools)
        tools = {f"tool_calls_{tool}": report.mean(f"tool_calls_{tool}") for tool in report.tools}
        names = ("success_rate", "tool_calls", "output_tokens", "latency_seconds", "same_tool_repeats")
        return {
            "score_train": report.reward,
            **_spread(rollouts),
            **{name: report.mean(name) for name in names},
            **tools,
            **conduct_metrics(rollouts),
            **infrastructure_metrics(rollouts),
            **grade_metrics(rollouts),
        }

    def suspects(self) -> list[dict[str, Any]]:
        """Of the newest evaluation, the episodes that score furthest above their hold-outs, for stop.json."""
        if not self.grading.holdout:
            return []
        try:
            rollouts = [from_trace(trace) for trace in read_rollouts(self.run.path, self.newest)]
        except (CheckpointError, OSError):  # they could not be written, and the run has said so
            return []
        return [{"file": self.newest, **each} for each in suspects(rollouts, self.grading)]

    def state(self) -> dict[str, Any]:
        """What a checkpoint remembers of the evaluations so far."""
        return {
            "baseline": self.reports[BASELINE].to_record(),
            "best": self.selection.state(),
            "holdouts": self.holdouts.state(),
            "evidence": self.evidence,
            "newest": self.newest,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what an earlier process measured."""
        self.reports[BASELINE] = EvalReport.from_record(state["baseline"])
        self.selection.restore(state["best"])
        if "holdouts" in state:  # else it is from before there were any
            self.holdouts.restore(state["holdouts"])
            self.evidence, self.newest = state["evidence"], state["newest"]

    def summary(self) -> dict[str, Any]:
        """The entries of summary.json that come from evaluations; empty before the first."""
        reports = self.reports
        if BASELINE not in reports:
            return {}
        return {
            "best_chosen_by": "holdout" if self.grading.holdout else "reward",
            **evaluation_summary(
                baseline=reports[BASELINE],
                final=reports.get(FINAL),
                best=reports.get(BEST),
                test_baseline=reports.get(TEST_BASELINE),
                test_best=reports.get(TEST_BEST),
            ),
            **({"holdout": self._holdout_summary()} if self.grading.holdout else {}),
        }

    def _holdout_summary(self) -> dict[str, Any]:
        """What the hold-outs say of baseline, last and best policy; a policy that was not measured again is missing."""
        names = {
            "baseline": BASELINE,
            "final": FINAL,
            "best": BEST,
            "test_baseline": TEST_BASELINE,
            "test_best": TEST_BEST,
        }
        figures = {
            key: self.watched[self.reports[name].name].as_dict()
            for key, name in names.items()
            if name in self.reports and self.reports[name].name in self.watched
        }
        first = self.holdouts.first.as_dict() if self.holdouts.first else None
        return {"names": list(self.grading.holdout_names), **({"baseline": first} if first else {}), **figures}


def _spread(rollouts: list[Rollout]) -> dict[str, float]:
    """How far the scores of a step's rollouts differ; missing where none has a vote."""
    scores = [each.grade.score for each in rollouts if each.is_valid and each.grade.score is not None]
    return {"score_train_std": pstdev(scores)} if scores else {}
