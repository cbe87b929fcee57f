"""What `agentrl review` and `agentrl budget` share: which week, and where its document goes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.options import make_folder
from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.release.review.document import Document

Week = Annotated[
    str | None, typer.Option(metavar="WEEK", help="ISO week, such as 2026-W46, UTC.  [default: the last full one]")
]


def last_full_week(now: float) -> str:
    """The ISO week before the one of `now`, which is in seconds since 1970."""
    from agentrl.release.review.weeks import week_of

    return week_of(now - 7 * 86400)


def print_document(name: str, found: Any, told: Document, out: Path | None, *, as_json: bool) -> None:
    """Print a week's document, or its record as JSON; with `out`, write both there as NAME.md, .html and .json.

    Raises:
        ConfigError: the folder cannot be made, or a file not be written.
    """
    from agentrl.disk import write_together
    from agentrl.errors import ConfigError
    from agentrl.runs.files import to_json

    record = to_json(found, indent=2)
    print(record if as_json else told.to_text())
    if out is None:
        return
    make_folder("--out", out)
    texts = {f"{name}.md": told.to_markdown(), f"{name}.html": told.to_html(), f"{name}.json": record + "\n"}
    try:
        write_together(out, texts)
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written ({error.strerror or error})") from error
    if not as_json:
        print(f"\n{printable(str(out / f'{name}.html'))}")
