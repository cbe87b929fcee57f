"""Tags of tasks: names of subsets that a data set gives its items, to measure on and to compare by."""

from __future__ import annotations

from collections.abc import Sequence

from agentrl.errors import ConfigError
from agentrl.types import Task

TAGS = "tags"
"""Key of a row of the data set: a list of words, or one."""


def tags_of(task: Task) -> tuple[str, ...]:
    """The task's tags, sorted; none where it has none, or something else stands there."""
    found = task.item.get(TAGS)
    words = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    return tuple(sorted({word for word in words if isinstance(word, str) and word}))


def with_tags(tasks: Sequence[Task], tags: Sequence[str]) -> tuple[Task, ...]:
    """The tasks that have one of the tags; all of them where no tag is given.

    Raises:
        ConfigError: no task has such a tag; the message lists those that there are.
    """
    known = sorted({tag for task in tasks for tag in tags_of(task)})
    for tag in tags:
        if tag not in known:
            allowed = ", ".join(known) or "none, as no item has a key `tags`"
            raise ConfigError(f"tag {tag!r}: no item has it; allowed: {allowed}")
    return tuple(task for task in tasks if not tags or {*tags} & {*tags_of(task)})
