"""Session records on disk, one a line, before anybody else is told of them.

FOLDER/2026-11-21-host-4711-3f9a-000001.jsonl

A process writes files of its own, so that several gateways and controllers may share a folder; a file is left for the
next one when it is full or the day (UTC) is over. A record is on disk when `append` returns. What was being written
when a process was killed is a last line without its end: readers pass over it, and the next process that opens the
folder takes it out, into a file `.torn` beside.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentrl.disk import sync
from agentrl.monitoring.redaction import DROPPED, redact
from agentrl.monitoring.session_record import SCHEMA_VERSION, SessionRecord

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_RECORD_BYTES = 4 * 1024 * 1024
"""A record with more content keeps its other fields."""
CONTENT = "content"
"""Key of what was said, where it is kept at all."""
SUFFIX, TORN = ".jsonl", ".torn"
KEPT_ALWAYS = ("session_id", "run_id", "bundle_id", "release_channel", "arm", "ended_at", "outcome", "success")
DAY = re.compile(r"\d{4}-\d\d-\d\d")


class SessionLog:
    """Where one process appends. Safe to use from several threads.

    Raises:
        OSError: the folder cannot be made or written in.
    """

    def __init__(
        self, folder: Path, *, max_file_bytes: int = MAX_FILE_BYTES, clock: Callable[[], float] = time.time
    ) -> None:
        self.folder = folder
        self._max_file_bytes, self._clock = max_file_bytes, clock
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._size, self._day, self._number = 0, "", 0
        host = re.sub(r"[^A-Za-z0-9]+", "", socket.gethostname())[:20] or "host"
        self._name = f"{host}-{os.getpid()}-{secrets.token_hex(4)}"
        folder.mkdir(parents=True, exist_ok=True)
        repair(folder)

    def append(self, *records: SessionRecord | Mapping[str, Any]) -> None:
        """Write records, redacted, and force them to disk together.

        Raises:
            OSError: they could not be written; none of them is there then, and the file is as it was.
        """
        lines = b"".join(line_of(record) for record in records)
        if not lines:
            return
        with self._lock:
            descriptor = self._file(len(lines))
            try:
                _write_all(descriptor, lines)
                os.fsync(descriptor)
            except OSError:
                os.ftruncate(descriptor, self._size)  # a full disk: half a line must not stand before the next one
                raise
            self._size += len(lines)

    def close(self) -> None:
        """Give the file back."""
        with self._lock:
            self._close()

    def _file(self, n_bytes: int) -> int:
        day = datetime.fromtimestamp(self._clock(), UTC).date().isoformat()
        is_full = self._size and self._size + n_bytes > self._max_file_bytes
        if self._descriptor is None or is_full or day != self._day:
            self._close()
            self._number += 1
            path = self.folder / f"{day}-{self._name}-{self._number:06d}{SUFFIX}"
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # says that somebody is still writing
            sync(self.folder)
            self._size, self._day = 0, day
        return self._descriptor

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor, self._size = None, 0


def line_of(record: SessionRecord | Mapping[str, Any]) -> bytes:
    """The line of a record, redacted. One that cannot be, or that is too long, keeps what says which session it was."""
    plain = record.to_record() if isinstance(record, SessionRecord) else dict(record)
    plain.setdefault("schema_version", SCHEMA_VERSION)
    line = _encoded(redact(plain))
    if line is None or len(line) > MAX_RECORD_BYTES:
        line = _encoded({**redact({**plain, CONTENT: None}), CONTENT: DROPPED})
    if line is None or len(line) > MAX_RECORD_BYTES:
        kept = {key: str(plain[key])[:1000] for key in KEPT_ALWAYS if plain.get(key) is not None}
        line = json.dumps({**redact(kept), "schema_version": SCHEMA_VERSION, CONTENT: DROPPED}).encode()
    return line + b"\n"


def _encoded(value: Any) -> bytes | None:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    except (ValueError, TypeError):  # NaN, half a character, and what else is no JSON
        return None


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def repair(folder: Path) -> list[Path]:
    """Take the unfinished last lines out of files that nobody writes any more; returns those files.

    Raises:
        OSError: a file cannot be read or written.
    """
    mended = []
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("r+b") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue  # its process is there, and may be in the middle of a line
            if torn := _torn(file.fileno()):
                _keep_torn(path.with_suffix(TORN), torn)
                file.truncate(os.fstat(file.fileno()).st_size - len(torn))
                os.fsync(file.fileno())
                logger.warning("%s: its last line was never finished; it is in %s now", path, path.stem + TORN)
                mended.append(path)
    return mended


def _torn(descriptor: int) -> bytes:
    """What stands behind the last end of a line."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return b""
    end = _end_of_last_line(descriptor, size)
    return os.pread(descriptor, size - end, end)


def _keep_torn(path: Path, torn: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        _write_all(descriptor, torn + b"\n")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end_of_last_line(descriptor: int, size: int) -> int:
    """Where the last whole line ends; 0 without one."""
    piece = 64 * 1024
    for start in range((size - 1) // piece * piece, -1, -piece):
        found = os.pread(descriptor, min(piece, size - start), start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
    return 0


@dataclass
class ReadSessions:
    """What was passed over while reading."""

    torn: int = 0
    """Last lines without their end."""
    damaged: list[str] = field(default_factory=list)
    """`file:line` of lines that are no record."""


def read_sessions(
    folder: Path,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    where: Mapping[str, Any] | None = None,
    keep: Callable[[Mapping[str, Any]], bool] | None = None,
    told: ReadSessions | None = None,
) -> Iterator[dict[str, Any]]:
    """Records of all processes, file by file; a session that was written twice comes twice, the later one behind.

    Args:
        since, until: of `ended_at`; until is excluded. A record without an end is in no interval.
        where: fields and the values that they must have, such as {"release_channel": "canary", "arm": "candidate"}.
        keep: whether to give a record out.
        told: is filled with what was passed over.

    Raises:
        OSError: a file cannot be read.
    """
    told = told if told is not None else ReadSessions()
    first = since.astimezone(UTC).date().isoformat() if since is not None else ""
    for path in sorted(folder.glob(f"*{SUFFIX}")):
        # a record stands in the file of the day on which it was written, which is never before its end
        if not DAY.match(path.name) or path.name[:10] < first:
            continue
        for number, line in _lines(path, told):
            record = _record(line)
            if record is None:
                told.damaged.append(f"{path.name}:{number}")
                continue
            if not _is_between(record.get("ended_at"), since, until):
                continue
            if any(record.get(key) != value for key, value in (where or {}).items()):
                continue
            if keep is None or keep(record):
                yield record


def _lines(path: Path, told: ReadSessions) -> Iterator[tuple[int, bytes]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                told.torn += 1
                return
            if line.strip():
                yield number, line


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and "schema_version" in found else None


def _is_between(ended_at: Any, since: datetime | None, until: datetime | None) -> bool:
    if since is None and until is None:
        return True
    try:
        at = datetime.fromisoformat(ended_at)
        return (since is None or at >= since) and (until is None or at < until)
    except (TypeError, ValueError):
        return False


def forget(folder: Path, *, before: datetime) -> int:
    """Delete the files of days that were over before then, and what was torn out of them; returns how many.

    What is kept of users should not be kept for ever. A file that is being written is never so old.

    Raises:
        OSError: a file cannot be deleted.
    """
    last = before.astimezone(UTC).date().isoformat()
    old = [path for path in folder.iterdir() if DAY.match(path.name) and path.suffix in (SUFFIX, TORN)]
    gone = [path for path in old if path.name[:10] < last]
    for path in gone:
        path.unlink(missing_ok=True)
    return len(gone)
