"""Files that are whole or not there at all, and on disk before the next step is taken; the digest of a file."""

from __future__ import annotations

import gzip
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

PARTIAL = ".partial"
"""Ends the name of a file that is being written."""


def sync(path: Path) -> None:
    """Force a file's bytes, or the names in a directory, to disk: after a power cut they are there."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the place of `path` when the block ends well and vanishes when it does not.

    Its folder has to be there: a run directory that somebody deleted is not made again.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Writes the whole file or leaves the old one; a lone surrogate from a decoder becomes `?`."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", errors="replace"))


def write_together(folder: Path, texts: Mapping[str, str]) -> Path:
    """Write files that belong together, by name: all of them are the new ones, or none is.

    Raises:
        OSError: the folder cannot be made or written in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in texts:
        if (folder / name).is_dir():
            raise IsADirectoryError(21, "Is a directory", str(folder / name))
    with ExitStack() as stack:
        for name, text in texts.items():
            stack.enter_context(replacing(folder / name)).write(text.encode("utf-8", errors="replace"))
    return folder


def write_packed_lines(path: Path, lines: Iterable[str]) -> None:
    """`replacing` with these lines of text, packed by gzip: the same lines are the same bytes."""
    with replacing(path) as file, gzip.GzipFile("", "wb", 5, file, mtime=0) as packed:
        for line in lines:
            packed.write(line.encode() + b"\n")


def file_digest(path: Path) -> str:
    """sha256 of a file, read piece by piece: a shard of weights may be larger than what is left of memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
