"""Which runs and files of rollouts there are below a directory. Nothing outside it is ever opened.

Names that come from outside are looked up in what was found here and never made into paths; symbolic links are not
followed, so that a run cannot show the files of somebody else.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from agentrl.runs.files import CHECKPOINTS, MANIFEST, ROLLOUTS
from agentrl.runs.trace_files import SUFFIX

DEPTH = 4
"""Folders between the directory and a run in it, at most."""


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file of rollouts as it is on disk now; another size or time means another content."""

    run: str
    name: str
    """Without its suffix, such as validation-000005."""
    size: int
    mtime_ns: int


def find_runs(root: Path) -> dict[str, Path]:
    """Name, relative to `root`, and path of every run at or below it."""
    return dict(sorted(_runs(root, ".", DEPTH)))


def _runs(folder: Path, name: str, depth: int) -> Iterator[tuple[str, Path]]:
    try:
        with os.scandir(folder) as entries:
            found = {entry.name: entry for entry in entries}
    except OSError:  # vanished, or not ours to read
        return
    if MANIFEST in found or (ROLLOUTS in found and found[ROLLOUTS].is_dir(follow_symlinks=False)):
        yield name, folder
        return
    for entry in found.values():
        if depth and not entry.name.startswith(".") and _is_utf8(entry.name) and entry.name != CHECKPOINTS:
            try:
                is_folder = entry.is_dir(follow_symlinks=False)
            except OSError:
                continue
            if is_folder:
                below = entry.name if name == "." else f"{name}/{entry.name}"
                yield from _runs(folder / entry.name, below, depth - 1)


def find_files(run: str, path: Path) -> list[FoundFile]:
    """The files of rollouts of a run, by name."""
    found = []
    folder = path / ROLLOUTS
    try:
        if not stat.S_ISDIR(folder.lstat().st_mode):
            return []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and _is_utf8(entry.name):
                    facts = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(facts.st_mode):
                        name = entry.name.removesuffix(SUFFIX)
                        found.append(FoundFile(run, name, facts.st_size, facts.st_mtime_ns))
    except OSError:  # the run is being deleted
        return []
    return sorted(found, key=lambda file: file.name)


def open_plain(path: Path) -> IO[bytes]:
    """An ordinary file to read: no symbolic link, and no pipe that would hang the reader.

    Raises:
        OSError: it is something else, or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "is no ordinary file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _is_utf8(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
