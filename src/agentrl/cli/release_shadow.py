"""`agentrl release shadow-report`: how far a candidate in shadow went the baseline's way."""

from __future__ import annotations

from typing import Annotated

import typer

from agentrl.cli.options import Config, Json, Set, opened
from agentrl.printable import printable

ReleaseId = Annotated[
    str | None, typer.Argument(metavar="[RELEASE]", help="Id, or its beginning.  [default: the latest]")
]


def shadow_report(
    config: Config,
    release_id: ReleaseId = None,
    overrides: Set = [],  # noqa: B006  (typer reads the default)
    as_json: Json = False,
) -> None:
    """Show what copies of users' turns came to: unmatched calls, first divergences, failures.

    What gates read of a shadow is in `agentrl release status`; this says how much of it rests on replayed tools.
    """
    from agentrl.errors import ConfigError
    from agentrl.release.lifecycle.read import list_releases, read_release
    from agentrl.release.shadow_report import report_lines
    from agentrl.release.shadow_report import shadow_report as read_report
    from agentrl.runs.files import to_json

    _, place = opened(config, overrides)
    try:
        if release_id is not None:
            release = read_release(place, release_id)
        elif every := list_releases(place):
            release = every[-1]
        else:
            raise ConfigError(f"{place.workflow}: no release yet; `agentrl release start` begins one")
        found = read_report(place.store, place.workflow, release.id)
    finally:
        place.store.close()
    if as_json:
        print(to_json(found.to_record(), indent=2))
    else:
        print("\n".join(map(printable, report_lines(found))))
