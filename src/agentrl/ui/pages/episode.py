"""One episode: turn by turn, its tokens, and its record."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request
from fastapi.responses import Response

from agentrl.errors import CheckpointError
from agentrl.runs.token_facts import TokenFacts, read_token_facts
from agentrl.ui.dependencies import Index, RunName
from agentrl.ui.index import EpisodeRow, RunsIndex
from agentrl.ui.links import as_file_name, run_url
from agentrl.ui.pages.filters import EpisodeFilter, read_filter
from agentrl.ui.pages.labels import labels_of
from agentrl.ui.templating import page
from agentrl.ui.traces.episode import Trace, episode_view
from agentrl.ui.traces.spelling import spelling
from agentrl.ui.traces.tokens import token_strip
from agentrl.ui.traces.waterfall import waterfall

router = APIRouter()
FRAGMENT = "x-fragment"
"""Header of a request that wants the part of a page that it puts into its own."""


def _found(rollout_id: str, run: RunName, index: Index) -> tuple[EpisodeRow, Trace]:
    """The episode that a path names.

    Raises:
        HTTPException: 404, the run has none of that id.
    """
    found = index.episode(run, rollout_id)
    if found is None:
        raise HTTPException(404, f"The run {run!r:.200} has no episode {rollout_id!r:.200}.")
    return found


Found = Annotated[tuple[EpisodeRow, Trace], Depends(_found)]
"""The episode in the path `/runs/{run}/episodes/{rollout_id}`, which exists."""


@router.get("/runs/{run}/episodes/{rollout_id:path}/tokens")
def show_tokens(request: Request, index: Index, run: RunName, found: Found, turn: int = 1, first: int = 0) -> Response:
    """The tokens of a turn, by themselves or as part of a page."""
    row, trace = found
    facts, why = _facts(index, row)
    path = index.run_path(run)
    strip = token_strip(trace, turn, first=max(0, first), facts=facts, spell=spelling(path) if path else None)
    if strip is None:
        raise HTTPException(404, f"The episode has no turn {turn}.")
    asked = read_filter(request.query_params)
    url = run_url(run, "episodes", row.rollout_id, "tokens", **asked.parameters(), turn=turn, first=strip.next_first)
    template = "_tokens.html" if FRAGMENT in request.headers else "tokens.html"
    answer = page(template, strip=strip, notes=(*strip.notes, *why), row=row, asked=asked, further=url)
    answer.headers["Vary"] = FRAGMENT
    return answer


def _facts(index: RunsIndex, row: EpisodeRow) -> tuple[TokenFacts | None, tuple[str, ...]]:
    """What the update saw in the episode, or why there is nothing."""
    if row.split != "train":
        return None, ("Advantages, values and the reference are known of what an update learned from: train files.",)
    path = index.run_path(row.run)
    try:
        facts = read_token_facts(path, row.file, row.rollout_id) if path else None
    except CheckpointError as error:
        return None, (str(error),)
    if facts is None:
        return None, (
            "No advantages: no update learned from this episode (ungraded, stale, or its group scored alike), or the "
            "run kept no token facts.",
        )
    if not facts.is_trusted:
        return facts, ("Engine and update disagreed on this episode too far: it was kept out of the loss.",)
    return facts, ()


@router.get("/runs/{run}/episodes/{rollout_id:path}/trace.json")
def download(found: Found) -> Response:
    """The record as it was written."""
    row, trace = found
    return Response(
        json.dumps(trace, indent=1),
        media_type="application/json",
        headers={"Content-Disposition": f'attachment; filename="{as_file_name(row.rollout_id)}.json"'},
    )


@router.get("/runs/{run}/episodes/{rollout_id:path}")
def show_episode(request: Request, index: Index, found: Found) -> Response:
    """All that was said and done."""
    return episode_page(index, read_filter(request.query_params), found)


def episode_page(
    index: RunsIndex, asked: EpisodeFilter, found: tuple[EpisodeRow, Trace], *, said: str = "", status: int = 200
) -> Response:
    """The page of an episode in a list.

    Args:
        said: what went wrong with what the person just did.
    """
    row, trace = found
    view = episode_view(trace, asked.query.contains)
    before, after = index.neighbours(asked.query, row)
    kept = [(name, each) for name, value in asked.parameters(page=1).items() if name != "contains" for each in
            (value if isinstance(value, tuple) else (value,))]  # fmt: skip
    return page(
        "episode.html",
        status=status,
        row=row,
        episode=view,
        timings=waterfall(view),
        asked=asked,
        before=before,
        after=after,
        kept=kept,
        beside=run_url(row.run, "items", row.task_id, right=f"{row.file}/{row.rollout_id}"),
        label=labels_of(index, row, view),
        said=said,
    )
