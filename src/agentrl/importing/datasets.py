"""The data of a job: where its files are on this machine, and whether a run here could train on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from agentrl.config.graders import GraderSection
from agentrl.data.overlap import refuse_overlap
from agentrl.data.rows import read_tasks
from agentrl.errors import ConfigError
from agentrl.grading.templates import missing_paths
from agentrl.importing.job import Job
from agentrl.reference_key import names_reference
from agentrl.types import Task

NAMES = {
    "train": ("train.jsonl", "training.jsonl"),
    "validation": ("validation.jsonl", "valid.jsonl", "val.jsonl", "dev.jsonl"),
}
"""What a split's file is called in a folder that has none of the id's name."""
MIN_ROWS = 10
SHOWN = 3


@dataclass(frozen=True)
class DataFiles:
    """The two files of a job, as paths for the config; the tasks of those that are here."""

    paths: dict[str, str]
    tasks: dict[str, tuple[Task, ...]]
    problems: tuple[str, ...]
    """What a training would refuse."""
    missing: tuple[str, ...]
    """Splits whose file is not here."""


def find_data(job: Job, given: Sequence[str]) -> DataFiles:
    """Find and read the files of a job.

    Args:
        given: what `--data` said: folders to look in, and `file-id=path`.

    Raises:
        ConfigError: one of `given` is neither.
    """
    folders, by_id = _given(given)
    ids = {"train": job.training_file, "validation": job.validation_file}
    paths: dict[str, str] = {}
    tasks: dict[str, tuple[Task, ...]] = {}
    problems: list[str] = []
    missing: list[str] = []
    for split, file_id in ids.items():
        found = next((path for path in _places(file_id, split, folders, by_id, job) if path.is_file()), None)
        if found is None:
            missing.append(split)
            name = Path(file_id).name if file_id else ""
            paths[split] = f"data/{name if name.endswith('.jsonl') else f'{name or split}.jsonl'}"
            continue
        paths[split] = str(found)
        try:
            tasks[split] = read_tasks(found, split)
        except ConfigError as error:
            problems.append(str(error))
    if len(tasks) == len(ids):
        try:
            refuse_overlap(tasks)
        except ConfigError as error:
            problems.append(str(error))
    return DataFiles(paths, tasks, tuple(problems), tuple(missing))


def _given(values: Sequence[str]) -> tuple[list[Path], dict[str, Path]]:
    folders, by_id = [], {}
    for value in values:
        file_id, equals, path = value.partition("=")
        if equals and Path(path).is_file():
            by_id[file_id] = Path(path)
        elif Path(value).is_dir():
            folders.append(Path(value))
        else:
            found = f"{path}: no such file" if equals else "no such folder"
            raise ConfigError(
                f"--data {value}: {found}; allowed: a folder, or FILE_ID=FILE, such as file-abc=train.jsonl"
            )
    return folders, by_id


def _places(
    file_id: str | None, split: str, folders: Sequence[Path], by_id: Mapping[str, Path], job: Job
) -> Iterator[Path]:
    """Where a file may be, the surest first."""
    for key in (file_id or split, split):
        if key in by_id:
            yield by_id[key]
    if file_id:
        yield Path(file_id)
        yield Path(job.source).parent / file_id
    for folder in folders:
        if file_id:
            yield from (folder / Path(file_id).name, folder / f"{Path(file_id).name}.jsonl")
        yield from (folder / name for name in NAMES[split])


def unreadable_rows(data: DataFiles, grader: GraderSection) -> Iterator[str]:
    """Rows that lack what the grader's templates read: they would never be graded."""
    for split, tasks in data.tasks.items():
        found = list(islice(missing_paths(grader, (task.item for task in tasks)), SHOWN + 1))
        if found:
            more = ", ..." if len(found) > SHOWN else ""
            yield f"{data.paths[split]}: {', '.join(map(str, found[:SHOWN]))}{more}"


def remarks(data: DataFiles, job: Job) -> Iterator[str]:
    """What may be trained on and should be known."""
    for split, tasks in data.tasks.items():
        path = data.paths[split]
        if len(tasks) < MIN_ROWS:
            yield f"{path}: {len(tasks)} rows; hosted jobs need {MIN_ROWS}, as few teach and measure little"
        if count := sum(any(message["role"] == "system" for message in task.messages) for task in tasks):
            yield f"{path}: {count} rows have a system message, which hosted jobs refuse (developer) and agentrl takes"
    rows = [task.item for tasks in data.tasks.values() for task in tasks]
    yield from _tools_in_rows(rows, job)


def _tools_in_rows(rows: Sequence[Mapping[str, Any]], job: Job) -> Iterator[str]:
    declared = {tool["name"]: tool for tool in job.tools}
    told: set[str] = set()
    elsewhere: set[str] = set()
    holds_headers = False
    for row in rows:
        for tool in row.get("tools") or ():
            name = _name(tool)
            told.add(name)
            holds_headers = holds_headers or "headers" in tool
            if (
                name in declared
                and tool.get("server_url", declared[name]["server_url"]) != declared[name]["server_url"]
            ):
                elsewhere.add(name)
    if strange := sorted(told - declared.keys()):
        yield f"rows describe tools that the job lacks: {', '.join(strange)}; their calls are answered by errors"
    if elsewhere:
        yield f"rows give another server_url for {', '.join(sorted(elsewhere))}; the job's is taken"
    if holds_headers:
        yield "rows hold headers of tools; rows are sent to tools and graders and kept in traces: take the headers out"
    bare = [name for name, tool in declared.items() if name not in told and not tool.get("description")]
    if rows and bare:
        yield (
            f"nothing describes {', '.join(bare)} to the policy: give description and parameters under tools, "
            "`tools` in the rows, or an account of them in the messages"
        )


def _name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    return str((function if isinstance(function, Mapping) else tool).get("name", "?"))


def answer_keys(data: DataFiles) -> list[str]:
    """Keys of the rows whose names say that the answer stands there; tools are sent rows, and may leak it."""
    return sorted({key for tasks in data.tasks.values() for task in tasks for key in task.item if names_reference(key)})
