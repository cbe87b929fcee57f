"""Whether a run can be kept, or gone on with, at a place: asked before anything is loaded, and when it is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from agentrl.disk import PARTIAL
from agentrl.errors import CheckpointError
from agentrl.runs.files import CHECKPOINTS, CONFIG, MANIFEST, ROLLOUTS
from agentrl.runs.identity import identity_changes, refuse_changes
from agentrl.runs.lock import LOCK, RunLock


def check_place(path: Path, *, resume: bool) -> None:
    """Find out before anything is loaded that `create`, or `open`, would be refused; writes nothing.

    Raises:
        CheckpointError: as they do.
    """
    if resume:
        if not (path / CONFIG).is_file() or not (path / MANIFEST).is_file():
            raise CheckpointError(f"{path} holds no run to resume: leave --resume out, or name another --run-dir")
        there = path
    else:
        refuse_if_used(path)
        there = nearest(path)
        if not there.is_dir():
            raise CheckpointError(f"cannot create the run directory {path}: {there} is a file")
    if not os.access(there, os.W_OK | os.X_OK):
        raise CheckpointError(f"{path} cannot be written: no permission to write in {there}")


def nearest(path: Path) -> Path:
    """The folder itself, or the first one around it that there is."""
    return next(each for each in (path, *path.absolute().parents) if each.exists())


def check_resumable(path: Path, config_yaml: str, allow_change: Sequence[str]) -> None:
    """Find out before anything is loaded that `open` would refuse the config, or that somebody works there.

    Raises:
        CheckpointError: as it does.
    """
    check_place(path, resume=True)
    RunLock.acquire(path).release()
    refuse_changes(path, identity_changes(path, config_yaml, {}), allow_change)


def refuse_if_used(path: Path, *, is_locked_by_us: bool = False) -> None:
    """What a `create` that was killed left behind (a lock file, no manifest, nothing recorded) counts as empty."""
    if not path.exists():
        return
    if not path.is_dir():
        raise CheckpointError(f"{path} is a file: choose another --run-dir")
    found = {each.name for each in path.iterdir()}
    if LOCK in found and not is_locked_by_us:
        RunLock.acquire(path).release()  # names the process that is at work
    if MANIFEST in found:
        raise CheckpointError(f"{path} already holds a run: go on in it with --resume, or choose another --run-dir")
    left_over = {LOCK, CONFIG} if LOCK in found else set()
    left_over |= {name for name in (ROLLOUTS, CHECKPOINTS) if left_over and not list(path.glob(f"{name}/*"))}
    if foreign := sorted(name for name in found - left_over if not (left_over and name.endswith(PARTIAL))):
        names = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise CheckpointError(f"{path} is not empty (it holds {names}): choose another --run-dir")


def undo_creation(path: Path) -> None:
    """Remove what `RunDirectory.create` wrote before it failed."""
    for name in (CONFIG, MANIFEST, LOCK):
        with suppress(OSError):
            (path / name).unlink()
    for name in (ROLLOUTS, CHECKPOINTS):
        with suppress(OSError):
            (path / name).rmdir()


def cannot_create(path: Path, error: OSError) -> str:
    """What to tell of it."""
    parent = next((each for each in path.absolute().parents if each.exists()), path)
    return f"cannot create the run directory {path}: {error.strerror or error} (in {parent}); choose another --run-dir"
