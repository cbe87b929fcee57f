"""GET /compare?runs=A&runs=B: several runs on one plot for each metric, and how their configs differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request
from fastapi.responses import Response
from markupsafe import Markup

from agentrl.runs.identity import ABSENT, changes
from agentrl.ui.charts import COLOURS, legend_samples
from agentrl.ui.dependencies import Index, Shelf
from agentrl.ui.figures import MINUTES, STEP, Metrics, MetricsShelf, compared_figure
from agentrl.ui.index import RunsIndex
from agentrl.ui.links import name_of_value, run_value, with_query
from agentrl.ui.pages.plotting import csv_answer, plot_part
from agentrl.ui.pages.run import read_run
from agentrl.ui.parts import Followed, followed_page, followed_parts, tag, unchanged
from agentrl.ui.plots import OTHER, SECTIONS, expanded, sections_of
from agentrl.ui.run_files import RunFiles, stamp
from agentrl.ui.templating import fragment, page

router = APIRouter()

MAX_RUNS = COLOURS
Runs = Annotated[list[str], Query()]
X = Literal["step", "minutes"]
MAX_VALUE_CHARS = 300


@router.get("/compare")
def compare(index: Index, shelf: Shelf, runs: Runs = [], x: X = "step") -> Response:  # noqa: B006 FastAPI copies it
    """The page; with fewer than two runs, what to do."""
    names = _names(index, runs)
    if len(names) < 2:
        return page("compare_nothing.html", names=names)
    return followed_page(
        "compare.html",
        with_query("/compare.live", runs=tuple(map(run_value, names)), x=x),
        _followed(index, shelf, names, x),
    )


@router.get("/compare.live")
def live_comparison(request: Request, index: Index, shelf: Shelf, runs: Runs = [], x: X = "step") -> Response:  # noqa: B006
    """Its parts."""
    names = _names(index, runs)
    states = [(row.name, row.state, row.rollouts) for row in index.runs() if row.name in names]
    etag = tag(x, states, [stamp(path) for name in names if (path := index.run_path(name))])
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return followed_parts(_followed(index, shelf, names, x), etag)


@router.get("/compare.csv")
def download(index: Index, shelf: Shelf, key: str, runs: Runs = [], x: X = "step") -> Response:  # noqa: B006
    """The numbers of one plot."""
    metrics = {name: read_run(index, shelf, name)[1] for name in _names(index, runs)}
    return csv_answer(compared_figure(key, metrics, x), f"compare-{key}")


def _names(index: RunsIndex, runs: Sequence[str]) -> list[str]:
    """Each once.

    Raises:
        HTTPException: 404, one of them is not there; 400, they are too many to be told apart.
    """
    names = list(dict.fromkeys(map(name_of_value, runs)))
    for name in names:
        if index.run_path(name) is None:
            raise HTTPException(404, f"There is no run {name!r:.200} here.")
    if len(names) > MAX_RUNS:
        raise HTTPException(400, f"Found {len(names)} runs; at most {MAX_RUNS} can be told apart on a plot.")
    return names


def _followed(index: RunsIndex, shelf: MetricsShelf, names: Sequence[str], x: str) -> Followed:
    read = {name: read_run(index, shelf, name) for name in names}
    rows = {row.name: row for row in index.runs() if row.name in read}
    metrics = {name: found for name, (_, found) in read.items()}
    looks = legend_samples(len(names))
    runs = [(rows.get(name), name, look) for name, look in zip(names, looks, strict=True)]
    lines = differences({name: files for name, (files, _) in read.items()})
    parts = {
        "runs": fragment("compare_runs.html", runs=runs),
        "changes": fragment("compare_changes.html", names=names, lines=lines),
        **_sections(metrics, x),
    }
    is_live = any(row.state == "running" for row in rows.values())
    links = [(each, with_query("/compare", runs=tuple(map(run_value, names)), x=each)) for each in (STEP, MINUTES)]
    return Followed(parts, is_live=is_live, facts={"names": names, "x": x, "links": links})


def _sections(runs: Mapping[str, Metrics], x: str) -> dict[str, Markup]:
    recorded = list(dict.fromkeys(key for metrics in runs.values() for key in metrics.keys))
    found = {section.title: section for section in sections_of(recorded)}
    parts = {}
    for number, title in enumerate([*(section.title for section in SECTIONS), OTHER]):
        plots = found[title].plots if title in found else ()
        keys = list(dict.fromkeys(line.key for plot in plots for line in expanded(plot, recorded)))
        drawn = [_plot(key, runs, x) for key in keys]
        parts[f"section-{number}"] = fragment("section.html", title=title, plots=drawn, is_folded=title == OTHER)
    return parts


def _plot(key: str, runs: Mapping[str, Metrics], x: str) -> Markup:
    url = with_query("/compare.csv", key=key, runs=tuple(map(run_value, runs)), x=x)
    return plot_part(compared_figure(key, runs, x), url, f"compare-{key}")


def differences(runs: Mapping[str, RunFiles]) -> list[tuple[str, list[str]]]:
    """Keys of configs and versions that are not the same in all runs, each with its value in every run."""
    records = [_record(files) for files in runs.values()]
    first, others = records[0], records[1:]
    found: dict[str, dict[int, Any]] = {}
    before: dict[str, Any] = {}
    for number, other in enumerate(others, start=1):
        for change in changes(first, other):
            before[change.key] = change.before
            found.setdefault(change.key, {})[number] = change.after
    return [
        (key, [_shown(found[key].get(number, before[key])) for number in range(len(records))]) for key in sorted(found)
    ]


def _record(files: RunFiles) -> dict[str, Any]:
    manifest = {key: files.manifest.get(key) for key in ("git_commit", "git_has_changes", "versions")}
    return {**files.config, **manifest}


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= MAX_VALUE_CHARS else f"{text[:MAX_VALUE_CHARS]}\u2026"
