"""How much of a long story stands on the page: what is left out is counted there, and whole in the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Density:
    """Numbers of rows, and of characters of what people and models wrote."""

    gates: int
    suites: int
    failures: int
    """At most; a language may show fewer."""
    incidents: int
    approvals: int
    log: int
    listed: int
    """Names in a sentence: limits, tools, gates."""
    versions: int
    """Of a part of a bundle, such as graders."""
    reasons: int
    name_chars: int
    version_chars: int
    """Of the name and version of a part of a bundle."""
    text_chars: int
    points: float
    """Size of the type; never below 7.5."""


LEVELS = (
    Density(18, 6, 8, 4, 3, 5, 6, 3, 4, 64, 34, 150, 8.6),
    Density(18, 6, 8, 4, 3, 5, 6, 3, 4, 64, 34, 150, 8.1),
    Density(16, 5, 6, 3, 3, 4, 5, 2, 3, 56, 30, 110, 7.8),
    Density(13, 4, 5, 2, 2, 3, 4, 1, 2, 44, 26, 90, 7.6),
    Density(11, 4, 4, 2, 2, 3, 3, 1, 2, 36, 20, 70, 7.5),
    Density(9, 3, 3, 1, 1, 2, 2, 1, 1, 30, 16, 54, 7.5),
    Density(7, 3, 2, 1, 1, 2, 1, 1, 1, 24, 12, 40, 7.5),
    Density(6, 2, 1, 1, 1, 0, 1, 1, 1, 20, 10, 28, 7.5),
    Density(5, 1, 1, 1, 1, 0, 1, 1, 0, 16, 8, 20, 7.5),
)
"""Tried in this order until everything fits on one page."""
URGENCY = {"fail": 0, "invalid": 1, "inconclusive": 2, "missing": 3, "pass": 4}
STAGES = ("canary", "shadow", "offline_eval", "general")


def head(items: Sequence[T], count: int) -> tuple[list[T], int]:
    """The first of them, and how many are left out."""
    return list(items[:count]), max(0, len(items) - count)


def chosen_gates(rows: Sequence[dict[str, Any]], count: int) -> tuple[list[dict[str, Any]], int]:
    """What stands in the table, in its order: whatever did not pass goes first, and the latest stage before others."""

    def urgency(item: tuple[int, dict[str, Any]]) -> tuple[int, int, int]:
        index, row = item
        stage = STAGES.index(row["stage"]) if row["stage"] in STAGES else len(STAGES)
        return URGENCY.get(row["verdict"], 0), stage, index

    kept = sorted(index for index, _ in sorted(enumerate(rows), key=urgency)[:count])
    return [rows[index] for index in kept], len(rows) - len(kept)


def clipped(text: str, count: int) -> str:
    """At most so many characters; of a longer text the end, too: names often differ there."""
    if len(text) <= count:
        return text
    tail = max(0, count // 3)
    return f"{text[: count - tail - 1].rstrip()}…{text[len(text) - tail :].lstrip()}"
