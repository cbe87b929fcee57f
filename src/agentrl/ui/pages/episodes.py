"""The list of episodes, and the routes of all that shows or labels one.

GET /episodes                       of all runs           GET /runs/NAME/episodes               of one
GET .../episodes/ID                 turn by turn          GET .../episodes/ID/tokens?turn=3     a turn's tokens
GET .../episodes/ID/trace.json      as recorded           GET /runs/NAME/items/TASK             two side by side
POST .../episodes/ID/queue, rating  what a person says
"""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response

from agentrl.ui.dependencies import Index, RunName
from agentrl.ui.index import RunsIndex
from agentrl.ui.links import run_url
from agentrl.ui.pages import episode, items, labelling
from agentrl.ui.pages.filters import FAILURES, ORDERS, OUTCOMES, SPLITS, EpisodeFilter, chips, read_filter, without
from agentrl.ui.templating import page
from agentrl.ui.traces.finding import excerpts
from agentrl.ui.traces.texts import pieces

router = APIRouter()

FURTHER = {"failure", "tool", "task", "min_score", "max_score"}
"""Parameters whose fields are folded away as long as none is used."""


@router.get("/episodes")
def list_all(request: Request, index: Index) -> Response:
    """Episodes of all runs, or of those that the address names."""
    return _list(index, read_filter(request.query_params), "/episodes", None)


@router.get("/runs/{run}/episodes")
def list_of_run(request: Request, index: Index, run: RunName) -> Response:
    """Episodes of one run."""
    return _list(index, read_filter(request.query_params, run=run), run_url(run, "episodes"), run)


def _list(index: RunsIndex, asked: EpisodeFilter, action: str, run: str | None) -> Response:
    query = asked.query
    found = index.episodes(query)
    rows = index.runs()
    known = {row.name for row in rows}
    asked_here = EpisodeFilter(
        query, (*asked.problems, *(f"There is no run {n!r:.80}." for n in {*query.runs} - known))
    )
    hidden = [
        row
        for row in found.rows
        if not any(each.is_hit for each in pieces(f"{row.question}\n{row.answer}", query.contains))
    ]
    seen = excerpts(index, hidden, query.contains) if query.contains else {}
    selects = [("split", "split", asked.split, SPLITS), ("outcome", "outcome", query.outcome, OUTCOMES)]
    if run is not None:
        selects.insert(1, ("file", "file", query.file, tuple(index.files(run))))
    selects.append(("order", "order", query.order.value, ORDERS))
    return page(
        "episodes.html",
        run=run,
        runs=sorted(known),
        asked=asked_here,
        chips=chips(asked),
        clear=without(asked),
        action=action,
        selects=selects,
        failures=FAILURES,
        is_further=bool(asked.parameters().keys() & FURTHER),
        tools=sorted({tool for row in found.rows for tool in row.tools}),
        found=found,
        unread=index.unread,
        damaged=[problem for row in rows if row.name == run for problem in row.problems],
        excerpts=[seen.get((row.run, row.file, row.line), ()) for row in found.rows],
        pieces=pieces,
    )


for each in (labelling, episode, items):
    router.include_router(each.router)
