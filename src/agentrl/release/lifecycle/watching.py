"""One controller at a time: a lock of the kernel beside the audit log, gone with its process however that ended."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agentrl.errors import ReleaseError
from agentrl.release.lifecycle.audit_log import iso
from agentrl.release.lifecycle.sight import Clocks
from agentrl.release.place import ReleasePlace


def lock_path(place: ReleasePlace) -> Path:
    """Of the workflow: several may share a folder."""
    return place.folder / f"controller-{hashlib.sha256(place.workflow.encode()).hexdigest()[:8]}.lock"


@contextmanager
def watching(place: ReleasePlace) -> Iterator[None]:
    """Be the one controller of the workflow until the block ends.

    Raises:
        ReleaseError: another process is; the message says which.
    """
    path = lock_path(place)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be opened ({error.strerror or error})") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ReleaseError(
                f"{place.workflow} is watched by {_holder(descriptor)}: one controller acts at a time"
            ) from None
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": iso(Clocks().wall())}
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _holder(descriptor: int) -> str:
    try:
        found = json.loads(os.pread(descriptor, 4096, 0))
        return f"pid {found['pid']} on {found['host']} since {found['since']}"
    except (ValueError, KeyError, TypeError):  # it is between taking the lock and writing its name
        return "another process"
