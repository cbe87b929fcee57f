"""Any policy on any frozen or configured set of tasks: the rollouts, as an `Evaluation`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import SPLITS, Splits, load_tasks
from agentrl.errors import ConfigError
from agentrl.evaluation.adversarial import is_adversarial
from agentrl.evaluation.adversarial.grader import AttackGrader
from agentrl.evaluation.adversarial.planted_toolbox import PlantedToolbox
from agentrl.evaluation.contamination import contamination, refuse_contamination
from agentrl.evaluation.contender import BASELINE, Contender, PolicySource, with_contender
from agentrl.evaluation.evaluation_files import Evaluation
from agentrl.evaluation.partial import Partial
from agentrl.evaluation.suites import Suite, read_suite
from agentrl.evaluation.tags import tags_of, with_tags
from agentrl.progress import Reporter, SilentReporter, Tally
from agentrl.rollout.outage import OutageGuard
from agentrl.types import Task

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalOptions:
    """What is measured on, and how often."""

    split: str = "validation"
    suite: Path | None = None
    """In place of a split."""
    tags: tuple[str, ...] = ()
    """Only items that have one of them; none is all items."""
    samples: int | None = None
    """Rollouts an item; None is what the config's first and last evaluation take."""
    items: int | None = None
    """The first so many; None is all, of validation `evaluation.validation_items`."""
    seed: int | None = None
    """None is the config's: then two policies draw the same numbers, which makes their comparison sharper."""
    allow_contamination: bool = False
    """Measure on a suite all the same that shares tasks or attacks with the training data; the evaluation says so."""


@dataclass(frozen=True)
class Chosen:
    """The items of a measurement."""

    tasks: tuple[Task, ...]
    splits: Splits
    samples: int
    selection: dict[str, Any]
    """As `Evaluation.selection` keeps it."""


def evaluate_policy(
    config: RunConfig,
    *,
    policy: str | PolicySource = BASELINE,
    options: EvalOptions | None = None,
    reporter: Reporter | None = None,
    keep: Path | None = None,
) -> Evaluation:
    """Roll a policy out as training does: same engine, tools, limits, grader and hold-outs.

    Args:
        policy: `baseline`, a folder of weights, `RUN@best`, or a source such as `PolicySource.of_api(...)`.
        keep: a file for the rollouts while they are made; one of an attempt that was interrupted is gone on with.

    Raises:
        ConfigError: data, endpoints, items or model do not fit.
        BaselineError, CheckpointError: the weights cannot be loaded.
        Outage: too much of it has no grade, and the endpoints did not recover.
    """
    options, reporter = options or EvalOptions(), reporter or SilentReporter()
    source = PolicySource.of(policy)
    chosen = choose(config, options)

    async def work(contender: Contender) -> Evaluation:
        return await _measure(contender, chosen, reporter, keep)

    return with_contender(config, source, work, reporter=reporter, splits=chosen.splits)


def choose(config: RunConfig, options: EvalOptions) -> Chosen:
    """The items that the options mean.

    Raises:
        ConfigError: there are none.
    """
    evaluation, suite, limit = config.evaluation, None, options.items
    shared: list[str] = []
    if options.suite is not None:
        suite = read_suite(options.suite)
        shared = _trained_on(config, suite, is_allowed=options.allow_contamination)
        split, splits, tasks = suite.split, suite.splits, suite.tasks
    else:
        if options.split not in SPLITS:
            raise ConfigError(f"split: found {options.split!r}; allowed: {', '.join(SPLITS)}")
        split, splits = options.split, load_tasks(training_sections(config).data)
        tasks = getattr(splits, split)
        if limit is None and split == "validation":
            limit = evaluation.validation_items
    if not tasks:
        raise ConfigError(f"split {split}: the config's data has no such tasks")
    looked_at = len({tag for task in tasks for tag in tags_of(task)})
    tasks = with_tags(tasks, options.tags)[:limit]
    default = evaluation.test_samples_per_item if split == "test" else evaluation.samples_per_item
    return Chosen(
        tasks=tasks,
        splits=splits,
        samples=default if options.samples is None else options.samples,
        selection={
            "split": split,
            "seed": config.seed if options.seed is None else options.seed,
            "tags": options.tags,
            "tags_looked_at": looked_at,
            "suite": suite and suite.identity(),
            **({"contamination": shared} if shared else {}),
        },
    )


def _trained_on(config: RunConfig, suite: Suite, *, is_allowed: bool) -> list[str]:
    """What a policy of this config was trained on proves nothing when it is measured; a suite of train tasks says so.

    Raises:
        ConfigError: suite and training tasks share a task, a question, a document or an attack, and it is not allowed.
    """
    if suite.split == "train":
        return []
    try:
        train = load_tasks(training_sections(config).data).train
    except ConfigError as error:  # a suite outlives the data that it was taken from
        logger.warning("suite %s: not held against the config's training tasks: %s", suite.name, error)
        return []
    if not is_allowed:
        refuse_contamination(suite, train)
        return []
    return contamination(suite, train)


async def _measure(contender: Contender, chosen: Chosen, reporter: Reporter, keep: Path | None) -> Evaluation:
    config, total = contender.config, len(chosen.tasks) * chosen.samples
    are_attacks = all(map(is_adversarial, chosen.tasks))
    if any(map(is_adversarial, chosen.tasks)):
        max_chars = config.rollout.max_tool_output_chars
        contender.engine.surround(
            lambda tools: PlantedToolbox(tools, chosen.tasks, max_output_chars=max_chars), AttackGrader
        )
    conditions = contender.conditions(chosen.tasks)
    identity = {key: value for key, value in contender.policy.items() if key != "served"}
    seed = f"{chosen.selection['seed']}/{chosen.selection['split']}"  # as a run draws it
    partial = Partial(contender.engine, keep, {"policy": identity, "conditions": conditions, "seed": seed})
    try:
        if partial.kept:
            reporter.message(f"going on with {len(partial.kept)} rollouts of {keep}")
        reporter.phase(f"rolling out {len(chosen.tasks)} items x {chosen.samples}")
        guard = OutageGuard(
            partial,
            max_lost_fraction=config.ppo.guards.max_ungraded_fraction,
            max_outage_seconds=config.ppo.guards.max_outage_seconds,
            tell=reporter.message,
        )
        rollouts = await guard.run(
            chosen.tasks,
            samples_per_task=chosen.samples,
            seed=seed,
            on_done=Tally(reporter, total, done=len(partial.kept)),
            is_watched=not are_attacks,  # hold-outs are there for success, of which attacks say nothing
        )
    finally:
        partial.close()
    return Evaluation(
        name=str(contender.policy["name"]),
        policy=contender.policy,
        conditions=conditions,
        pass_threshold=1.0 if are_attacks else training_sections(config).grading.pass_threshold,
        tools=contender.engine.tools,
        rollouts=tuple(rollouts),
        selection=chosen.selection,
    )
