"""The pages of a directory of runs, as a FastAPI application.

GET /                       the runs                 GET /compare?runs=A&runs=B   several on one plot
GET /runs/NAME              one run, live            GET /runs/NAME/episodes      what its policies did
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from agentrl.evaluation.style import CSS
from agentrl.ui.figures import MetricsShelf
from agentrl.ui.guard import Guard
from agentrl.ui.index import RunsIndex
from agentrl.ui.pages import compare, episodes, run, runs
from agentrl.ui.templating import page

STATIC = Path(__file__).parent / "static"
REFRESH_SECONDS = 2.0
"""Between two looks for new files."""
READING_SECONDS = 5.0
"""Of one look; what is left is read at the next."""
LAST_REFRESH_SECONDS = 2.0
"""That an end waits for one that is under way."""


def create_app(runs_dir: Path, *, hosts: frozenset[str] = frozenset()) -> FastAPI:
    """The application; it looks for new files as long as it lives.

    Args:
        runs_dir: a directory of run directories, at any depth, or one run.
        hosts: names under which other machines may ask, see `Guard`.
    """
    index = RunsIndex(runs_dir)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        end = threading.Event()
        looking = threading.Thread(target=_keep_fresh, args=(app, end), daemon=True)
        looking.start()
        yield
        end.set()
        index.close()
        looking.join(LAST_REFRESH_SECONDS)

    app = FastAPI(title="agentrl", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.index, app.state.shelf, app.state.runs_dir = index, MetricsShelf(), runs_dir
    app.state.problem = ""
    app.add_middleware(Guard, hosts=hosts)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    for each in (runs, run, compare, episodes):
        app.include_router(each.router)

    @app.get("/report.css")
    def report_css() -> Response:
        """Colours and the look of charts, as in report.html."""
        return Response(CSS, media_type="text/css")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        said = error.detail if error.status_code != 404 or error.detail != "Not Found" else "There is no such page."
        return page("error.html", status=error.status_code, title=f"Error {error.status_code}", message=said)

    @app.exception_handler(RequestValidationError)
    async def misunderstood(_: Request, error: RequestValidationError) -> Response:
        said = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        return page("error.html", status=422, title="Error 422", message=said)

    return app


def _keep_fresh(app: FastAPI, end: threading.Event) -> None:
    """Until the end; runs are looked for again even while a long list of files is being read."""
    while not end.is_set():
        try:
            app.state.index.refresh(seconds=READING_SECONDS)
            app.state.problem = ""
        except OSError as error:
            app.state.problem = f"The index of episodes cannot be written: {error}"
        except Exception as error:  # whatever a file holds, what is new next is looked for
            app.state.problem = f"The index of episodes cannot be kept up to date: {type(error).__name__}: {error}"
        end.wait(REFRESH_SECONDS)
