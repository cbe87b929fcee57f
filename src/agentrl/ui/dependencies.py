"""What a page asks for in its parameters: `Index`, `Shelf`, and `RunName` where `{run}` stands in its path."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, HTTPException, Request

from agentrl.ui.figures import MetricsShelf
from agentrl.ui.index import RunsIndex
from agentrl.ui.links import run_name


def _index(request: Request) -> RunsIndex:
    index: RunsIndex = request.app.state.index
    return index


Index = Annotated[RunsIndex, Depends(_index)]
"""The index, as a parameter of a page."""


def _shelf(request: Request) -> MetricsShelf:
    shelf: MetricsShelf = request.app.state.shelf
    return shelf


Shelf = Annotated[MetricsShelf, Depends(_shelf)]
"""Metrics that were read before."""


def _run(run: str, index: Index) -> str:
    """The name of the run that a path names.

    Raises:
        HTTPException: 404, there is none of that name.
    """
    name = run_name(run)
    if index.run_path(name) is None:
        raise HTTPException(404, f"There is no run {name!r:.200} here.")
    return name


RunName = Annotated[str, Depends(_run)]
"""The name of the run in the path `/runs/{run}`, which exists."""
