"""Two episodes of one item beside each other: before and after, two samples, or two runs."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import Response

from agentrl.ui.dependencies import Index, RunName
from agentrl.ui.index import EpisodeQuery, EpisodeRow, RunsIndex
from agentrl.ui.links import run_url
from agentrl.ui.templating import page
from agentrl.ui.traces.alignment import differences, pairs
from agentrl.ui.traces.episode import episode_view
from agentrl.ui.traces.views import EpisodeView

router = APIRouter()
MAX_EPISODES = 300
"""Of an item, among which one is chosen."""
LATEST = ("best", "final")
"""Evaluations of a run's outcome, the one that is shipped first."""


@dataclass(frozen=True)
class Side:
    """One of the two."""

    name: str
    """left or right."""
    run: str
    rows: tuple[EpisodeRow, ...]
    """Of the item in that run."""
    row: EpisodeRow | None
    """The one that is shown."""


@router.get("/runs/{run}/items/{task_id:path}")
def show_item(request: Request, index: Index, run: RunName, task_id: str) -> Response:
    """Two episodes of an item, turn beside turn."""
    asked = request.query_params
    known = [row.name for row in index.runs()]
    problems: list[str] = []
    runs = {}
    for name in ("left", "right"):
        runs[name] = asked.get(f"{name}_run") or run
        if runs[name] not in known:
            problems.append(f"{name}_run: found {runs[name]!r:.80}; allowed: {', '.join(known):.500}")
            runs[name] = run
    rows = {name: episodes_of(index, each, task_id) for name, each in runs.items()}
    if not any(rows.values()):
        raise HTTPException(404, f"The run {run!r} has no episode of an item {task_id!r:.200}.")
    chosen = {
        name: _asked_for(rows[name], asked.get(name, ""), name, problems, elsewhere=bool(asked.get(f"{name}_run")))
        for name in rows
    }
    left = chosen["left"] or first_of(rows["left"], chosen["right"])
    right = chosen["right"] or last_of(rows["right"], left)
    sides = (Side("left", runs["left"], rows["left"], left), Side("right", runs["right"], rows["right"], right))
    views = [_view(index, side, problems) for side in sides]
    is_shown = views[0] is not None and views[1] is not None
    return page(
        "item.html",
        run=run,
        runs=known,
        task_id=task_id,
        sides=sides,
        problems=problems,
        left=views[0],
        right=views[1],
        differences=differences(views[0], views[1]) if views[0] and views[1] else (),
        pairs=pairs(views[0].turns, views[1].turns) if views[0] and views[1] else (),
        swapped=_url(run, task_id, sides[1], sides[0]) if is_shown else "",
    )


def episodes_of(index: RunsIndex, run: str, task_id: str) -> tuple[EpisodeRow, ...]:
    """Those of evaluations; of an item that none evaluates, those that were trained on; oldest first."""
    rows = index.siblings(run, task_id) or list(
        index.episodes(EpisodeQuery(runs=(run,), task_id=task_id, limit=MAX_EPISODES)).rows
    )
    return tuple(sorted(rows, key=_age)[:MAX_EPISODES])


def _age(row: EpisodeRow) -> tuple[object, ...]:
    """Baselines before steps before outcomes, split by split."""
    which = row.file.partition("-")[2]
    phase = 0 if which == "baseline" else 2 if which in LATEST else 1
    return (row.split == "test", phase, row.step or 0, row.file, row.sample_index, row.line)


def first_of(rows: tuple[EpisodeRow, ...], other: EpisodeRow | None) -> EpisodeRow | None:
    """The oldest, of the other's split and sample where there is one, and not the other itself."""
    fitting = [row for row in rows if row != other]
    return min(fitting, key=lambda row: (*_distance(row, other), _age(row)), default=None)


def last_of(rows: tuple[EpisodeRow, ...], other: EpisodeRow | None) -> EpisodeRow | None:
    """That of the best policy, else of the final one, else of the last step; split and sample as above."""

    def rank(row: EpisodeRow) -> tuple[object, ...]:
        which = row.file.partition("-")[2]
        place = LATEST.index(which) if which in LATEST else len(LATEST) + (which == "baseline")
        return (*_distance(row, other), place, -(row.step or 0), row.line)

    return min((row for row in rows if row != other), key=rank, default=None)


def _distance(row: EpisodeRow, other: EpisodeRow | None) -> tuple[bool, bool]:
    if other is None:
        return (False, False)
    return (row.split != other.split, row.sample_index != other.sample_index)


def _asked_for(
    rows: tuple[EpisodeRow, ...], text: str, name: str, problems: list[str], *, elsewhere: bool
) -> EpisodeRow | None:
    """The episode that `FILE/ROLLOUT` names; in a run that was chosen after it, one of the same file."""
    if not text:
        return None
    file, _, rollout_id = text.partition("/")
    found = next((row for row in rows if row.rollout_id == rollout_id and row.file == file), None)
    if found is None and elsewhere:
        return next((row for row in rows if row.file == file), None)
    if found is None:
        problems.append(f"{name}: found {text!r:.120}, which is no episode of this item; allowed: FILE/ROLLOUT")
    return found


def _view(index: RunsIndex, side: Side, problems: list[str]) -> EpisodeView | None:
    if side.row is None:
        return None
    found = index.episode(side.run, side.row.rollout_id)
    if found is None:
        problems.append(f"{side.name}: {side.row.rollout_id} can no longer be read")
        return None
    return episode_view(found[1])


def _url(run: str, task_id: str, left: Side, right: Side) -> str:
    """The page with these two."""
    query: dict[str, str] = {}
    for name, side in (("left", left), ("right", right)):
        if side.row is not None:
            query[name] = f"{side.row.file}/{side.row.rollout_id}"
        if side.run != run:
            query[f"{name}_run"] = side.run
    return run_url(run, "items", task_id, **query)
