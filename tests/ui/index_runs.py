"""Small directories of runs for the index, and the same questions answered by going through every rollout."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

from agentrl.runs.files import to_json
from agentrl.runs.traces import to_trace
from agentrl.types import Rollout
from agentrl.ui.index import EpisodeQuery, Order

CLOCK = 1_700_000_000
"""Seconds of the oldest file."""


def write_run(run: Path, **summary: Any) -> Path:
    """An empty run; with `summary` one that has ended."""
    (run / "rollouts").mkdir(parents=True)
    (run / "manifest.json").write_text(json.dumps({"started_at": "2026-01-02T03:04:05+00:00"}))
    (run / "config.yaml").write_text("name: toy\nrollout:\n  steps: 99\nppo:\n  kl:\n    steps: 98\n  steps: 7\n")
    if summary:
        (run / "summary.json").write_text(json.dumps(summary))
    return run


def write_file(run: Path, name: str, rollouts: Iterable[Rollout | dict[str, Any]], age: int = 0) -> Path:
    """A file of rollouts, or of records as they are; `age` seconds after CLOCK."""
    records = [each if isinstance(each, dict) else to_trace(each) for each in rollouts]
    path = run / "rollouts" / f"{name}.jsonl.gz"
    partial = path.with_suffix(".partial")
    with gzip.open(partial, "wt", encoding="utf-8") as file:
        file.writelines(to_json(record) + "\n" for record in records)
    os.utime(partial, (CLOCK + age, CLOCK + age))
    partial.replace(path)
    return path


@dataclass(frozen=True)
class Known:
    """A rollout, and where a test put it."""

    run: str
    file: str
    line: int
    age: int
    rollout: Rollout

    @property
    def split(self) -> str:
        return self.file.partition("-")[0]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.run, self.file, self.line

    @property
    def names(self) -> list[str]:
        return [call.name for call in self.rollout.tool_calls]

    @property
    def texts(self) -> list[str]:
        turns = self.rollout.turns
        return [
            *(message["content"] for message in self.rollout.task.messages if message["role"] != "system"),
            *(turn.text for turn in turns),
            *(text for call in self.rollout.tool_calls for text in (call.name, call.arguments)),
            *(result.output for turn in turns for result in turn.tool_results),
            *(self.rollout.answer, self.rollout.error, self.rollout.grade.reason),
        ]


@dataclass(frozen=True)
class Directory:
    """Runs on disk, and what is in them."""

    root: Path
    known: list[Known] = field(repr=False)


def changes(known: Sequence[Known]) -> dict[tuple[str, str], Fraction]:
    """By run and item, last evaluation on validation less the first."""
    scores: dict[tuple[str, str, str], list[Fraction]] = {}
    for each in known:
        score = each.rollout.grade.score
        if each.rollout.is_valid and score is not None:
            scores.setdefault((each.run, each.file, each.rollout.task.id), []).append(Fraction(score))
    files = {(run, file) for run, file, _ in scores} | {(each.run, each.file) for each in known}
    found = {}
    for run, _, item in scores:
        steps = sorted(
            file for owner, file in files if owner == run and file[:11] == "validation-" and file[11:].isdigit()
        )
        there = [name for name in ("validation-best", "validation-final", *steps[::-1]) if (run, name) in files]
        before = scores.get((run, "validation-baseline", item))
        after = scores.get((run, there[0], item)) if there else None
        if before and after:
            found[run, item] = sum(after) / len(after) - sum(before) / len(before)
    return found


def answer(known: Sequence[Known], query: EpisodeQuery) -> list[Known]:
    """All that match, in order."""
    changed = changes(known)
    wanted = query.contains.encode("utf-8", "replace").decode().casefold()

    def matches(each: Known) -> bool:
        rollout, score = each.rollout, each.rollout.grade.score
        return (
            (not query.runs or each.run in query.runs)
            and query.split in ("", each.split)
            and (not query.without_split or query.without_split != each.split)
            and query.file in ("", each.file)
            and query.task_id in ("", rollout.task.id)
            and query.outcome in ("", rollout.outcome.value)
            and query.failure_class in ("", rollout.failure_class.value if rollout.failure_class else None)
            and (not query.tool or query.tool in each.names)
            and (query.min_score is None or (score is not None and score >= query.min_score))
            and (query.max_score is None or (score is not None and score <= query.max_score))
            and any(wanted in text.casefold() for text in each.texts)
        )

    def rank(each: Known) -> tuple[Any, ...]:
        rollout, score = each.rollout, each.rollout.grade.score
        change = changed.get((each.run, rollout.task.id)) if each.split == "validation" else None
        first = {
            Order.NEWEST: (),
            Order.LOWEST_REWARD: (score is None, score or 0.0),
            Order.HIGHEST_REWARD: (score is None, -(score or 0.0)),
            Order.LARGEST_CHANGE: (change is None, -round(abs(float(change or 0)), 12)),
            Order.LONGEST: (-rollout.output_tokens,),
            Order.SLOWEST: (-rollout.seconds,),
            Order.MOST_CALLS: (-len(each.names),),
            Order.REPEATED_TOOLS: (-sum(before == after for before, after in pairwise(each.names)),),
        }[query.order]
        return (*first, -each.age, each.run, each.file, each.line)

    return sorted(filter(matches, known), key=rank)
