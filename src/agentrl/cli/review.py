"""`agentrl review`: what last week was like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentrl.cli.options import Config, Json, Set, make_folder
from agentrl.printable import printable

Week = Annotated[
    str | None, typer.Option(metavar="WEEK", help="ISO week, such as 2026-W46, UTC.  [default: the last full one]")
]
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

    from agentrl.config import load_config
    from agentrl.config.costs import CostsConfig
    from agentrl.disk import write_together
    from agentrl.errors import ConfigError
    from agentrl.release.place import open_place
    from agentrl.release.review.review import weekly_review
    from agentrl.release.review.told import review_document
    from agentrl.release.review.weeks import week_of
    from agentrl.runs.files import to_json

    loaded = load_config(config, overrides)
    place = open_place(loaded)
    costs = loaded.release.costs if loaded.release is not None else CostsConfig()
    found = weekly_review(
        place.store,
        place.workflow,
        week or week_of(time.time() - 7 * 86400),
        weeks=weeks,
        costs=costs,
        session_log=place.folder / "sessions",
    )
    told = review_document(found)
    print(to_json(found, indent=2) if as_json else told.to_text())
    if out is None:
        return
    make_folder("--out", out)
    try:
        write_together(
            out,
            {
                "review.md": told.to_markdown(),
                "review.html": told.to_html(),
                "review.json": to_json(found, indent=2) + "\n",
            },
        )
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    if not as_json:
        print(f"\n{printable(str(out / 'review.html'))}")
