"""The probe itself: open the policy, roll out, ask what else `collect.py` asks, and measure."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.errors import BaselineError
from agentrl.evaluation.contender import BASELINE, Contender, PolicySource, open_contender, served
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.probe.collect import SPLITS, ProbeOptions, Told, choose, grade_again, try_tools
from agentrl.evaluation.probe.measure import Probed, measure
from agentrl.evaluation.probe.planned import Plan, plan
from agentrl.evaluation.probe.report import ProbeReport
from agentrl.evaluation.probe.twins import twins
from agentrl.progress import Reporter, SilentReporter
from agentrl.sizing import model_shape
from agentrl.types import Rollout

Result = TypeVar("Result")


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

    async def work(contender: Contender, base_url: str) -> ProbeReport:
        return (await probe_contender(contender, options, reporter, base_url=base_url))[0]

    return _opened(config, policy, reporter, work)


def probe_and_keep(
    config: RunConfig, *, policy: str | PolicySource, options: ProbeOptions, reporter: Reporter
) -> ProbeResult:
    """As `probe`, with the rollouts; all weights are read once more to tell whose they are."""

    async def work(contender: Contender, base_url: str) -> ProbeResult:
        report, by_split = await probe_contender(contender, options, reporter, base_url=base_url)
        return ProbeResult(report, {split: _evaluation(contender, split, each) for split, each in by_split.items()})

    return _opened(config, policy, reporter, work)


def _opened(
    config: RunConfig,
    policy: str | PolicySource,
    reporter: Reporter,
    work: Callable[[Contender, str], Coroutine[Any, Any, Result]],
) -> Result:
    """What `work` makes of the policy and the address of the config's own servers; both are gone afterwards."""
    source = PolicySource.find(policy) if isinstance(policy, str) else policy

    async def opened(base_url: str) -> Result:
        reporter.phase(f"loading {source.name}")
        async with open_contender(config, source, base_url) as contender:
            return await work(contender, base_url)

    with served(config) as base_url:
        return _from_anywhere(lambda: opened(base_url))


def _from_anywhere(work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run a coroutine to its end, in a thread of its own where an event loop is running already: a notebook's is."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result()


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
    contender: Contender, options: ProbeOptions, reporter: Reporter, *, base_url: str = ""
) -> tuple[ProbeReport, dict[str, list[Rollout]]]:
    """The probe of a policy that is ready to be rolled out, and the rollouts by split."""
    config, started = contender.config, time.monotonic()
    sections = training_sections(config)
    seed = config.seed if options.seed is None else options.seed
    chosen = choose(contender.splits, options, config.evaluation.validation_items, seed)
    tasks = tuple(task for split in chosen.values() for task in split)
    total = len(tasks) * options.samples
    reporter.phase(f"rolling out {len(tasks)} items x {options.samples}")
    tell = Told(reporter, total)
    # all in one call: a batch is as full as it can be. Validation draws what a run's first evaluation draws.
    rollouts = await contender.engine.run(
        tasks, samples_per_task=options.samples, seed=f"{seed}/validation", on_done=lambda _: tell.one()
    )
    seconds = time.monotonic() - started
    again, unrepeated = await grade_again(config, rollouts, options.grades, base_url, reporter)
    leaks = await try_tools(config, tasks, rollouts, base_url, reporter)
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
