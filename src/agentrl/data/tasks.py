"""`data:` to tasks: three splits that share nothing, from JSONL files or from a loader function."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.config import DataConfig
from agentrl.config.functions import load_function, working_directory_importable
from agentrl.config.section import did_you_mean
from agentrl.data.overlap import refuse_overlap
from agentrl.data.rows import checked_task, read_tasks
from agentrl.errors import ConfigError
from agentrl.types import Task

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Splits:
    """The tasks of a run."""

    train: tuple[Task, ...] = field(repr=False)
    validation: tuple[Task, ...] = field(repr=False)
    test: tuple[Task, ...] = field(default=(), repr=False)
    """Empty where the config names none."""

    def __str__(self) -> str:
        return ", ".join(f"{len(getattr(self, split))} {split}" for split in SPLITS) + " tasks"

    def digest(self) -> str:
        """`sha256:...` of all tasks as canonical JSON: equal for equal tasks in equal order."""
        splits = {
            split: [{"id": task.id, "messages": task.messages, "item": task.item} for task in getattr(self, split)]
            for split in SPLITS
        }
        text = json.dumps(splits, sort_keys=True, separators=(",", ":"))
        return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"


def load_tasks(config: DataConfig) -> Splits:
    """Read, check and cut the splits. `max_*` keeps the first tasks; the checks see them all.

    Raises:
        ConfigError: a missing, empty or malformed file, an unusable loader, duplicate ids, splits that overlap.
    """
    tasks = _from_loader(config) if config.loader is not None else _from_files(config)
    refuse_overlap(tasks)
    limits = {"train": config.max_train, "validation": config.max_validation, "test": config.max_test}
    return Splits(**{split: tasks.get(split, ())[: limits[split]] for split in SPLITS})


def _from_files(config: DataConfig) -> dict[str, tuple[Task, ...]]:
    files = {"train": config.train, "validation": config.validation, "test": config.test}
    for split in ("train", "validation"):
        if files[split] is None:
            raise ConfigError(f"data.{split}: missing; training needs train and validation tasks")
    return {split: read_tasks(Path(file), split) for split, file in files.items() if file is not None}


def _from_loader(config: DataConfig) -> dict[str, tuple[Task, ...]]:
    where = f"data.loader {config.loader}"
    with working_directory_importable():
        load = load_function("data.loader", str(config.loader))
        try:
            found = load(Path(str(config.path)))
        except ConfigError:
            raise
        except Exception as error:  # a loader is the user's program: it may raise anything
            raise ConfigError(f"{where}: it raised {type(error).__name__}: {error}") from error
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}: found a {type(found).__name__}; allowed: a dict of split to list of Task")
    for split in found:
        if split not in SPLITS:
            hint = did_you_mean(str(split), SPLITS)
            raise ConfigError(f"{where}: found split {split!r}; allowed: {', '.join(SPLITS)}{hint}")
    splits = {split: _checked(found[split], f"{where}: {split}") for split in SPLITS if split in found}
    for split in ("train", "validation"):
        if not splits.get(split):
            raise ConfigError(f"{where}: found no {split} tasks; training needs train and validation tasks")
    return splits


def _checked(tasks: Any, where: str) -> tuple[Task, ...]:
    if not isinstance(tasks, list | tuple):
        raise ConfigError(f"{where}: found a {type(tasks).__name__}; allowed: a list of Task")
    checked: dict[str, Task] = {}
    for index, task in enumerate(tasks):
        try:
            if not isinstance(task, Task):
                raise ValueError(f"found a {type(task).__name__}; allowed: agentrl.types.Task")
            if task.id in checked:
                raise ValueError(f"found id {task.id!r} a second time; ids are unique")
            checked[task.id] = checked_task(task)
        except ValueError as error:
            raise ConfigError(f"{where}[{index}]: {error}") from error
    return tuple(checked.values())
