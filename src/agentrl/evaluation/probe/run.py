"""The probe itself: open the policy, roll out, ask what else `collect.py` asks, and measure."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.errors import BaselineError
from agentrl.evaluation.contender import BASELINE, Contender, PolicySource, with_contender
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.probe.collect import SPLITS, ProbeOptions, choose, grade_again, try_tools
from agentrl.evaluation.probe.measure import Probed, measure
from agentrl.evaluation.probe.planned import Plan, plan
from agentrl.evaluation.probe.report import ProbeReport
from agentrl.evaluation.probe.twins import twins
from agentrl.progress import Reporter, SilentReporter, Tally
from agentrl.sizing import model_shape
from agentrl.types import Rollout


@dataclass(frozen=True)
class ProbeResult:
    """The report, and the rollouts that it is made of as evaluations that `agentrl compare` reads."""

    report: ProbeReport
    evaluations: dict[str, Evaluation] = field(repr=False)
    """By split."""


def probe(
    config: RunConfig,
    *,
    policy: str | PolicySource = BASELINE,
    options: ProbeOptions | None = None,
    reporter: Reporter | None = None,
) -> ProbeReport:
    """Whether a task can be learned, from a few rollouts of a policy; in a notebook, the report draws itself.

    Args:
        policy: `baseline`, a folder of weights, `RUN@best`, or a source such as `PolicySource.of_api(...)`.

    Raises:
        ConfigError: data, endpoints or model do not fit the config.
    """
    options, reporter = options or ProbeOptions(), reporter or SilentReporter()

    async def work(contender: Contender) -> ProbeReport:
        return (await probe_contender(contender, options, reporter))[0]

    return with_contender(config, PolicySource.of(policy), work, reporter=reporter)


def probe_and_keep(
    config: RunConfig, *, policy: str | PolicySource, options: ProbeOptions, reporter: Reporter
) -> ProbeResult:
    """As `probe`, with the rollouts; all weights are read once more to tell whose they are."""

    async def work(contender: Contender) -> ProbeResult:
        report, by_split = await probe_contender(contender, options, reporter)
        return ProbeResult(report, {split: _evaluation(contender, split, each) for split, each in by_split.items()})

    return with_contender(config, PolicySource.of(policy), work, reporter=reporter)


def _evaluation(contender: Contender, split: str, rollouts: Sequence[Rollout]) -> Evaluation:
    tasks = {rollout.task.id: rollout.task for rollout in rollouts}
    return Evaluation(
        name=f"{contender.source.name} on {split}",
        policy=contender.policy,
        conditions=contender.conditions(tuple(tasks.values())),
        pass_threshold=training_sections(contender.config).grading.pass_threshold,
        tools=tuple(contender.engine.tools),
        rollouts=tuple(rollouts),
    )


async def probe_contender(
    contender: Contender, options: ProbeOptions, reporter: Reporter
) -> tuple[ProbeReport, dict[str, list[Rollout]]]:
    """The probe of a policy that is ready to be rolled out, and the rollouts by split."""
    config, started = contender.config, time.monotonic()
    sections = training_sections(config)
    seed = config.seed if options.seed is None else options.seed
    chosen = choose(contender.splits, options, config.evaluation.validation_items, seed)
    tasks = tuple(task for split in chosen.values() for task in split)
    total = len(tasks) * options.samples
    reporter.phase(f"rolling out {len(tasks)} items x {options.samples}")
    # all in one call: a batch is as full as it can be. Validation draws what a run's first evaluation draws.
    rollouts = await contender.engine.run(
        tasks, samples_per_task=options.samples, seed=f"{seed}/validation", on_done=Tally(reporter, total)
    )
    seconds = time.monotonic() - started
    again, unrepeated = await grade_again(config, rollouts, options.grades, contender.base_url, reporter)
    leaks = await try_tools(config, tasks, rollouts, contender.base_url, reporter)
    planned, unplanned = _plan(config, contender.splits, rollouts, seconds, options)
    split_of = {task.id: split for split, found in chosen.items() for task in found}
    by_split = {split: [each for each in rollouts if split_of[each.task.id] == split] for split in SPLITS}
    by_split = {split: found for split, found in by_split.items() if found}
    validation = len(contender.splits.validation)
    report = measure(
        Probed(
            name=config.name,
            policy=contender.source.name,
            splits=by_split,
            samples=options.samples,
            min_score=sections.grading.min_score,
            max_score=sections.grading.max_score,
            pass_threshold=sections.grading.pass_threshold,
            max_lost=config.ppo.guards.max_ungraded_fraction,
            planned_samples=config.ppo.samples_per_task,
            validation_items=min(validation, config.evaluation.validation_items or validation),
            validation_samples=config.evaluation.samples_per_item,
            again=again,
            unrepeated=unrepeated,
            tools=leaks,
            twins=twins(contender.splits.train, contender.splits.validation),
            plan=planned,
            unplanned=unplanned,
            seconds=time.monotonic() - started,
        )
    )
    return report, by_split


def _plan(
    config: RunConfig, splits: Splits, rollouts: Sequence[Rollout], seconds: float, options: ProbeOptions
) -> tuple[Plan | None, str]:
    """The forecast of the run, or why there is none."""
    try:
        shape = model_shape(config.workflow.baseline)
    except BaselineError as error:
        return None, str(error)
    found = plan(
        config,
        shape,
        rollouts,
        seconds=seconds,
        validation=len(splits.validation),
        test=len(splits.test),
        usd_per_hour=options.usd_per_hour,
        trained_tokens_per_second=options.trained_tokens_per_second,
    )
    return found, "" if found else "no rollout has a score"
