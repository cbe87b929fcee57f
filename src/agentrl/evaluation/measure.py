"""What validation and test say of a run's policies, and which of them is best."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.evaluation.compare import evaluation_summary
from agentrl.evaluation.evaluate import evaluate
from agentrl.evaluation.infrastructure import conduct_metrics, infrastructure_metrics
from agentrl.evaluation.metrics import EvalReport, evaluate_rollouts
from agentrl.evaluation.selection import Ranked, Selection
from agentrl.policy.checkpoint import load_weights
from agentrl.policy.policy import Policy, check_baseline
from agentrl.policy.ranks import Ranks
from agentrl.progress import Reporter
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import OutageGuard
from agentrl.rollout.shared import SharedRollouts
from agentrl.runs import RunDirectory
from agentrl.types import Rollout, Task

BASELINE, FINAL, BEST = "validation-baseline", "validation-final", "validation-best"
TEST_BASELINE, TEST_BEST = "test-baseline", "test-best"


class Measurement:
    """The evaluations of one run; each keeps its report and its rollouts in the run directory.

    Attributes:
        selection: the best policies so far, by validation with as many samples an item as evaluations on the way take.
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
        self.pass_threshold = training_sections(config).grading.pass_threshold
        self.reports: dict[str, EvalReport] = {}
        self.selection = Selection(run.checkpoint_path(""), config.checkpoint.keep_best, ranks)

    @property
    def best_step(self) -> int:
        """The step whose weights are the best ones; 0 is the baseline."""
        return self.selection.best.step if self.selection.best else 0

    @property
    def best_path(self) -> Path:
        return self.selection.best_path

    async def measure(self, name: str, tasks: tuple[Task, ...], samples: int) -> list[Rollout]:
        """Evaluate the current weights, keeping report and rollouts under `name`; returns the rollouts.

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
        self.run.write_json(f"evaluations/{name}.json", report.to_record())
        self.reports[name] = report
        self.reporter.message(f"{name}: reward {report.reward:.3f}, {report.mean('tool_calls'):.1f} calls per episode")
        return rollouts

    async def measure_baseline(self) -> None:
        self.reporter.phase("evaluating the baseline on validation")
        evaluation = self.config.evaluation
        rollouts = await self.measure(BASELINE, self.validation, evaluation.samples_per_item)
        # Later evaluations take fewer samples an item: the bar for them is set by as many, drawn with the same seeds.
        first = [rollout for rollout in rollouts if rollout.sample_index < evaluation.periodic_samples_per_item]
        self.keep_best(evaluate_rollouts(first, pass_threshold=self.pass_threshold, name=BASELINE), step=0)

    async def measure_step(self, step: int) -> dict[str, float]:
        """Validation after a step: its figures for the step's line of metrics."""
        started, name = time.monotonic(), f"validation-{step:06d}"
        await self.measure(name, self.validation, self.config.evaluation.periodic_samples_per_item)
        report = self.reports[name]
        self.keep_best(report, step=step)
        low, high = report.reward_interval or (report.reward, report.reward)
        return {
            "reward_validation": report.reward,
            "reward_validation_low": low,
            "reward_validation_high": high,
            "seconds_evaluation": time.monotonic() - started,
        }

    def keep_best(self, report: EvalReport, *, step: int) -> None:
        """Keep the current weights if validation says that they are among the best, and enough of it has a grade."""
        n_missing, limit = report.n_items_ungraded, self.config.ppo.guards.max_ungraded_fraction
        if n_missing > limit * (report.n_items + n_missing):
            self.reporter.message(f"{report.name}: {n_missing} items have no grade, so it chooses no checkpoint")
        else:
            self.selection.offer(self.policy, Ranked(step, report.reward))

    async def measure_result(self, step: int, *, is_final_whole: bool) -> None:
        """The last and the best policy on validation, baseline and best once on test.

        Args:
            is_final_whole: the current weights are those that were measured after `step`.
        """
        self.reporter.phase("evaluating the result")
        samples, reports = self.config.evaluation.samples_per_item, self.reports
        reports[FINAL] = reports[BEST] = reports[BASELINE]
        if step:
            await self.measure(FINAL, self.validation, samples)
        if self.best_step == step and is_final_whole:
            reports[BEST] = reports[FINAL]
        elif self.best_step:
            await self._load(self.best_path, self.best_step)
            await self.measure(BEST, self.validation, samples)
        if self.test:
            await self._measure_test(self.config.evaluation.test_samples_per_item)

    async def _measure_test(self, samples: int) -> None:
        """The test split's one use."""
        await self._load(check_baseline(self.config.workflow.baseline), 0)
        await self.measure(TEST_BASELINE, self.test, samples)
        self.reports[TEST_BEST] = self.reports[TEST_BASELINE]
        if self.best_step:
            await self._load(self.best_path, self.best_step)
            await self.measure(TEST_BEST, self.test, samples)

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
            **{name: report.mean(name) for name in names},
            **tools,
            **conduct_metrics(rollouts),
            **infrastructure_metrics(rollouts),
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint remembers of the evaluations so far."""
        return {"baseline": self.reports[BASELINE].to_record(), "best": self.selection.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what an earlier process measured."""
        self.reports[BASELINE] = EvalReport.from_record(state["baseline"])
        self.selection.restore(state["best"])

    def summary(self) -> dict[str, Any]:
        """The entries of summary.json that come from evaluations; empty before the first."""
        reports = self.reports
        if BASELINE not in reports:
            return {}
        return evaluation_summary(
            baseline=reports[BASELINE],
            final=reports.get(FINAL),
            best=reports.get(BEST),
            test_baseline=reports.get(TEST_BASELINE),
            test_best=reports.get(TEST_BEST),
        )
