"""No task, question or document may serve two splits: what was trained on proves nothing when it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

from agentrl.errors import ConfigError
from agentrl.types import Task

SHOWN = 3


def refuse_overlap(splits: Mapping[str, Sequence[Task]]) -> None:
    """Compare ids, user messages and `item["path"]` between every two splits.

    The same words about two documents are two questions: where both tasks name a document, only that is compared.

    Raises:
        ConfigError: lists the pairs of splits, what they share, how often, and the first offenders.
    """
    if problems := overlaps(splits):
        lines = "".join(f"\n- {problem}" for problem in problems)
        raise ConfigError(f"data: splits overlap; move each task, question and document to one split:{lines}")


def overlaps(splits: Mapping[str, Sequence[Task]]) -> list[str]:
    """What every two splits share, in words; empty where they share nothing."""
    return [
        problem
        for (first, tasks), (second, others) in combinations(splits.items(), 2)
        for problem in _shared(first, tasks, second, others)
    ]


def _shared(first: str, tasks: Sequence[Task], second: str, others: Sequence[Task]) -> Iterator[str]:
    ids = {task.id for task in others}
    yield from _report(first, second, "ids", [f"{task.id!r}" for task in tasks if task.id in ids])

    by_text: dict[str, list[Task]] = {}
    for task in others:
        by_text.setdefault(_user_text(task), []).append(task)
    twins = (
        (task, next((other for other in by_text.get(_user_text(task), ()) if not _differ(task, other)), None))
        for task in tasks
    )
    same_text = [f"{task.id!r} and {other.id!r} ({_user_text(task):.80})" for task, other in twins if other is not None]
    yield from _report(first, second, "user messages", same_text)

    documents = {path: other.id for other in others if (path := _document(other)) is not None}
    same_document = [
        f"{path!r} ({task.id!r} and {documents[path]!r})"
        for task in tasks
        if (path := _document(task)) is not None and path in documents
    ]
    yield from _report(first, second, 'documents (item["path"])', same_document)


def _report(first: str, second: str, what: str, offenders: Sequence[str]) -> Iterator[str]:
    if offenders:
        more = ", ..." if len(offenders) > SHOWN else ""
        count = f"{len(offenders)} task{'s' if len(offenders) > 1 else ''} of {first}"
        yield f"{count} and {second} share {what}: {', '.join(offenders[:SHOWN])}{more}"


def _user_text(task: Task) -> str:
    """All that the user says, blanks made alike."""
    return " ".join(" ".join(message["content"] for message in task.messages if message["role"] == "user").split())


def _document(task: Task) -> str | None:
    path = task.item.get("path")
    return path if isinstance(path, str) else None


def _differ(task: Task, other: Task) -> bool:
    """Both name a document, and not the same one."""
    return None not in (_document(task), _document(other)) and _document(task) != _document(other)
