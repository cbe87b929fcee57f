"""`agentrl budget`: what a policy costs, what it is worth, and whether it may grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentrl.cli.options import Config, Json, Set, make_folder
from agentrl.printable import printable

Week = Annotated[
    str | None, typer.Option(metavar="WEEK", help="ISO week, such as 2026-W46, UTC.  [default: the last full one]")
]
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

    from agentrl.config import load_config
    from agentrl.disk import write_together
    from agentrl.errors import ConfigError
    from agentrl.release.budget.report import budget_document, budget_report
    from agentrl.release.place import open_place
    from agentrl.release.review.weeks import week_of
    from agentrl.runs.files import to_json

    loaded = load_config(config, overrides)
    place = open_place(loaded)
    assert loaded.release is not None  # open_place asks for it
    now = time.time()
    found = budget_report(place, loaded.release, week or week_of(now - 7 * 86400), weeks=weeks, now=now, keep=keep)
    told = budget_document(found)
    print(to_json(found, indent=2) if as_json else told.to_text())
    if out is None:
        return
    make_folder("--out", out)
    try:
        write_together(
            out,
            {
                "budget.md": told.to_markdown(),
                "budget.html": told.to_html(),
                "budget.json": to_json(found, indent=2) + "\n",
            },
        )
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    if not as_json:
        print(f"\n{printable(str(out / 'budget.html'))}")
