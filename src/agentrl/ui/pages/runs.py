"""The list of runs."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import Response

from agentrl.ui.dependencies import Index
from agentrl.ui.templating import page

router = APIRouter()


@router.get("/")
def list_runs(index: Index) -> Response:
    """All runs."""
    return page("runs.html", rows=index.runs())
