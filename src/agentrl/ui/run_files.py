"""What a run directory says beside its metrics: config, manifest, summary, warnings, the stop, its evaluations."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from agentrl.evaluation.run_evaluations import told_step
from agentrl.runs.files import CONFIG, EVALUATIONS, MANIFEST, METRICS, STOP, SUMMARY, WARNINGS, finite
from agentrl.runs.plain_values import plain_yaml
from agentrl.ui.figures import Row
from agentrl.ui.index.run_rows import mean_over_items
from agentrl.ui.index.small_files import json_object, read_bytes, read_object

FILES = (MANIFEST, CONFIG, METRICS, SUMMARY, STOP, WARNINGS)
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
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
    config_text = read_bytes(run, CONFIG, problems).decode("utf-8", "replace")
    summary = read_object(run, SUMMARY, problems)
    lines = read_bytes(run, WARNINGS, problems).splitlines()
    warnings = [json_object(line, WARNINGS, problems) for line in lines if line.strip()]
    return RunFiles(
        config_text=config_text,
        config=_config(config_text, problems),
        manifest=read_object(run, MANIFEST, problems),
        summary=summary,
        stop=read_object(run, STOP, problems),
        warnings=[each for each in warnings if each],
        evaluations=_evaluations(run, summary, problems),
        problems=problems,
    )


@lru_cache(128)
def _parsed(text: str) -> Any:
    return plain_yaml(yaml.load(text, LOADER))


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
    found = read_object(path.parents[1], f"{EVALUATIONS}/{path.name}", problems)
    items = found.get("items")
    if not isinstance(items, list):
        return None, "".join(problems)
    interval = found.get("reward_interval")
    ends = [finite(end) for end in interval] if isinstance(interval, list) and len(interval) == 2 else [None, None]
    return (
        EvaluationRow(
            name=path.name.removesuffix(".json"),
            step=None,
            items=len(items),
            samples=found.get("samples_per_item"),
            means={key: mean_over_items(found, key) for key in MEANS},
            interval=(ends[0], ends[1]) if ends[0] is not None and ends[1] is not None else None,
            ungraded=found.get("ungraded"),
        ),
        "",
    )


def _with_interval(key: str, value: Any, interval: tuple[float, float] | None) -> dict[str, Any]:
    ends = dict(zip((f"{key}_low", f"{key}_high"), interval, strict=True)) if interval else {}
    return {key: value, **ends}
