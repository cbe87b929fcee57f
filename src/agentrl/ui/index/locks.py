"""Which runs a process works in now, found out without touching their locks.

Taking a lock to see whether it is free would, for that moment, keep a trainer out of its own run.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from pathlib import Path

from agentrl.runs.files import METRICS, ROLLOUTS, SUMMARY
from agentrl.runs.lock import LOCK
from agentrl.ui.index.places import open_plain

KERNEL_LOCKS = Path("/proc/locks")
QUIET_SECONDS = 900.0
"""A run of another machine that has written nothing for so long counts as left."""

_HELD = re.compile(r"^\d+: FLOCK\s+\S+\s+WRITE\s+(\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ", re.M)


class HeldLocks:
    """The locks of this machine at one moment; ask for as many runs as there are."""

    def __init__(self) -> None:
        try:
            text: str | None = KERNEL_LOCKS.read_text()
        except OSError:  # another system than Linux
            text = None
        self._held = None if text is None else {_lock(*found.groups()) for found in _HELD.finditer(text)}

    def is_held(self, run: Path) -> bool:
        """Whether a live process has locked the run, as far as can be told from here."""
        try:
            with open_plain(run / LOCK) as file:
                facts, text = os.fstat(file.fileno()), file.read(4096)
        except OSError:
            return False
        holder = _holder(text)
        if holder.get("host") not in (None, socket.gethostname()):
            return _is_written(run)
        pid = holder.get("pid")
        if self._held is None:
            return isinstance(pid, int) and _is_alive(pid)
        device = (os.major(facts.st_dev), os.minor(facts.st_dev))
        # some file systems tell the kernel another device than they tell us: then the holder's name decides
        return any(
            inode == facts.st_ino and (found == device or holding == pid) for holding, found, inode in self._held
        )


def _lock(pid: str, major: str, minor: str, inode: str) -> tuple[int, tuple[int, int], int]:
    return int(pid), (int(major, 16), int(minor, 16)), int(inode)


def _holder(text: bytes) -> dict[str, object]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _is_written(run: Path) -> bool:
    """Whether something was written of late, and no summary since the lock was taken, with which a run ends."""
    written = {name: found for name in (LOCK, METRICS, ROLLOUTS, SUMMARY) if (found := _written_at(run / name))}
    has_ended = written.get(SUMMARY, 0.0) >= written.get(LOCK, 0.0)
    return not has_ended and time.time() - max(written.values(), default=0.0) < QUIET_SECONDS


def _written_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
