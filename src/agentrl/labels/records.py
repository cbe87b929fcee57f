"""A person's judgement of one episode or of two, and an episode that waits for one.

Each is one JSON object a line, with exactly the fields below:
{"rollout_id": "trace_...", "task_id": "q7", "rater": "ana", "score": 0.5, "note": "right, but by luck",
 "labelled_at": "2026-11-21T16:00:00+00:00"}
"""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, TypeVar

PICKED = "picked"
WHY = ("random", "highest", "largest_gap", PICKED)
"""Why an episode is in the queue: an evaluation drew it or ranked it, or a person picked it; joined by commas."""


def now() -> str:
    """The time in ISO 8601, as labels carry it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def whoever_this_is() -> str:
    """The name that somebody is logged in by, empty where there is none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # no such user, as in some containers
        return ""


@dataclass(frozen=True)
class Rating:
    """How good a person finds an episode."""

    rollout_id: str
    task_id: str
    rater: str
    score: float
    """From 0, a failure, to 1."""
    note: str = ""
    labelled_at: str = field(default_factory=now, compare=False)

    def __post_init__(self) -> None:
        _check_texts(self, "rollout_id", "task_id", "rater")
        _check_time(self.labelled_at)
        if not _is_number(self.score) or not 0 <= self.score <= 1:
            raise ValueError(f"found score {self.score!r:.80}; allowed: a number from 0 to 1")

    @property
    def about(self) -> tuple[str, ...]:
        """Two labels about the same by one rater: the later takes the place of the earlier."""
        return self.rater, self.rollout_id


@dataclass(frozen=True)
class Preference:
    """Which of two episodes of one task a person finds better."""

    task_id: str
    chosen: str
    """Id of the better rollout."""
    rejected: str
    rater: str
    note: str = ""
    labelled_at: str = field(default_factory=now, compare=False)

    def __post_init__(self) -> None:
        _check_texts(self, "task_id", "chosen", "rejected", "rater")
        _check_time(self.labelled_at)
        if self.chosen == self.rejected:
            raise ValueError(f"found {self.chosen!r:.80} as chosen and rejected; allowed: two rollouts")

    @property
    def about(self) -> tuple[str, ...]:
        """The same for both orders: who changes their mind has one opinion."""
        return self.rater, *sorted((self.chosen, self.rejected))


@dataclass(frozen=True)
class Withdrawal:
    """A rater takes back what they said of an episode."""

    rollout_id: str
    task_id: str
    rater: str
    withdrawn_at: str = field(default_factory=now, compare=False)

    def __post_init__(self) -> None:
        _check_texts(self, "rollout_id", "task_id", "rater")
        _check_time(self.withdrawn_at, "withdrawn_at")

    @property
    def about(self) -> tuple[str, ...]:
        """That of the rating that counts no more."""
        return self.rater, self.rollout_id


@dataclass(frozen=True)
class Labels:
    """What a file of labels says: of several by one rater about the same, the latest."""

    ratings: tuple[Rating, ...]
    preferences: tuple[Preference, ...]


def mean_ratings(ratings: Iterable[Rating]) -> dict[str, float]:
    """What people said of each rollout: the mean over its raters."""
    scores: dict[str, list[float]] = {}
    for rating in ratings:
        scores.setdefault(rating.rollout_id, []).append(rating.score)
    return {rollout_id: fmean(found) for rollout_id, found in scores.items()}


@dataclass(frozen=True)
class AuditEntry:
    """An episode of an evaluation that a person should look at."""

    rollout_id: str
    task_id: str
    why: str
    """Of `WHY`; several joined by ", "."""
    score: float
    """The grader's."""
    holdout: dict[str, float] = field(default_factory=dict)
    """Scores of the graders that are watched, by name."""
    note: str = ""
    """Of whoever picked it."""

    def __post_init__(self) -> None:
        _check_texts(self, "rollout_id", "task_id")
        if not isinstance(self.why, str) or not set(self.why.split(", ")) <= set(WHY):
            raise ValueError(f"found why {self.why!r:.80}; allowed: {', '.join(WHY)}, or several joined by commas")
        if not _is_number(self.score):
            raise ValueError(f"found score {self.score!r:.80}; allowed: a finite number")
        if not isinstance(self.holdout, dict) or not all(map(_is_number, self.holdout.values())):
            raise ValueError(f"found holdout {self.holdout!r:.80}; allowed: finite numbers by the graders' names")

    @property
    def reason(self) -> str:
        """Why it is in the queue, in words."""
        return self.why.replace("_", " ") + (f": {self.note}" if self.note else "")


Record = TypeVar("Record", Rating, Preference, Withdrawal, AuditEntry)


def from_row(kind: type[Record], row: Mapping[str, Any]) -> Record:
    """The record that a JSON object holds.

    Raises:
        ValueError: what was found; what is allowed.
    """
    known = {each.name: each for each in fields(kind)}
    if unknown := [key for key in row if key not in known]:
        raise ValueError(f"found the unknown key {unknown[0]!r:.80}; allowed: {', '.join(known)}")
    needed = [key for key, each in known.items() if each.default is MISSING and each.default_factory is MISSING]
    if missing := [key for key in needed if key not in row]:
        raise ValueError(f"found no {missing[0]!r} (keys: {', '.join(row) or 'none'}); a {kind.__name__} has it")
    return kind(**row)


def _check_texts(record: Any, *names: str) -> None:
    for name in names:
        value = getattr(record, name)
        if not isinstance(value, str) or not value.strip():
            raise ValueError(f"found {name} {value!r:.80}; allowed: text that is not empty")
    if not isinstance(getattr(record, "note", ""), str):
        raise ValueError(f"found note {record.note!r:.80}; allowed: text")


def _check_time(value: Any, name: str = "labelled_at") -> None:
    try:
        datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise ValueError(
            f"found {name} {value!r:.80}; allowed: a time in ISO 8601, such as 2026-11-21T16:00:00+00:00"
        ) from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
