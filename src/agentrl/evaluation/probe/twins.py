"""Do the splits share questions? Equal ones are refused when data is read; these are the nearly equal ones."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentrl.types import Task

SIMILAR = 0.8
"""Share of runs of three words that two questions have in common, of those that one of them has (Jaccard)."""
COMMON = 200
"""A run of words in more questions than this says nothing about any of them."""
WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Twins:
    """Questions of validation that training nearly asks, too."""

    pairs: tuple[tuple[str, str], ...]
    """(validation id, training id); equal questions are refused when the data is read."""
    n_validation: int


def twins(train: Sequence[Task], validation: Sequence[Task]) -> Twins:
    """Questions with the same words, or nearly; two of different documents (`item["path"]`) are two questions."""
    runs = {task.id: _runs(task) for task in (*train, *validation)}
    by_run: dict[Any, list[Task]] = {}
    for task in train:
        for run in runs[task.id]:
            by_run.setdefault(run, []).append(task)
    return Twins(tuple(_pairs(validation, by_run, runs)), len(validation))


def _pairs(
    validation: Sequence[Task], by_run: Mapping[Any, Sequence[Task]], runs: Mapping[str, frozenset[Any]]
) -> Iterator[tuple[str, str]]:
    for task in validation:
        candidates = {
            other.id: other
            for run in runs[task.id]
            if len(by_run.get(run, ())) <= COMMON
            for other in by_run.get(run, ())
        }
        for other in candidates.values():
            mine, theirs = runs[task.id], runs[other.id]
            is_similar = len(mine & theirs) >= SIMILAR * len(mine | theirs)
            if is_similar and _numbers(task) == _numbers(other) and not _two_documents(task, other):
                yield task.id, other.id
                break


def _runs(task: Task) -> frozenset[Any]:
    """Runs of three words; all words of what is shorter."""
    words = _words(task)
    return frozenset(tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2)))


def _numbers(task: Task) -> Counter[str]:
    return Counter(word for word in _words(task) if any(map(str.isdigit, word)))


def _words(task: Task) -> list[str]:
    said = " ".join(str(message.get("content") or "") for message in task.messages if message["role"] == "user")
    return WORD.findall(said.casefold())


def _two_documents(task: Task, other: Task) -> bool:
    paths = task.item.get("path"), other.item.get("path")
    return all(isinstance(path, str) for path in paths) and paths[0] != paths[1]
