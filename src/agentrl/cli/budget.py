"""`agentrl budget`: what a policy costs, what it is worth, and whether it may grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentrl.cli.options import Config, Json, Set, opened
from agentrl.cli.weekly import Week, last_full_week, print_document

Weeks = Annotated[int, typer.Option(min=1, max=104, metavar="N", help="How many are told, that week included.")]
Keep = Annotated[
    bool, typer.Option("--keep", help="Keep these weeks in the store: briefs and a second workflow read them there.")
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write budget.md, budget.html and budget.json here; it is made.")
]


def budget(
    config: Config,
    week: Week = None,
    weeks: Weeks = 6,
    keep: Keep = False,
    out: Out = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Tell the cost of a successful completion, as run and loaded with people's work.

    Lines of `release.costs` that are missing make it optimistic, which is printed; they are never 0. The decision
    frame (unit economics, quality, velocity, credibility) and the phases are filled from the records.
    """
    import time

    from agentrl.release.budget.report import budget_document, budget_report

    loaded, place = opened(config, overrides)
    assert loaded.release is not None  # open_place asks for it
    now = time.time()
    found = budget_report(place, loaded.release, week or last_full_week(now), weeks=weeks, now=now, keep=keep)
    print_document("budget", found, budget_document(found), out, as_json=as_json)
