"""GET /: the runs, sorted and filtered here, so that the page works without a script."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import Response

from agentrl.ui.dependencies import Index
from agentrl.ui.index import RunRow, RunsIndex
from agentrl.ui.links import with_query
from agentrl.ui.parts import Followed, followed_page, followed_parts, tag, unchanged
from agentrl.ui.templating import fragment

router = APIRouter()

Direction = Literal["", "asc", "desc"]


@dataclass(frozen=True)
class Column:
    """One of the table."""

    name: str
    """In addresses."""
    title: str
    value: Callable[[RunRow], Any]
    """To sort by; None comes last."""
    falls: bool = True
    """Sorted from high to low at first."""


COLUMNS = (
    Column("name", "Run", lambda row: row.name.casefold(), falls=False),
    Column("state", "State", lambda row: row.state, falls=False),
    Column("steps", "Steps", lambda row: row.steps),
    Column("baseline", "Baseline", lambda row: row.reward_baseline),
    Column("latest", "Latest", lambda row: row.reward_latest),
    Column("best", "Best", lambda row: row.reward_best),
    Column("rollouts", "Rollouts", lambda row: row.rollouts),
    Column("lost", "Lost", lambda row: row.infra_failed),
    Column("started", "Started", lambda row: row.started_at or None),
)
STATES = ("running", "finished", "stopped", "interrupted")


@router.get("/")
def list_runs(
    request: Request, index: Index, q: str = "", state: str = "", sort: str = "started", order: Direction = ""
) -> Response:
    """The list; running runs come first unless it is sorted otherwise."""
    followed = _followed(request, index, index.runs(), q, state, sort, order)
    live_url = with_query("/runs.live", q=q, state=state, sort=sort, order=order)
    return followed_page("runs.html", live_url, followed)


@router.get("/runs.live")
def live_runs(
    request: Request, index: Index, q: str = "", state: str = "", sort: str = "started", order: Direction = ""
) -> Response:
    """The parts of the list that follow the runs."""
    rows = index.runs()
    etag = tag(rows, index.unread, request.app.state.problem, q, state, sort, order)
    if unchanged(request, etag):
        return Response(status_code=304, headers={"ETag": etag})
    return followed_parts(_followed(request, index, rows, q, state, sort, order), etag)


def _followed(
    request: Request, index: RunsIndex, rows: Sequence[RunRow], q: str, state: str, sort: str, order: Direction
) -> Followed:
    column = next((each for each in COLUMNS if each.name == sort), COLUMNS[-1])
    falls = order == "desc" or (not order and column.falls)
    wanted = [row for row in rows if q.casefold() in row.name.casefold() and state in ("", row.state)]
    shown = _sorted(wanted, column, falls)
    if column.name == "started":
        shown.sort(key=lambda row: row.state != "running")
    counts = Counter(row.state for row in rows)
    values: dict[str, Any] = {
        "rows": shown,
        "total": len(rows),
        "columns": COLUMNS,
        "sort": column.name,
        "falls": falls,
    }
    values |= {"unread": index.unread, "problem": request.app.state.problem}
    table = fragment("runs_table.html", q=q, state=state, **values)
    facts = {
        "q": q,
        "state": state,
        "sort": column.name,
        "order": order,
        "states": [(each, counts[each]) for each in STATES if counts[each]],
        "total": len(rows),
        "runs_dir": request.app.state.runs_dir,
    }
    said = f"{len(rows)} run{'s' * (len(rows) != 1)}, {counts['running']} running."
    progress = f"{counts['running']} running" if counts["running"] else ""
    return Followed(
        {"table": table}, said=said, progress=progress, is_live=counts["running"] > 0 or index.unread > 0, facts=facts
    )


def _sorted(rows: Sequence[RunRow], column: Column, falls: bool) -> list[RunRow]:
    known = [row for row in rows if column.value(row) is not None]
    unknown = [row for row in rows if column.value(row) is None]
    return sorted(sorted(known, key=lambda row: row.name), key=column.value, reverse=falls) + unknown
