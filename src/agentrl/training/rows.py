"""Do the tasks have what the graders look for? Asked before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from agentrl.config import GradingConfig
from agentrl.data.tasks import Splits
from agentrl.errors import ConfigError
from agentrl.grading.templates import MissingPath, missing_paths
from agentrl.types import Task


def check_rows(grading: GradingConfig, splits: Splits, *, max_missing: float, tell: Callable[[str], None]) -> None:
    """Look every `{{ item.KEY }}` of the graders up in every task; a few missing ones are told.

    Args:
        max_missing: fraction of a split's tasks without a grade that a run would not go on with.

    Raises:
        ConfigError: more of a split's tasks than that could not be graded.
    """
    for name, tasks in (("train", splits.train), ("validation", splits.validation), ("test", splits.test)):
        for grader in (grading.grader, *grading.holdout):
            missing = list(missing_paths(grader, [task.item for task in tasks]))
            rows = {each.row for each in missing}
            if len(rows) > max_missing * len(tasks):
                raise ConfigError(_told(name, tasks, missing))
            if rows:
                tell(f"warning: {_told(name, tasks, missing)}")


def _told(split: str, tasks: Sequence[Task], missing: Sequence[MissingPath]) -> str:
    counts = Counter(each.path for each in missing)
    first = {each.path: each for each in reversed(missing)}
    lines = [
        f"grader {each.grader} reads {path}, which {counts[path]} of {len(tasks)} {split} tasks do not have (first: "
        f"{tasks[each.row - 1].id!r}; its keys: {', '.join(tasks[each.row - 1].item) or 'none'})"
        for path, each in first.items()
    ]
    return "; ".join(lines) + "; such tasks are never graded"
