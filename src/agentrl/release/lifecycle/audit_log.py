"""The audit log: one JSON object a line, each with the hash of the line before it.

    {"entry": 2, "at": "...", "kind": "transition", ..., "prev_hash": "9f...", "hash": "4c..."}

`hash` is the sha256 of the line's canonical JSON without `hash` itself. A line that was altered, taken out or moved
breaks the chain at its place, and `verify` names it. Lines cut from the end leave a shorter chain that is whole: that
is seen only against what is kept elsewhere, an anchor (`anchors.py`) or the database's own list of entries.

Writers on one machine wait for one another by a lock of the kernel, which ends with its process however that ended.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentrl.disk import sync
from agentrl.errors import ReleaseError
from agentrl.strict_json import canonical_json, strict_json

FIRST = "0" * 64
"""The `prev_hash` of the first line."""
LOCK = "audit.lock"


@dataclass(frozen=True)
class Entry:
    """One line."""

    number: int
    """From 1; also its line in the file."""
    hash: str
    body: Mapping[str, Any]
    """All of it, as JSON."""


class ChainError(ReleaseError):
    """A line does not follow from the one before it."""

    def __init__(self, path: Path, line: int, found: str) -> None:
        super().__init__(f"{path}:{line}: {found}")
        self.line = line


def hash_of(body: Mapping[str, Any]) -> str:
    """sha256 of an entry, in hex, of everything but its own hash."""
    return hashlib.sha256(canonical_json({k: v for k, v in body.items() if k != "hash"})).hexdigest()


def iso(at: float) -> str:
    """Seconds since 1970 as ISO 8601 in UTC, to the microsecond."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")


def read_entries(path: Path) -> list[Entry]:
    """All lines of a log that is whole; a torn last line, which no change was ever made of, is left out.

    Raises:
        ChainError: a line was altered, is missing, or stands elsewhere than it was written.
        ReleaseError: the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read ({error.strerror or error})") from error
    entries: list[Entry] = []
    previous = FIRST
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        entry = _entry(path, number, line, previous)
        entries.append(entry)
        previous = entry.hash
    return entries


def torn_tail(path: Path) -> bytes:
    """What stands after the last whole line: a writer was killed there."""
    try:
        return path.read_bytes().rpartition(b"\n")[2]
    except FileNotFoundError:
        return b""


def _entry(path: Path, number: int, line: bytes, previous: str) -> Entry:
    try:
        body = strict_json(line.decode("utf-8"))
    except ValueError as error:
        raise ChainError(path, number, f"altered: no JSON any more ({error})") from None
    if not isinstance(body, dict) or not isinstance(body.get("hash"), str):
        raise ChainError(path, number, "altered: no entry of an audit log")
    if body["hash"] != hash_of(body):
        raise ChainError(path, number, "altered: its hash is not that of its content")
    if body.get("prev_hash") != previous:
        found = body.get("entry")
        where = f"entry {found} stands where entry {number} belongs" if found != number else "it follows another line"
        raise ChainError(path, number, f"a line is missing or moved before it: {where}")
    if body.get("entry") != number:
        raise ChainError(path, number, f"it says that it is entry {body.get('entry')}")
    return Entry(number, body["hash"], body)


class AuditLog:
    """The log, locked for its one writer: see `locked_log`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = read_entries(path)

    @property
    def head(self) -> str:
        """Hash of the last line."""
        return self.entries[-1].hash if self.entries else FIRST

    def append(self, body: Mapping[str, Any]) -> Entry:
        """Write one more line, and see it on the disk; returns it with its number and its hashes.

        Raises:
            ReleaseError: it could not be written; nothing of it is left.
        """
        number = len(self.entries) + 1
        whole: dict[str, Any] = {"entry": number, **body, "prev_hash": self.head}
        whole["hash"] = hash_of(whole)
        line = canonical_json(whole) + b"\n"
        try:
            self._write(line)
        except OSError as error:
            raise ReleaseError(
                f"{self.path}: the audit log cannot be written ({error.strerror or error}); nothing was changed"
            ) from error
        # as a later reader of the file will have it
        entry = Entry(number, whole["hash"], strict_json(line.decode()))
        self.entries.append(entry)
        return entry

    def _write(self, line: bytes) -> None:
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            content_ends = self._size_of_whole_lines()
            try:
                os.ftruncate(descriptor, content_ends)  # a torn line was never applied, and is nobody's
                os.lseek(descriptor, content_ends, os.SEEK_SET)
                left = memoryview(line)
                while left:
                    left = left[os.write(descriptor, left) :]
                os.fsync(descriptor)
            except OSError:
                _cut(descriptor, content_ends)
                raise
        finally:
            os.close(descriptor)
        if is_new:
            sync(self.path.parent)

    def _size_of_whole_lines(self) -> int:
        content = self.path.read_bytes()
        return content.rfind(b"\n") + 1


def _cut(descriptor: int, size: int) -> None:
    """After a line that could not be written whole: where this fails too, the next writer does it."""
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    except OSError:
        return


@contextmanager
def locked_log(path: Path) -> Iterator[AuditLog]:
    """The log, with every other writer of this machine waiting.

    Raises:
        ReleaseError: its folder cannot be written, or the log is not whole.
    """
    try:
        descriptor = os.open(path.with_name(LOCK), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ReleaseError(f"{path.with_name(LOCK)}: cannot be opened ({error.strerror or error})") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield AuditLog(path)
    finally:
        os.close(descriptor)


def check_writable(path: Path) -> None:
    """See whether a line could be written now: the log is opened, and a file beside it written to disk.

    Raises:
        ReleaseError: it could not.
    """
    probe = path.with_name("audit.probe")
    try:
        os.close(os.open(path, os.O_WRONLY))
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, b" " * 4096)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ReleaseError(f"{path}: the audit log cannot be written ({error.strerror or error})") from error
