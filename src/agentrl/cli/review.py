"""`agentrl review`: what last week was like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentrl.cli.options import Config, Json, Set, opened
from agentrl.cli.weekly import Week, last_full_week, print_document

Weeks = Annotated[int, typer.Option(min=1, max=104, metavar="N", help="Length of the trends, that week included.")]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write review.md, review.html and review.json here; it is made.")
]


def review(
    config: Config,
    week: Week = None,
    weeks: Weeks = 8,
    out: Out = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Review a week of a workflow that serves users.

    Reliability score with interval and trend, whether more training pays, the five worst sessions from end to end,
    where people step in, incidents and what is believed no longer, frozen benchmarks.
    """
    import time

    from agentrl.release.review.review import weekly_review
    from agentrl.release.review.told import review_document

    loaded, place = opened(config, overrides)
    assert loaded.release is not None  # open_place asks for it
    found = weekly_review(
        place.store,
        place.workflow,
        week or last_full_week(time.time()),
        weeks=weeks,
        costs=loaded.release.costs,
        session_log=place.folder / "sessions",
    )
    print_document("review", found, review_document(found), out, as_json=as_json)
