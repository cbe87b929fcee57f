"""`agentrl audit verify`: whether the audit log of releases is as it was written, line by line."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentrl.cli.options import Json, Set, opened

if TYPE_CHECKING:
    from agentrl.release.lifecycle.anchors import Anchor

Log = Annotated[Path, typer.Argument(metavar="CONFIG|FILE", help="A config with `release`, or an audit.jsonl.")]


def verify(
    log: Log,
    anchors: Annotated[
        list[Path],
        typer.Option("--against", metavar="FILE", help="Anchors that were kept elsewhere; may be repeated."),
    ] = [],  # noqa: B006
    tags: Annotated[
        list[str], typer.Option("--against-tag", metavar="TAG", help="A git tag that holds an anchor.")
    ] = [],  # noqa: B006
    anchor: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Add the head of the log, if it is whole, to this file.")
    ] = None,
    tag: Annotated[str | None, typer.Option(metavar="TAG", help="And put it into an annotated git tag.")] = None,
    overrides: Set = [],  # noqa: B006
    as_json: Json = False,
) -> None:
    """Find the first line of the audit log that was altered, taken out or moved.

    Lines cut from the end are seen with an anchor only (--against, --against-tag), or, given CONFIG, by the database,
    which knows the last entry that it has applied.
    """
    from datetime import UTC, datetime

    from agentrl.cli.exits import RUN_FAILED, fail
    from agentrl.release.lifecycle.anchors import (
        anchor_of,
        check_anchor,
        keep_anchor,
        read_anchors,
        read_tag,
        tag_anchor,
    )
    from agentrl.release.lifecycle.audit_log import FIRST, ChainError, read_entries, torn_tail

    path, store_says = _find(log, overrides)
    known: list[Anchor] = [each for file in anchors for each in read_anchors(file)] + [read_tag(name) for name in tags]
    try:
        entries = read_entries(path)
        for each in known:
            check_anchor(path, entries, each)
        for each in store_says:
            check_anchor(path, entries, each)
    except ChainError as error:
        if as_json:
            _print({"file": str(path), "is_whole": False, "line": error.line, "problem": str(error)})
            raise typer.Exit(RUN_FAILED) from None
        fail(f"error: {error}", RUN_FAILED)
    head = entries[-1].hash if entries else FIRST
    if anchor is not None or tag is not None:
        made = anchor_of(entries, now=datetime.now(UTC).timestamp())
        if anchor is not None:
            keep_anchor(anchor, made)
        if tag is not None:
            tag_anchor(tag, made)
    torn = len(torn_tail(path))
    if as_json:
        checked = len(known) + len(store_says)
        _print({"file": str(path), "is_whole": True, "entries": len(entries), "head": head, "anchors": checked})
        return
    print(f"{path}: {len(entries)} entries, whole; head {head}")
    if torn:
        print(f"  {torn} bytes after the last line: a writer was killed there; they were never applied")
    if store_says:
        print(f"  the database has applied entry {store_says[0].entry} of it")
    if known:
        print(f"  {len(known)} anchors hold; the latest is entry {max(each.entry for each in known)}")
    elif not store_says:
        print(
            "  nothing says whether lines were cut from its end: keep anchors elsewhere, and give them with --against"
        )


def _find(given: Path, overrides: list[str]) -> tuple[Path, list[Anchor]]:
    """The log, and the last entry that the database of a config knows."""
    from agentrl.errors import ConfigError

    if given.suffix == ".jsonl":
        if not given.is_file():
            raise ConfigError(f"{given}: no such file")
        return given, []
    if given.is_dir():
        raise ConfigError(
            f"{given}: found a directory; allowed: a config, or an audit.jsonl "
            f"(`agentrl audit {shlex.quote(str(given))}` labels the episodes of a run)"
        )
    from agentrl.release.lifecycle.anchors import applied_anchor

    _, place = opened(given, overrides)
    applied = applied_anchor(place)
    return place.audit_log, [applied] if applied else []


def _print(value: Any) -> None:
    from agentrl.runs.files import to_json

    print(to_json(value, indent=2))
