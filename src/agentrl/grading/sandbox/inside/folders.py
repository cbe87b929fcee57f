"""A grade's folder on the machine's disk, where it has no file system of its own: what is in it, and its removal.

The code that wrote it may have meant harm: folders nested beyond every path, folders that nobody may read, files
without a name. Nothing here recurses, follows a link, or takes a folder that it cannot read for an empty one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys

MAX_FILES = 20_000
"""Folders included."""
IN_VAIN = 3
"""Rounds in which nothing could be removed, until the rest is left."""


def bytes_in(folder: str) -> int:
    """On disk, of files with names; what has too many entries or cannot be looked through counts as endless."""
    total, seen, folders = 0, 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if (seen := seen + 1) > MAX_FILES:
                        return sys.maxsize
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except (FileNotFoundError, NotADirectoryError):
            continue  # it went away meanwhile
        except OSError:
            return sys.maxsize
    return total


def bytes_written(pid: int) -> int:
    """By a process, for the disk to keep, in files with a name or without; 0 where nobody counts."""
    try:
        with open(f"/proc/{pid}/io", encoding="ascii") as file:
            counts = {key: int(count) for key, count in (line.split(": ") for line in file)}
    except OSError:
        return 0
    return counts.get("write_bytes", 0) - counts.get("cancelled_write_bytes", 0)


def threads_of(pid: int) -> int:
    """How many a process has; 0 where that cannot be seen."""
    try:
        return os.stat(f"/proc/{pid}/task").st_nlink - 2
    except OSError:
        return 0


def remove(folder: str) -> None:
    """Remove a folder whose owner has ended; what resists is left.

    Folders within folders are moved to the top, so that none is too deep.
    """
    try:
        top = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        in_vain = 0
        while in_vain < IN_VAIN and (names := os.listdir(top)):
            in_vain = 0 if sum([_remove_in(top, name) for name in names]) else in_vain + 1
    except OSError:
        pass
    finally:
        os.close(top)
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def _remove_in(top: int, name: str) -> bool:
    """Remove an entry, or empty it by one level; whether anything came of it."""
    try:
        os.unlink(name, dir_fd=top)
        return True
    except OSError:
        pass
    has_moved = False
    try:
        inner = _opened(top, name)
        try:
            for each in os.listdir(inner):
                try:
                    os.unlink(each, dir_fd=inner)
                except OSError:
                    os.close(_opened(inner, each))
                    os.rename(each, secrets.token_hex(16), src_dir_fd=inner, dst_dir_fd=top)
                has_moved = True
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=top)
    except OSError:
        return has_moved
    return True


def _opened(parent: int, name: str) -> int:
    """A folder, made readable and writable to its owner first."""
    path = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    try:
        os.chmod(f"/proc/self/fd/{path}", 0o700)
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY, dir_fd=path)
    finally:
        os.close(path)
