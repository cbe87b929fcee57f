"""Do the tasks have what the graders look for? Asked before anything is spent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from agentrl.config import GradingConfig
from agentrl.data.tasks import Splits
from agentrl.errors import ConfigError
from agentrl.grading.templates import missing_paths
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
                raise ConfigError(_told(name, tasks, [(each.row, each.path, each.grader) for each in missing]))
            if rows:
                tell(f"warning: {_told(name, tasks, [(each.row, each.path, each.grader) for each in missing])}")


def _told(split: str, tasks: Sequence[Task], missing: Sequence[tuple[int, str, str]]) -> str:
    counts = Counter(path for _, path, _ in missing)
    first = {path: (row, grader) for row, path, grader in reversed(missing)}
    lines = [
        f"grader {grader} reads {path}, which {counts[path]} of {len(tasks)} {split} tasks do not have (first: "
        f"{tasks[row - 1].id!r}; its keys: {', '.join(tasks[row - 1].item) or 'none'})"
        for path, (row, grader) in first.items()
    ]
    return "; ".join(lines) + "; such tasks are never graded"
