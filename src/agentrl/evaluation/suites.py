"""Suites: sets of tasks that are frozen, so that what is measured months apart is measured on the same.

NAME.json           name, version, split, tags, and the digest of the tasks
NAME.items.jsonl    the tasks beside it, one a line: {"id": ..., "messages": [...], "item": {...}}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentrl.data.rows import checked_task
from agentrl.data.tasks import Splits
from agentrl.disk import file_digest, write_text
from agentrl.errors import ConfigError
from agentrl.evaluation.paired_files import beside, file_beside, read_record, reading
from agentrl.evaluation.tags import tags_of
from agentrl.runs.files import to_json
from agentrl.strict_json import strict_json
from agentrl.types import Task

FORMAT = "agentrl-suite/1"
KINDS = ("capability", "adversarial", "frozen")
"""What a suite is for: what the agent can do, what it can be led to, or the benchmark that is never changed."""


@dataclass(frozen=True)
class Suite:
    """Frozen tasks."""

    name: str
    version: str
    """Whatever tells it from an earlier one of the same name, such as a date."""
    digest: str
    """sha256 of the file of its tasks."""
    split: str
    """Of the config that it was taken from."""
    source: str = field(repr=False)
    """That config's name."""
    frozen_at: str = field(repr=False)
    """ISO 8601, UTC."""
    tasks: tuple[Task, ...] = field(repr=False)
    kind: str = "capability"
    """One of KINDS."""

    @property
    def tags(self) -> dict[str, int]:
        """Every tag and the number of its items."""
        return dict(sorted(Counter(tag for task in self.tasks for tag in tags_of(task)).items()))

    @property
    def splits(self) -> Splits:
        """As the tasks of a config, of which there are no others."""
        return Splits(train=(), validation=self.tasks)

    def identity(self) -> dict[str, Any]:
        """What an evaluation file keeps of it."""
        return {"name": self.name, "version": self.version, "digest": self.digest, "kind": self.kind}


def freeze_suite(
    path: Path,
    tasks: Sequence[Task],
    *,
    name: str,
    split: str,
    source: str,
    version: str | None = None,
    kind: str = "capability",
) -> Suite:
    """Write a suite. One that is there is never overwritten: results rest on it.

    Args:
        version: None is today's date.
        kind: one of KINDS.

    Raises:
        ConfigError: there are no tasks, a suite of that name, or no such kind.
        OSError: it cannot be written.
    """
    items = items_beside(path)
    if kind not in KINDS:
        raise ConfigError(f"{path}: found kind {kind!r}; allowed: {', '.join(KINDS)}")
    if not tasks:
        raise ConfigError(f"{path}: found no tasks to freeze")
    for file in (path, items):
        if file.exists():
            raise ConfigError(f"{file}: is there already, and a suite is never overwritten; choose another name")
    now = datetime.now(UTC)
    rows = ({"id": task.id, "messages": task.messages, "item": task.item} for task in tasks)
    write_text(items, "".join(json.dumps(row) + "\n" for row in rows))
    suite = Suite(
        name=name,
        version=version or now.date().isoformat(),
        digest=file_digest(items),
        split=split,
        source=source,
        frozen_at=now.isoformat(timespec="seconds"),
        tasks=tuple(tasks),
        kind=kind,
    )
    record = {
        "format": FORMAT,
        **suite.identity(),
        "split": split,
        "source": source,
        "frozen_at": suite.frozen_at,
        "n_items": len(suite.tasks),
        "tags": suite.tags,
        "items": items.name,
    }
    write_text(path, to_json(record, indent=2) + "\n")
    return suite


def items_beside(path: Path) -> Path:
    """Where the tasks of the suite `path` are kept."""
    return beside(path, ".items.jsonl")


def read_suite(path: Path) -> Suite:
    """The inverse of `freeze_suite`.

    Raises:
        ConfigError: it is no suite, or its tasks are not those that were frozen.
    """
    changed = (
        ". What was measured on it before was measured on other tasks: bring the file back, or freeze a suite of "
        "another name"
    )
    with reading(path, "suite"):
        record = read_record(path, FORMAT, "`agentrl suite freeze` writes it")
        items = file_beside(path, record, "items", "digest", changed)
        return Suite(
            **{key: str(record[key]) for key in ("name", "version", "digest", "split", "source", "frozen_at")},
            tasks=_tasks(items),
            kind=_kind(path, record.get("kind", "capability")),  # those from before there were kinds are of this one
        )


def _kind(path: Path, found: Any) -> str:
    if found not in KINDS:
        raise ConfigError(f"{path}: kind: found {found!r:.40}; allowed: {', '.join(KINDS)}")
    return str(found)


def _tasks(path: Path) -> tuple[Task, ...]:
    tasks: dict[str, Task] = {}
    for number, line in enumerate(path.read_text("utf-8").split("\n"), 1):
        if not line:
            continue
        row = strict_json(line)
        if not isinstance(row, Mapping) or not {"id", "messages", "item"} <= row.keys() or row["id"] in tasks:
            raise ConfigError(f"{path}:{number}: found no row with an id of its own, messages and item")
        tasks[row["id"]] = checked_task(Task(row["id"], tuple(row["messages"]), dict(row["item"])))
    return tuple(tasks.values())
