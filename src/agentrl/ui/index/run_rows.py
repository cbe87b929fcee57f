"""The row of a run in the list, from the small files that it writes while it trains."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from agentrl.runs.files import CONFIG, EVALUATIONS, MANIFEST, METRICS, STOP, SUMMARY, finite
from agentrl.ui.index.records import RunRow
from agentrl.ui.index.small_files import read_bytes, read_object

BASELINE = f"{EVALUATIONS}/validation-baseline.json"
INTERRUPTED = "interrupted"

_FILES = (MANIFEST, CONFIG, METRICS, SUMMARY, STOP, BASELINE)
_PLANNED = re.compile(rb"^ppo:\n(?:[ #].*\n|\n)*?  steps: (\d{1,9})\s*$", re.M)  # parsing 100 configs takes 2 s
_VALIDATED = b'"reward_validation"'


@dataclass(frozen=True)
class Counts:
    """Of a run's rollouts, by the index."""

    rollouts: int = 0
    infra_failed: int = 0
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Facts:
    """What the files say, but for who works there now."""

    started_at: str
    steps: int
    planned_steps: int | None
    reward_baseline: float | None
    reward_latest: float | None
    reward_best: float | None
    state: str
    """If no process works there."""
    stopped_by: str
    best_step: int | None
    final_step: int | None
    problems: tuple[str, ...]


class RunFacts:
    """Rows of runs; files are read again when they changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[Any, ...], _Facts]] = {}

    def row(self, name: str, run: Path, counts: Counts, *, is_running: bool) -> RunRow:
        """What is known of one run."""
        facts = self._look(run)
        return RunRow(
            name=name,
            state="running" if is_running else facts.state,
            stopped_by="" if is_running else facts.stopped_by,
            started_at=facts.started_at,
            steps=facts.steps,
            planned_steps=facts.planned_steps,
            reward_baseline=facts.reward_baseline,
            reward_latest=facts.reward_latest,
            reward_best=facts.reward_best,
            rollouts=counts.rollouts,
            infra_failed=counts.infra_failed,
            problems=(*facts.problems, *counts.problems),
        )

    def step_of(self, run: Path, which: str) -> int | None:
        """The step of the `best` or the `final` policy of a run that has ended."""
        facts = self._look(run)
        return {"best": facts.best_step, "final": facts.final_step}.get(which)

    def forget(self, runs: set[Path]) -> None:
        """Keep what is known of these runs only."""
        self._known = {run: known for run, known in self._known.items() if run in runs}

    def _look(self, run: Path) -> _Facts:
        seen = tuple(_stamp(run / file) for file in _FILES)
        known = self._known.get(run)
        if known is None or known[0] != seen:
            known = self._known[run] = (seen, _facts(run))
        return known[1]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = os.lstat(path)
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def _facts(run: Path) -> _Facts:
    problems: list[str] = []
    manifest, summary, stop, baseline = (
        read_object(run, name, problems) for name in (MANIFEST, SUMMARY, STOP, BASELINE)
    )
    rows = list(_told_rows(read_bytes(run, METRICS, problems, max_bytes=None), problems))
    steps = _last_step(rows)
    planned = _PLANNED.search(read_bytes(run, CONFIG, problems))
    validated = [found for row in rows if (found := finite(row.get("reward_validation"))) is not None]
    first = _figure(summary, "baseline")
    if first is None:
        first = mean_over_items(baseline, "reward")
    best = _figure(summary, "best")
    state, stopped_by = _ended(summary, stop, steps)
    return _Facts(
        started_at=_string(manifest.get("started_at")),
        steps=max(steps, _count(summary.get("steps"))),
        planned_steps=int(planned[1]) if planned else None,
        reward_baseline=first,
        reward_latest=validated[-1] if validated else first,
        reward_best=best if best is not None else max([*validated, *([] if first is None else [first])], default=None),
        state=state,
        stopped_by=stopped_by,
        best_step=_whole(summary.get("best_step")),
        final_step=_whole(summary.get("steps")),
        problems=tuple(problems),
    )


def _ended(summary: Mapping[str, Any], stop: Mapping[str, Any], steps: int) -> tuple[str, str]:
    """State and who stopped it, of a run that no process works in.

    A summary of fewer steps than were taken is that of an earlier process; the later one was killed.
    """
    if not summary or steps > _count(summary.get("steps")):
        return (INTERRUPTED, "") if not stop else ("stopped", _string(stop.get("rule")))
    stopped_by = _string(summary.get("stopped_by"))
    if not stopped_by:
        return "finished", ""
    return (INTERRUPTED, "") if stopped_by == INTERRUPTED else ("stopped", stopped_by)


def _told_rows(metrics: bytes, problems: list[str]) -> Iterator[dict[str, Any]]:
    """Of a long file, only the rows that tell of validation, and the last one that is whole."""
    lines = metrics[: metrics.rfind(b"\n") + 1].split(b"\n")[:-1]
    for number, line in enumerate(lines, start=1):
        if number == len(lines) or _VALIDATED in line:
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problems.append(f"{METRICS}:{number} is damaged: {error}")
                continue
            if isinstance(row, dict):
                yield row
            else:
                problems.append(f"{METRICS}:{number} is no JSON object")


def _last_step(rows: Sequence[Mapping[str, Any]]) -> int:
    return _count(rows[-1].get("step")) if rows else 0


def _figure(summary: Mapping[str, Any], name: str) -> float | None:
    part = summary.get(name)
    return finite(part.get("reward")) if isinstance(part, dict) else None


def mean_over_items(evaluation: Mapping[str, Any], key: str) -> float | None:
    """Of what evaluations/NAME.json has for each item; None where it has nothing."""
    items = evaluation.get("items")
    values = [finite(item.get(key)) for item in (items if isinstance(items, list) else ()) if isinstance(item, dict)]
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _count(value: Any) -> int:
    return _whole(value) or 0


def _string(value: Any) -> str:
    return value if isinstance(value, str) else ""
