"""One process at a time in a run directory.

The lock is the kernel's (flock), so it is gone with its process however that ended; the file's text only tells people
who holds it. The file stays behind after release: removing it would race with the next process that opens it.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from agentrl.errors import CheckpointError

LOCK = "run.lock"


class RunLock:
    """Held from `acquire` to `release`, or to the end of the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    @classmethod
    def acquire(cls, run: Path) -> RunLock:
        """Locks `run` or says who works in it.

        Raises:
            CheckpointError: a live process holds the lock.
            OSError: the file cannot be made, or the file system has no locks.
        """
        descriptor = os.open(run / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            holder = {
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(holder).encode(), 0)
        except BlockingIOError:
            text = os.pread(descriptor, 4096, 0)
            os.close(descriptor)
            raise CheckpointError(_in_use(run, text)) from None
        except BaseException:
            os.close(descriptor)
            raise
        return cls(descriptor)

    @property
    def is_held(self) -> bool:
        return self._descriptor is not None

    def is_of(self, run: Path) -> bool:
        """Whether `run` is still the directory that was locked: neither deleted nor replaced."""
        if self._descriptor is None:
            return False
        try:
            found, held = os.stat(run / LOCK), os.fstat(self._descriptor)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def release(self) -> None:
        """Frees the directory; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _in_use(run: Path, text: bytes) -> str:
    try:
        holder = json.loads(text)
        who = f"pid {holder['pid']} on {holder['host']} since {holder['since']}"
    except (ValueError, KeyError, TypeError):  # the holder is between taking the lock and writing its name
        who = "another process"
    return (
        f"{run} is in use by {who}: choose another --run-dir, or stop that process and go on in the directory"
        " with --resume"
    )
