"""GET /runs/NAME: one run, followed while it trains."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response
from markupsafe import Markup

from agentrl.evaluation.outcome import verdict
from agentrl.ppo.rules import Rule
from agentrl.runs.files import SUMMARY, finite
from agentrl.ui.dependencies import Index, RunName, Shelf
from agentrl.ui.figures import MINUTES, Metrics, MetricsShelf, run_figure, whole_figure
from agentrl.ui.guard_states import GuardState, guard_states, limits_of, rules_of, worst
from agentrl.ui.index import RunRow, RunsIndex
from agentrl.ui.links import run_url
from agentrl.ui.pages.plotting import csv_answer, plot_part
from agentrl.ui.parts import Followed, followed_page, followed_parts, tag, unchanged
from agentrl.ui.plots import OTHER, SECTIONS, Section, find_plot, sections_of
from agentrl.ui.run_files import RunFiles, changed_at, read_run_files, stamp
from agentrl.ui.templating import fragment

router = APIRouter()

RECENT_STEPS = 10
"""Whose mean duration says how long the rest will take."""


@dataclass(frozen=True)
class Shown:
    """A run as it is now."""

    name: str
    row: RunRow
    files: RunFiles
    metrics: Metrics
    rules: tuple[Rule, ...]


@router.get("/runs/{run}")
def show_run(index: Index, shelf: Shelf, name: RunName) -> Response:
    """The page."""
    return followed_page("run.html", run_url(name, "live"), _followed(_read(index, shelf, name), _path(index, name)))


@router.get("/runs/{run}/live")
def live_run(request: Request, index: Index, shelf: Shelf, name: RunName) -> Response:
    """Its parts."""
    etag = tag(stamp(_path(index, name)), _row(index, name))
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return followed_parts(_followed(_read(index, shelf, name), _path(index, name)), etag)


@router.get("/runs/{run}/metrics.csv")
def download(index: Index, shelf: Shelf, name: RunName, plot: str = "") -> Response:
    """The numbers of one plot, or of all metrics.

    Raises:
        HTTPException: 404, there is no such plot.
    """
    _, metrics = read_run(index, shelf, name)
    if not plot:
        return csv_answer(whole_figure(metrics), f"{name}-metrics")
    found = find_plot(plot, metrics.keys)
    if found is None:
        raise HTTPException(404, f"The run has nothing for a plot {plot!r:.100}.")
    return csv_answer(run_figure(found, metrics), f"{name}-{found.name}")


def _path(index: RunsIndex, name: str) -> Path:
    path = index.run_path(name)
    if path is None:  # it went while it was asked for
        raise HTTPException(404, f"There is no run {name!r:.200} any more.")
    return path


def _row(index: RunsIndex, name: str) -> RunRow:
    row = next((each for each in index.runs() if each.name == name), None)
    if row is None:
        raise HTTPException(404, f"There is no run {name!r:.200} any more.")
    return row


def read_run(index: RunsIndex, shelf: MetricsShelf, name: str) -> tuple[RunFiles, Metrics]:
    """Everything that a run has written beside its rollouts."""
    files = read_run_files(_path(index, name))
    return files, shelf.get(name, index.metrics(name), files.baseline)


def _read(index: RunsIndex, shelf: MetricsShelf, name: str) -> Shown:
    files, metrics = read_run(index, shelf, name)
    return Shown(name, _row(index, name), files, metrics, rules_of(files.config))


def _followed(shown: Shown, path: Path) -> Followed:
    changed = changed_at(path)
    stop_rule = str(shown.files.stop.get("rule", "")) if shown.row.state == "stopped" else ""
    states = guard_states(shown.rules, shown.metrics.rows, stop_rule)
    parts = {
        "status": _status(shown, states),
        "guards": _guards(shown, states),
        **_sections(shown),
        "evaluations": fragment("run_evaluations.html", run=shown.name, evaluations=shown.files.evaluations),
        "records": _records(shown),
    }
    return Followed(
        parts,
        said=_said(shown.row),
        progress=_progress(shown.row),
        age_seconds=None if changed is None else max(0.0, time.time() - changed),
        is_live=shown.row.state == "running",
        facts={"run": shown.name, "row": shown.row},
    )


def _progress(row: RunRow) -> str:
    return f"step {row.steps} of {row.planned_steps}" if row.planned_steps else f"step {row.steps}"


def _said(row: RunRow) -> str:
    reward = "" if row.reward_latest is None else f", validation reward {row.reward_latest:.3g}"
    state = "" if row.state == "running" else f" The run is {row.state}."
    return f"{_progress(row).capitalize()}{reward}.{state}"


def _status(shown: Shown, states: Sequence[GuardState]) -> Markup:
    row, files = shown.row, shown.files
    seconds = finite(files.summary.get("wall_seconds")) if row.state != "running" else None
    sentences, unreadable = _sentences(files, row)
    stop = files.stop if row.state != "running" else {}
    return fragment(
        "run_status.html",
        row=row,
        name=str(files.config.get("name") or row.name),
        seed=files.config.get("seed"),
        commit=str(files.manifest.get("git_commit") or "")[:10],
        has_changes=bool(files.manifest.get("git_has_changes")),
        guards=dict(zip(("kind", "text"), worst(states), strict=True)) if states and shown.row.steps else None,
        minutes=None if seconds is None else seconds / 60,
        minutes_left=_minutes_left(shown) if row.state == "running" else None,
        sentences=sentences if row.state != "running" else [],
        stop=stop,
        problems=[*row.problems, *(each for each in files.problems if each not in row.problems), *unreadable],
    )


def _sentences(files: RunFiles, row: RunRow) -> tuple[list[str], list[str]]:
    """What the summary says came of the run; else, why it cannot be read."""
    if not files.summary:
        return [], []
    try:
        return verdict(files.summary, str(row.steps))[1], []
    except (AttributeError, TypeError, ValueError, LookupError, ArithmeticError):
        return [], [f"{SUMMARY} is of another form: what came of the run cannot be told"]


def _minutes_left(shown: Shown) -> float | None:
    """By the mean of the last steps."""
    row = shown.row
    minutes = shown.metrics.curve("", "seconds_update", MINUTES).x[-RECENT_STEPS - 1 :]
    if row.planned_steps is None or row.steps >= row.planned_steps or len(minutes) < 2:
        return None
    return float(minutes[-1] - minutes[0]) / (len(minutes) - 1) * (row.planned_steps - row.steps)


def _guards(shown: Shown, states: Sequence[GuardState]) -> Markup:
    return fragment(
        "run_guards.html", states=states, warnings=shown.files.warnings, has_guards="ppo" in shown.files.config
    )


def _sections(shown: Shown) -> dict[str, Markup]:
    """A part for each section that there can be."""
    found = {section.title: section for section in sections_of(shown.metrics.keys)}
    titles = [*(section.title for section in SECTIONS), OTHER]
    return {
        f"section-{number}": _section(shown, found.get(title), is_folded=title == OTHER and len(found) > 1)
        for number, title in enumerate(titles)
    }


def _section(shown: Shown, section: Section | None, *, is_folded: bool) -> Markup:
    if section is None:
        return Markup("")
    plots = [
        plot_part(
            run_figure(plot, shown.metrics),
            run_url(shown.name, "metrics.csv", plot=plot.name),
            f"{shown.name}-{plot.name}",
            limits_of(shown.rules, plot.rule) if plot.rule else (),
            subject=shown.name if shown.name != "." else str(shown.files.config.get("name") or ""),
        )
        for plot in section.plots
    ]
    return fragment("section.html", title=section.title, plots=plots, is_folded=is_folded)


def _records(shown: Shown) -> Markup:
    def text(record: Any) -> str:
        return json.dumps(record, indent=2, ensure_ascii=False) if record else ""

    records = [
        ("config.yaml", shown.files.config_text),
        ("manifest.json", text(shown.files.manifest)),
        ("summary.json", text(shown.files.summary)),
        ("stop.json", text(shown.files.stop)),
    ]
    csv_url = run_url(shown.name, "metrics.csv")
    return fragment("run_records.html", records=[each for each in records if each[1]], csv_url=csv_url)
