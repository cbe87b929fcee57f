"""What a person says of an episode: it should be audited, or how good it is; both can be taken back.

Only pages of this server may post, see `ui/guard.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response

from agentrl.errors import ConfigError
from agentrl.labels import Rating, Withdrawal, append_label, labels_path, pick, take_back
from agentrl.ui.dependencies import Index, RunName
from agentrl.ui.index import EpisodeRow, RunsIndex
from agentrl.ui.pages.episode import Found, episode_page
from agentrl.ui.pages.filters import read_filter
from agentrl.ui.pages.labels import entry_of, labels_of, own_path, picks_of, refusal_of
from agentrl.ui.traces.episode import episode_view
from agentrl.ui.traces.views import EpisodeView

router = APIRouter()
MAX_CHARS = 2000
"""Of what is typed into one field."""
Text = Annotated[str, Form(max_length=MAX_CHARS)]


@router.post("/runs/{run}/episodes/{rollout_id:path}/queue")
def queue(
    request: Request,
    index: Index,
    run: RunName,
    found: Found,
    action: Annotated[Literal["pick", "take_back"], Form()],
    note: Text = "",
) -> Response:
    """Put an episode into the audit queue, or take it out again."""
    row, trace = found
    path = _path(index, run)
    view = episode_view(trace)
    try:
        _refuse(row, view)
        if action == "take_back":
            take_back(picks_of(path, row), row.rollout_id)
        else:
            pick(picks_of(path, row), entry_of(row, view, note.strip()))
    except (ConfigError, ValueError) as error:
        return episode_page(index, read_filter(request.query_params), found, said=str(error), status=422)
    return _back(request, row)


@router.post("/runs/{run}/episodes/{rollout_id:path}/rating")
def rate(
    request: Request,
    index: Index,
    run: RunName,
    found: Found,
    rater: Text = "",
    score: Text = "",
    note: Text = "",
    action: Annotated[Literal["save", "withdraw"], Form()] = "save",
) -> Response:
    """Say how good an episode is, which puts it into the queue as well; or take back what one said."""
    row, trace = found
    path = _path(index, run)
    view = episode_view(trace)
    try:
        _refuse(row, view)
        labels = own_path(path, labels_path(path))
        if action == "withdraw":
            append_label(labels, Withdrawal(row.rollout_id, row.task_id, rater))
        else:
            rating = Rating(row.rollout_id, row.task_id, rater.strip(), _score(score), note.strip())
            if labels_of(index, row, view).entry is None:  # an audit reads the ratings of its queue alone
                pick(picks_of(path, row), entry_of(row, view, ""))
            append_label(labels, rating)
    except (ConfigError, ValueError) as error:
        return episode_page(index, read_filter(request.query_params), found, said=str(error), status=422)
    return _back(request, row)


def _score(text: str) -> float:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise ValueError(f"found score {text!r:.80}; allowed: a number from 0 to 1") from None


def _refuse(row: EpisodeRow, view: EpisodeView) -> None:
    if refusal := refusal_of(row, view):
        raise ConfigError(refusal)


def _path(index: RunsIndex, run: str) -> Path:
    path = index.run_path(run)
    if path is None or not path.is_dir():  # a run that somebody deleted is not made again
        raise HTTPException(404, f"The run {run!r:.200} is gone.")
    return path


def _back(request: Request, row: EpisodeRow) -> Response:
    """To the episode's page, so that going on or reloading posts nothing again."""
    url = read_filter(request.query_params).episode_url(row.run, row.rollout_id)
    return RedirectResponse(f"{url}#label", status_code=303)
