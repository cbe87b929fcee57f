"""What a probe asks besides its rollouts: which items, the same answers graded again, and tools out of turn."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from agentrl.config import RunConfig, training_sections
from agentrl.data.tasks import Splits
from agentrl.errors import ConfigError
from agentrl.evaluation.probe.leaks import ToolLeaks, tool_leaks
from agentrl.grading.build import build_grader
from agentrl.grading.judges.cache import asked_afresh
from agentrl.grading.many import grade_many
from agentrl.grading.submission import Submission
from agentrl.progress import Reporter, Tally
from agentrl.tools.lifecycle import Lifecycle
from agentrl.tools.toolbox import Toolbox
from agentrl.types import Rollout, Task

WHOLE_OUTPUT = 2**20
SPLITS = ("train", "validation")
"""The test split's one use is at the end of a run."""


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

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("grades", 1), ("items", 0), ("train_items", 0)):
            if (found := getattr(self, name)) < least:
                raise ConfigError(f"{name}: found {found}; allowed: at least {least}")
        if not self.items + self.train_items:
            raise ConfigError("items and train_items: found 0 and 0; allowed: at least one item")


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


async def grade_again(
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
    tally = Tally(reporter, (grades - 1) * len(valid))
    again: dict[str, list[float]] = {}
    try:
        with asked_afresh():
            for _ in range(grades - 1):
                found = await grade_many(grader, submissions, at_once=config.rollout.max_concurrent, on_done=tally)
                for rollout, grade in zip(valid, found, strict=True):
                    if grade.score is not None:
                        again.setdefault(rollout.id, []).append(grade.score)
                missing = next((grade.reason for grade in found if grade.score is None), "")
    finally:
        await grader.aclose()
    return again, f"graded again, no answer got a score ({missing})" if not again else ""


async def try_tools(
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
