"""What is held out: whole tasks and documents, and whatever nearly repeats them, never single pairs.

The same words about two documents are two questions: where both tasks name a document, only that is compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence

from agentrl.errors import ConfigError
from agentrl.reward_model.episodes import Episode, user_text

WORDS = 3
"""Neighbouring words that are compared at once."""
ALIKE = 0.8
"""Share of them that two near-duplicates have in common, of those of either."""
SHOWN = 3


def split(episodes: Sequence[Episode], fraction: float) -> tuple[list[Episode], list[Episode]]:
    """To learn from, and held out: about `fraction` of the groups, always the same ones.

    A group is all that shares a task, a document or nearly the words, directly or through others.
    """
    group = groups(episodes)
    held_out = {name: _chance(name) < fraction for name in set(group.values())}
    learned = [episode for episode in episodes if not held_out[group[episode.task_id]]]
    return learned, [episode for episode in episodes if held_out[group[episode.task_id]]]


def _chance(name: str) -> float:
    """From 0 to 1, by a hash: the same in every call."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:7]) / 2**56


def groups(episodes: Sequence[Episode]) -> dict[str, str]:
    """Task -> the least name of all tasks that it may not be parted from."""
    tasks = {episode.task_id: episode for episode in episodes}
    leader = {task: task for task in tasks}

    def find(task: str) -> str:
        while leader[task] != task:
            leader[task] = leader[leader[task]]
            task = leader[task]
        return task

    def join(one: str, other: str) -> None:
        low, high = sorted((find(one), find(other)))
        leader[high] = low

    first_of: dict[str, str] = {}
    for episode in episodes:
        if episode.document:
            join(first_of.setdefault(episode.document, episode.task_id), episode.task_id)
    for one, other in near_duplicates(list(tasks.values())):
        join(one.task_id, other.task_id)
    return {task: find(task) for task in tasks}


def half(episodes: Sequence[Episode]) -> Callable[[str], bool]:
    """Whether a task is of the first half: a group of tasks is never cut through."""
    group = groups(episodes)
    return lambda task: _chance(f"half {group[task]}") < 0.5


def near_duplicates(episodes: Sequence[Episode]) -> Iterator[tuple[Episode, Episode]]:
    """Every two tasks that ask nearly the same, of which not both name a document."""
    shingled = [(_shingles(user_text(episode)), episode) for episode in episodes]
    holders: dict[str, list[int]] = {}
    for index, (shingles, episode) in enumerate(shingled):
        shared: dict[int, int] = {}
        for shingle in shingles:
            for earlier in holders.get(shingle, ()):
                shared[earlier] = shared.get(earlier, 0) + 1
            holders.setdefault(shingle, []).append(index)
        for earlier, count in shared.items():
            others, other = shingled[earlier]
            if other.document and episode.document:
                continue
            if count >= ALIKE * (len(shingles) + len(others) - count):
                yield other, episode


def _shingles(text: str) -> set[str]:
    words = re.findall(r"\w+", text.lower())
    return (
        {" ".join(words[start : start + WORDS]) for start in range(max(1, len(words) - WORDS + 1))} if words else set()
    )


def refuse_leakage(train: Sequence[Episode], validation: Sequence[Episode]) -> None:
    """What was learned from proves nothing when it is measured.

    Raises:
        ConfigError: both files hold a task, a document, an episode, or nearly the same question.
    """
    of_train = {episode.task_id: episode for episode in train}
    of_validation = {episode.task_id: episode for episode in validation}
    found = {
        "episodes": sorted({episode.id for episode in train} & {episode.id for episode in validation}),
        "tasks": sorted(of_train.keys() & of_validation.keys()),
        "documents": sorted({e.document for e in train if e.document} & {e.document for e in validation}),
    }
    mixed = [*of_train.values(), *(e for task, e in of_validation.items() if task not in of_train)]
    found["near-duplicate questions"] = [
        f"{one.task_id} and {other.task_id} ({user_text(other):.60})"
        for one, other in near_duplicates(mixed)
        if (one.task_id in of_train) != (other.task_id in of_train)
    ]
    if problems := [_shown(what, names) for what, names in found.items() if names]:
        raise ConfigError(
            f"reward_model.validation: the hold-out shares with reward_model.train {'; '.join(problems)}; part them by "
            "task and document, as `agentrl reward-model pairs --validation FILE` does"
        )


def _shown(what: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > SHOWN else ""
    return f"{len(names)} {what}: {', '.join(names[:SHOWN])}{more}"
