"""The exact suite of a decision, kept by the digest that verdicts name, so that it can be had again years later.

Where the database is shared, the suite is in it too: another machine fetches it from there.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from sqlalchemy import select

from agentrl.errors import ConfigError, ReleaseError
from agentrl.evaluation.suites import Suite, read_suite
from agentrl.release.place import ReleasePlace
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.listing import put_files, read_listing, unpack
from agentrl.release.store.tables import archived_suites


def archive_suite(place: ReleasePlace, path: Path, *, now: float | None = None) -> Suite:
    """Keep a suite's two files; one that is kept already stays as it is. Call it with every decision.

    Raises:
        ConfigError: it is no suite, or its items are not those that were frozen.
        ReleaseError: it cannot be kept.
    """
    suite = read_suite(path)
    items = str(json.loads(path.read_text("utf-8"))["items"])
    try:
        files, _ = put_files(BlobStore(place), {path.name: path, items: path.with_name(items)})
    except OSError as error:
        raise ReleaseError(f"{error.filename or place.blobs}: {error.strerror or error}") from error
    row = {
        "digest": suite.digest,
        "name": suite.name[:200],
        "version": suite.version[:200],
        "files": files,
        "at": time.time() if now is None else now,
    }
    with place.store.write() as connection:
        connection.execute(place.store.insert(archived_suites).values(row).on_conflict_do_nothing())
    return suite


def fetch_suite(place: ReleasePlace, digest: str, folder: Path) -> Path:
    """Write the suite of this digest into a new folder, verified; returns its NAME.json.

    Raises:
        ConfigError: none of that digest was archived, or the folder is there already.
        ReleaseError: a file of it is missing or changed.
    """
    with place.store.read() as connection:
        row = connection.execute(
            select(archived_suites).where(archived_suites.c.digest == digest.removeprefix("sha256:"))
        ).one_or_none()
    if row is None:
        raise ConfigError(f"suite {digest}: none of that digest is archived in {place.store.name}")
    blobs = BlobStore(place)
    (name,) = [name for name in read_listing(blobs, row.files) if not name.endswith(".items.jsonl")]
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        raise ConfigError(f"{folder}: is there already; give a folder that is not") from None
    try:
        unpack(blobs, row.files, folder)
    except OSError as error:
        raise ReleaseError(f"{folder}: {error.strerror or error}") from error
    found = read_suite(folder / name)
    if found.digest != row.digest:
        raise ReleaseError(f"suite {digest}: its archived items are those of {found.digest}")
    return folder / name
