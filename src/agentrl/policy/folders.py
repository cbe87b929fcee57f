"""Folders that are there whole or not at all: filled beside, digested, forced to disk, renamed.

`digests.json` is written last. A folder without it, or with one that does not fit, was never finished.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from agentrl.disk import file_digest, sync
from agentrl.errors import CheckpointError

DIGESTS = "digests.json"


@contextmanager
def new_folder(folder: Path, *, is_kept: bool = True) -> Iterator[Path]:
    """A folder to fill, which then takes the place of `folder`; on a disk error it is gone and `folder` as it was.

    Args:
        is_kept: digest it and force it to disk; False for what a step later nobody needs.

    Raises:
        CheckpointError: it cannot be written.
    """
    draft = folder.with_name(f".{folder.name}.draft")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        if is_kept:
            (draft / DIGESTS).write_text(json.dumps(_digests(draft), indent=2) + "\n", encoding="utf-8")
            _force_to_disk(draft)
        _replace(draft, folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)  # a full disk needs the room
        raise CheckpointError(f"{folder} cannot be written: {error}") from error


def _replace(draft: Path, folder: Path) -> None:
    """Put `draft` where `folder` is; at every moment one complete folder has the name or is the `.old` one."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.replace(folder, old)
    try:
        os.replace(draft, folder)
    except OSError:
        if old.exists():
            os.replace(old, folder)
        raise
    sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover(parent: Path) -> None:
    """Tidy up after a process that was killed in `new_folder` or `point`: what it had replaced but not yet put back."""
    for old in parent.glob(".*.old"):
        folder = old.with_name(old.name.removeprefix(".").removesuffix(".old"))
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.replace(old, folder)
    for left in (*parent.glob(".*.draft"), *parent.glob(".*.link")):
        if left.is_symlink():
            left.unlink()
        else:
            shutil.rmtree(left, ignore_errors=True)


def point(link: Path, target: str) -> None:
    """Make `link` a symbolic link to its sibling `target`: it leads to the old one or to the new one at every moment.

    Raises:
        CheckpointError: it cannot be written, or `link` is a real folder.
    """
    draft = link.with_name(f".{link.name}.link")
    try:
        draft.unlink(missing_ok=True)
        draft.symlink_to(target, target_is_directory=True)
        os.replace(draft, link)
        sync(link.parent)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise CheckpointError(f"{link} cannot be pointed to {target}: {error}") from error


def damage(folder: Path) -> str:
    """What is wrong with a folder; empty if it is whole."""
    try:
        recorded = json.loads((folder / DIGESTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return f"{folder} was never finished (no readable {DIGESTS})"
    found = _digests(folder)
    wrong = sorted(name for name in recorded.keys() | found.keys() if recorded.get(name) != found.get(name))
    return f"{folder} is damaged: {', '.join(wrong)} does not fit its digest" if wrong else ""


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != DIGESTS)
    return {str(path.relative_to(folder)): file_digest(path) for path in files}


def _force_to_disk(folder: Path) -> None:
    """Every file below, then the folders that name them: after a power cut a renamed folder has its contents."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)
