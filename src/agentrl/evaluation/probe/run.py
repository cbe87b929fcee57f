"""The probe itself: roll out, grade again, try the tools, and measure. The only file here that calls anything."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.errors import BaselineError, ConfigError
from agentrl.evaluation.contender import BASELINE, Contender, PolicySource, open_contender, served
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.probe.leaks import ToolLeaks, tool_leaks, twins
from agentrl.evaluation.probe.measure import Probed, measure
from agentrl.evaluation.probe.planned import Plan, plan
from agentrl.evaluation.probe.report import ProbeReport
from agentrl.grading.build import build_grader
from agentrl.grading.judges.cache import asked_afresh
from agentrl.grading.many import grade_many
from agentrl.grading.submission import Submission
from agentrl.progress import Reporter, SilentReporter
from agentrl.sizing import model_shape
from agentrl.tools.lifecycle import Lifecycle
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Rollout, Task

Result = TypeVar("Result")
WHOLE_OUTPUT = 2**20
SPLITS = ("train", "validation")
"""The test split's one use is at the end of a run."""
TOLD = 5
"""Times that a part of the work says how far it is."""


@dataclass(frozen=True)
class ProbeOptions:
    """How much is asked."""

    samples: int = 3
    """Rollouts of each item."""
    items: int = 50
    """Validation items, drawn by the seed."""
    train_items: int = 50
    grades: int = 3
    """Of each answer, the first included; 1 leaves open whether the grader agrees with itself."""
    seed: int | None = None
    """None is the config's. Validation rollouts of a run's own seed are those that it starts from."""
    usd_per_hour: float = 0.0
    """Of the machine that will train."""
    trained_tokens_per_second: float | None = None
    """Of the update; None is a round number."""


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
    """The probe of a policy that is ready to be rolled out, and the rollouts by split.

    Raises:
        ConfigError: no item was asked for.
    """
    config, started = contender.config, time.monotonic()
    sections = training_sections(config)
    seed = config.seed if options.seed is None else options.seed
    chosen = choose(contender.splits, options, config.evaluation.validation_items, seed)
    tasks = tuple(task for split in chosen.values() for task in split)
    if not tasks:
        raise ConfigError("--items and --train-items: found 0 and 0; allowed: at least one item")
    total = len(tasks) * options.samples
    reporter.phase(f"rolling out {len(tasks)} items x {options.samples}")
    tell = _Told(reporter, total)
    # all in one call: a batch is as full as it can be. Validation draws what a run's first evaluation draws.
    rollouts = await contender.engine.run(
        tasks, samples_per_task=options.samples, seed=f"{seed}/validation", on_done=lambda _: tell.one()
    )
    seconds = time.monotonic() - started
    again, unrepeated = await _grade_again(config, rollouts, options.grades, base_url, reporter)
    leaks = await _try_tools(config, tasks, rollouts, base_url, reporter)
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


def choose(
    splits: Splits, options: ProbeOptions, validation_items: int | None, seed: object
) -> dict[str, tuple[Task, ...]]:
    """The items of each split, drawn at random: the first ones of a file may be its easy ones.

    Args:
        validation_items: that a run evaluates on, the first ones; the others are left alone here, too.
    """
    pools = {"train": splits.train, "validation": splits.validation[:validation_items]}
    wanted = {"train": options.train_items, "validation": options.items}
    found = {}
    for split in SPLITS:
        pool, n_items = pools[split], min(wanted[split], len(pools[split]))
        places = sorted(random.Random(f"{seed}/probe/{split}").sample(range(len(pool)), n_items))
        found[split] = tuple(pool[place] for place in places)
    return found


async def _grade_again(
    config: RunConfig, rollouts: Sequence[Rollout], grades: int, base_url: str, reporter: Reporter
) -> tuple[dict[str, list[float]], str]:
    """Further scores by rollout id, past every cache, and why there are none where there are none."""
    sections = training_sections(config)
    valid = [each for each in rollouts if each.is_valid]
    if grades < 2:
        return {}, "answers were graded once (--grades 1)"
    if sections.tools.lifecycle is not None and sections.grading.endpoints:
        return {}, "the grader may look into the sandbox of an episode, and that is closed by then"
    if not valid:
        return {}, "no rollout has a score"
    reporter.phase(f"grading {len(valid)} answers {grades - 1} more times")
    grader = build_grader(sections.grading, base_url)
    submissions = [Submission.of_rollout(each) for each in valid]
    tell = _Told(reporter, (grades - 1) * len(valid))
    again: dict[str, list[float]] = {}
    try:
        with asked_afresh():
            for _ in range(grades - 1):
                found = await grade_many(
                    grader, submissions, at_once=config.rollout.max_concurrent, on_done=lambda _: tell.one()
                )
                for rollout, grade in zip(valid, found, strict=True):
                    if grade.score is not None:
                        again.setdefault(rollout.id, []).append(grade.score)
                missing = next((grade.reason for grade in found if grade.score is None), "")
    finally:
        await grader.aclose()
    return again, f"graded again, no answer got a score ({missing})" if not again else ""


async def _try_tools(
    config: RunConfig, tasks: Sequence[Task], rollouts: Sequence[Rollout], base_url: str, reporter: Reporter
) -> ToolLeaks:
    sections = training_sections(config)
    reporter.phase("asking the tools for answers that they should not know")
    toolbox = Toolbox.from_config(sections.tools, base_url, max_output_chars=WHOLE_OUTPUT)
    lifecycle = Lifecycle.from_config(sections.tools, base_url)
    try:
        return await tool_leaks(toolbox, tasks, rollouts, config=sections.tools, lifecycle=lifecycle)
    finally:
        await toolbox.aclose()
        if lifecycle is not None:
            await lifecycle.aclose()


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


class _Told:
    """Counts what is done, and says so a few times."""

    def __init__(self, reporter: Reporter, total: int) -> None:
        self._reporter, self._total, self._done = reporter, total, 0
        self._every = max(1, math.ceil(total / TOLD))

    def one(self) -> None:
        self._done += 1
        if self._done in (1, self._total) or self._done % self._every == 0:
            self._reporter.step(self._done, self._total, {})
