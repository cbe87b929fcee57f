"""`agentrl brief`: a release on one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from agentrl.cli.options import Json
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.release.store import Store

What = Annotated[
    list[str],
    typer.Argument(
        metavar="[CONFIG] RELEASE",
        help="The release by its id, the beginning of it, or `latest`. CONFIG says where releases are kept; without "
        "it, they are in ./releases.",
    ),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="CONFIG", help="The same, where RELEASE stands alone.")
]
LocaleName = Annotated[
    list[str],
    typer.Option("--locale", metavar="LOCALE", help="en-US, en-GB or fr-FR; may be repeated.  [default: all]"),
]
Out = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where to write.  [default: briefs/, beside the release's records]")
]


def brief(
    what: What,
    config: ConfigOption = None,
    locale: LocaleName = [],  # noqa: B006  (typer reads the default)
    out: Out = None,
    as_json: Json = False,
) -> None:
    """Write the Reliability Brief of a release: one page as HTML and PDF, and all its numbers as JSON.

    Every number is read from a stored verdict or record. A release without evidence gets a brief that says so.
    """
    from agentrl.release.brief.locale import LOCALES, load_locale
    from agentrl.release.brief.records import find_release
    from agentrl.release.brief.write import write_brief
    from agentrl.runs.files import to_json

    for name in locale:
        load_locale(name)  # a wrong name is told before anything is written
    store, folder, workflow, release = _opened(what, config)
    release_id = find_release(store, release, workflow)
    target = out or folder / "briefs"
    written = {name: write_brief(store, release_id, name, target) for name in dict.fromkeys(locale or LOCALES)}
    if as_json:
        told = {
            name: {"html": each.html, "pdf": each.pdf, "json": each.json, "digest": each.digest, "level": each.level}
            for name, each in written.items()
        }
        print(to_json({"release": release_id, "briefs": told}, indent=2))
        return
    for each in written.values():
        print(printable(f"{each.pdf}  {each.html}"))
    print(printable(str(next(iter(written.values())).json)))


def _opened(what: list[str], config: Path | None) -> tuple[Store, Path, str | None, str]:
    """The store, its folder, the workflow where a config names one, and the release that is asked for."""
    from agentrl.config import load_config
    from agentrl.errors import ConfigError
    from agentrl.release.brief.records import NEWEST
    from agentrl.release.place import open_place
    from agentrl.release.store import open_store

    if len(what) > 2 or (len(what) == 2 and config is not None):
        raise ConfigError(f"found {len(what)} arguments; allowed: [CONFIG] RELEASE")
    is_config = len(what) == 2 or what[0].endswith((".yaml", ".yml"))
    path = Path(what[0]) if is_config else config
    release = NEWEST if is_config and len(what) == 1 else what[-1]
    if path is not None:
        place = open_place(load_config(path))
        return place.store, place.folder, place.workflow, release
    folder = Path("releases")
    file = folder / "release.db"
    if not file.is_file():
        raise ConfigError(f"{file}: no store of releases here; say where they are: agentrl brief CONFIG {release}")
    return open_store(f"sqlite:///{file}"), folder, None, release
