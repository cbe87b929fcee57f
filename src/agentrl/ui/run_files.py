"""What a run directory says beside its metrics: config, manifest, summary, warnings, the stop, its evaluations."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count, repeat
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from agentrl.evaluation.evaluation_files import told_step
from agentrl.evaluation.outcome import finite
from agentrl.runs.files import CONFIG, MANIFEST, METRICS, SUMMARY
from agentrl.ui.figures import Row
from agentrl.ui.index.places import open_plain

STOP, WARNINGS, EVALUATIONS = "stop.json", "warnings.jsonl", "evaluations"
FILES = (MANIFEST, CONFIG, METRICS, SUMMARY, STOP, WARNINGS)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
MAX_BYTES = 1 << 25
"""Of one of these files."""
MAX_KEYS, MAX_DEPTH = 100_000, 50
"""Of a config: YAML's aliases make a small file a large one."""
MEANS = ("reward", "success_rate", "tool_calls", "output_tokens", "latency_seconds")


@dataclass(frozen=True)
class EvaluationRow:
    """One evaluation of a run: means in which every item has one vote."""

    name: str
    """Of its file of rollouts, such as validation-000005."""
    step: int | None
    items: int
    samples: Any
    means: Mapping[str, float | None]
    interval: tuple[float, float] | None
    """Of the reward, 95 %."""
    ungraded: Any


@dataclass(frozen=True)
class RunFiles:
    """As they were when they were read; empty where a run has none, or none that can be read."""

    config_text: str
    config: Mapping[str, Any]
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]
    stop: Mapping[str, Any]
    warnings: Sequence[Mapping[str, Any]]
    evaluations: Sequence[EvaluationRow]
    problems: Sequence[str]
    """Of files that cannot be read."""

    @property
    def baseline(self) -> Row | None:
        """The baseline's validation as a row of metrics, so that curves show where they start."""
        row: dict[str, Any] = {}
        for each in self.evaluations:
            if each.name == "validation-baseline" and each.means["reward"] is not None:
                row = _with_interval("reward_validation", each.means["reward"], each.interval)
        holdout = self.summary.get("holdout")
        watched = holdout.get("baseline") if isinstance(holdout, dict) else None
        if isinstance(watched, dict) and finite(watched.get("score")) is not None:
            low, high = finite(watched.get("low")), finite(watched.get("high"))
            interval = (low, high) if low is not None and high is not None else None
            row |= _with_interval("holdout_score_validation", watched["score"], interval)
            row["holdout_gap_validation"] = watched.get("gap")
        return row or None


def stamp(run: Path) -> str:
    """Another text whenever one of the files may have changed."""
    found: list[object] = []
    for path in (*(run / name for name in FILES), run / EVALUATIONS):
        try:
            facts = path.lstat()
            found.append((facts.st_ino, facts.st_size, facts.st_mtime_ns))
        except OSError:
            found.append(None)
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


def changed_at(run: Path) -> float | None:
    """When the run last wrote one of the files, in seconds since 1970."""
    times = []
    for name in FILES:
        try:
            times.append((run / name).lstat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def read_run_files(run: Path) -> RunFiles:
    """All of them; what is damaged is named in `problems` and left out."""
    problems: list[str] = []
    config_text = _text(run, CONFIG, problems)
    summary = _object(_text(run, SUMMARY, problems), SUMMARY, problems)
    lines = _text(run, WARNINGS, problems).splitlines()
    warnings = [_object(line, WARNINGS, problems) for line in lines if line.strip()]
    return RunFiles(
        config_text=config_text,
        config=_config(config_text, problems),
        manifest=_object(_text(run, MANIFEST, problems), MANIFEST, problems),
        summary=summary,
        stop=_object(_text(run, STOP, problems), STOP, problems),
        warnings=[each for each in warnings if each],
        evaluations=_evaluations(run, summary, problems),
        problems=problems,
    )


def _text(run: Path, name: str, problems: list[str]) -> str:
    try:
        with open_plain(run / name) as file:
            text = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return ""
    except OSError as error:
        problems.append(f"{name} cannot be read: {error.strerror or error}")
        return ""
    if len(text) > MAX_BYTES:
        problems.append(f"{name} is larger than {MAX_BYTES >> 20} MB and not shown")
        return ""
    return text.decode("utf-8", "replace")


def _object(text: str, name: str, problems: list[str]) -> dict[str, Any]:
    if not text:
        return {}
    try:
        found = _plain(json.loads(text), MAX_DEPTH, repeat(1))
    except (ValueError, RecursionError) as error:
        problems.append(f"{name} is damaged: {error}")
        return {}
    if not isinstance(found, dict):
        problems.append(f"{name} is no JSON object")
        return {}
    return found


@lru_cache(128)
def _parsed(text: str) -> Any:
    return _plain(yaml.load(text, LOADER), MAX_DEPTH, count(1))


def _plain(value: Any, depth: int, keys: Iterator[int]) -> Any:
    """The value with texts for keys, as JSON has it.

    Raises:
        ValueError: it is larger than any config.
    """
    if not depth or next(keys) > MAX_KEYS:
        raise ValueError(f"it has more than {MAX_KEYS:,} keys, or {MAX_DEPTH} within each other")
    if isinstance(value, dict):
        return {str(key): _plain(each, depth - 1, keys) for key, each in value.items()}
    return [_plain(each, depth - 1, keys) for each in value] if isinstance(value, list) else value


def _config(text: str, problems: list[str]) -> dict[str, Any]:
    try:
        found = _parsed(text)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        problems.append(f"{CONFIG} is damaged: {error}")
        return {}
    return found if isinstance(found, dict) else {}


def _evaluations(run: Path, summary: Mapping[str, Any], problems: list[str]) -> list[EvaluationRow]:
    """In the order of their splits and steps."""
    folder, found = run / EVALUATIONS, []
    try:
        names = [] if folder.is_symlink() else sorted(name for name in os.listdir(folder) if name.endswith(".json"))
    except OSError:
        names = []
    for name in names:
        try:
            facts = (folder / name).lstat()
        except OSError:
            continue
        row, problem = _evaluation(folder / name, facts.st_ino, facts.st_mtime_ns, facts.st_size)
        if row:
            try:
                step = told_step(row.name, summary)
            except (TypeError, ValueError, OverflowError):  # the summary holds no number there
                step = None
            found.append((step, row))
        problems += [problem] * bool(problem)
    rows = [replace(row, step=step) for step, row in found]
    return sorted(rows, key=lambda row: (row.name.split("-")[0] != "validation", row.step is None, row.step or 0))


@lru_cache(4096)
def _evaluation(path: Path, *stamp: int) -> tuple[EvaluationRow | None, str]:
    """Without its step, which the summary may change; kept as long as the file is the same one."""
    del stamp
    problems: list[str] = []
    found = _object(_text(path.parent, path.name, problems), f"{EVALUATIONS}/{path.name}", problems)
    items = found.get("items")
    if not isinstance(items, list):
        return None, "".join(problems)
    means = {key: _mean([item.get(key) for item in items if isinstance(item, dict)]) for key in MEANS}
    interval = found.get("reward_interval")
    ends = [finite(end) for end in interval] if isinstance(interval, list) and len(interval) == 2 else [None, None]
    return (
        EvaluationRow(
            name=path.name.removesuffix(".json"),
            step=None,
            items=len(items),
            samples=found.get("samples_per_item"),
            means=means,
            interval=(ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None,
            ungraded=found.get("ungraded"),
        ),
        "",
    )


def _mean(values: Sequence[object]) -> float | None:
    known = [number for value in values if (number := finite(value)) is not None]
    return fmean(known) if known else None


def _with_interval(key: str, value: Any, interval: tuple[float, float] | None) -> dict[str, Any]:
    ends = dict(zip((f"{key}_low", f"{key}_high"), interval, strict=True)) if interval else {}
    return {key: value, **ends}
