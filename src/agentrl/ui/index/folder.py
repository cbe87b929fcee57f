"""Where an index lies: beside the runs, or in the user's cache where it may not. It may be deleted at any time.

    RUNS_DIR/.agentrl-index/v1/catalog.json     what there is; replaced in one step
                              /segments/NAME/   written whole before the catalog names them
                              /lock             held by the one process that writes

A process that is killed leaves a folder that no catalog names; the next one that writes removes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from weakref import WeakValueDictionary

from agentrl.disk import sync, write_text
from agentrl.runs.files import MANIFEST
from agentrl.ui.index.catalog import Catalog, Segment
from agentrl.ui.index.places import open_plain
from agentrl.ui.index.text_files import TextFiles

NAME = ".agentrl-index"
SEGMENTS = "segments"
SCHEMA = "v1"
"""Of catalog and segments. Another one is another folder: what an older agentrl wrote is built anew."""
LEFT_SECONDS = 60.0
"""A segment that is no longer wanted stays for so long: another process may still be reading it."""


def index_folder(root: Path) -> Path:
    """Where the index of a directory of runs belongs, made if need be; a run itself is never written in.

    One that somebody else has made, or that leads elsewhere, is left alone: what it names would be read and removed.

    Raises:
        OSError: nowhere can be written.
    """
    if not (root / MANIFEST).exists():
        beside = root / NAME
        with suppress(OSError):
            if os.access(_own(beside), os.W_OK | os.X_OK):
                return _prepared(beside)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    own = cache / "agentrl" / f"index-{hashlib.sha256(os.fsencode(root)).hexdigest()[:16]}"
    own.parent.mkdir(parents=True, exist_ok=True)
    return _prepared(_own(own, 0o700))


def _prepared(folder: Path) -> Path:
    _own(_own(folder / SCHEMA) / SEGMENTS)
    for name, text in ((".gitignore", "*\n"), ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n")):
        with suppress(FileExistsError), (folder / name).open("x") as file:  # never through a link
            file.write(text)
    return folder / SCHEMA


def _own(folder: Path, mode: int = 0o755) -> Path:
    """The folder, made if it is missing, in which nobody else can have put anything.

    Raises:
        OSError: it is a link, is another user's, or cannot be made.
    """
    folder.mkdir(exist_ok=True, mode=mode)
    facts = folder.lstat()
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.geteuid():
        raise PermissionError(errno.EPERM, "is a link, or another user's", str(folder))
    return folder


class IndexFolder:
    """The files of an index; readers need no lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._texts: WeakValueDictionary[str, TextFiles] = WeakValueDictionary()

    @property
    def _catalog(self) -> Path:
        return self.path / "catalog.json"

    def segment_path(self, segment: Segment) -> Path:
        return self.path / SEGMENTS / segment.folder

    def texts(self, segment: Segment) -> TextFiles:
        """Its texts; the same object for all who use it at one time, which maps the file once."""
        return self._texts.setdefault(segment.folder, TextFiles(self.segment_path(segment)))

    def stamp(self) -> tuple[int, int, int] | None:
        """Another one after every change of the catalog; None where there is none."""
        try:
            facts = self._catalog.stat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns, facts.st_size

    def read(self) -> Catalog:
        """What there is; of a missing, damaged or foreign catalog nothing, and of the segments those that are whole."""
        try:
            with open_plain(self._catalog) as file:
                catalog = Catalog.from_json(file.read().decode("utf-8"))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return Catalog()
        return Catalog(tuple(filter(self._has, catalog.segments)), catalog.problems)

    def is_whole(self, catalog: Catalog) -> bool:
        """Whether all its segments are there."""
        return all(map(self._has, catalog.segments))

    def _has(self, segment: Segment) -> bool:
        return folder_size(self.segment_path(segment)) == segment.size

    @contextmanager
    def writing(self) -> Iterator[bool]:
        """Whether this process may write: one may at a time, and it is no error not to be the one."""
        self.path.mkdir(parents=True, exist_ok=True)
        _own(_own(self.path) / SEGMENTS)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(descriptor)

    def write(self, catalog: Catalog) -> None:
        """Put it in the place of the one that is there."""
        write_text(self._catalog, catalog.to_json())

    def new_segment(self, number: int) -> Path:
        """An empty folder for a segment."""
        path = self.path / SEGMENTS / f"{number:06d}-{secrets.token_hex(4)}"
        path.mkdir()
        return path

    def sweep(self, catalog: Catalog) -> None:
        """Remove what no catalog names and nobody reads any more; for the process that may write."""
        wanted = {segment.folder for segment in catalog.segments}
        with suppress(OSError):
            for entry in list(os.scandir(self.path / SEGMENTS)):
                if entry.name not in wanted and time.time() - entry.stat().st_mtime > LEFT_SECONDS:
                    shutil.rmtree(entry.path, ignore_errors=True)

    def retire(self, segment: Segment) -> None:
        """A segment that the catalog names no longer: `sweep` may remove it in LEFT_SECONDS."""
        with suppress(OSError):
            os.utime(self.segment_path(segment))


def keep(folder: Path) -> int:
    """Force the files of a new segment to disk; their size together."""
    for path in folder.iterdir():
        sync(path)
    sync(folder)
    return folder_size(folder)


def folder_size(folder: Path) -> int:
    """Bytes of the files in it; 0 where there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries)
    except OSError:
        return 0
