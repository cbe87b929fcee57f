"""The process that waits, warm, and forks a child for each grade: no code of the grader ever runs in it.

It never holds a sample either: a child reads its own request off the pipe, and its reply passes through one buffer that
is wiped after every grade. So there is nothing of one grade that the next could find.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import resource
import select
import shutil
import signal
import struct
import sys
import tempfile
import time
import types
from typing import Any, NoReturn

from agentrl.grading.sandbox.inside import child, kernel, landlock, namespaces, syscall_filter

REPLY_BYTES = 1 << 14
"""Longest reply that is read of a child, its first byte included."""
ANSWERED, TOO_LATE, TOO_LONG, TOO_LARGE = range(4)
"""How a grade ended: by itself, at its time limit, with too long a reply, or with too many bytes in its files."""
HEADER = struct.Struct("<BBiI")
"""To the trainer: how it ended, whether the pipe is in order, the exit code, and the length of what the child wrote."""
LENGTH = struct.Struct("<I")
"""Before every message to a worker."""
LOOK_SECONDS = 0.2
"""Where no file system of a fixed size is to be had: how often the bytes in files are counted."""


def main(setup: dict[str, Any]) -> NoReturn:
    """Move in, say so, and grade until the trainer's end of the pipe is closed.

    Args:
        setup: `level`, `view`, `limits`, `source` and `preload`; see `agentrl.grading.sandbox.worker`.
    """
    level, limits, view = setup["level"], setup["limits"], setup["view"]
    has_namespaces = level in ("bubblewrap", "namespaces")
    room: dict[str, Any] = {"limits": limits, "view": view, "tmp": namespaces.TMP, "has_namespaces": has_namespaces}
    room["has_landlock"] = level != "unisolated" and landlock.version() > 0
    room["filter"] = syscall_filter.Filter(has_own_root=has_namespaces) if level != "unisolated" else None
    room["counts_tasks"] = has_namespaces and tuple(map(int, os.uname().release.split(".")[:2])) >= (5, 14)
    room["user"] = os.geteuid()
    pid_namespace = -1
    if has_namespaces:
        pid_namespace, room["user"] = namespaces.enter_namespaces(view, has_own_root=level == "bubblewrap")
    elif level == "landlock" and not room["has_landlock"]:
        raise OSError("the kernel has no landlock")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = 1024 if hard == resource.RLIM_INFINITY else min(hard, 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    kernel.bound_capabilities()
    os.environ.update(HOME=namespaces.TMP, TMPDIR=namespaces.TMP)
    sys.path[:] = view["import_paths"]
    sys.prefix = sys.exec_prefix = view["prefix"]
    for name in setup["preload"]:
        with contextlib.suppress(BaseException):  # the grader is told when it imports it
            __import__(name)
    code = compile(setup["source"], child.FILE_NAME, "exec", dont_inherit=True)
    gc.freeze()
    _say({"ready": True, "landlock": landlock.version() if room["has_landlock"] else 0, "tasks": room["counts_tasks"]})
    buffer = bytearray(REPLY_BYTES)
    while True:
        header = os.read(0, LENGTH.size)
        if len(header) < LENGTH.size:
            os._exit(0)
        if not _grade(code, LENGTH.unpack(header)[0], room, pid_namespace, buffer):
            os._exit(1)


def failed(error: BaseException) -> NoReturn:
    """Moving in failed: the trainer is told why."""
    _say({"ready": False, "why": f"{type(error).__name__}: {error}"})
    os._exit(1)


def _say(message: dict[str, Any]) -> None:
    text = json.dumps(message).encode()
    os.write(1, LENGTH.pack(len(text)) + text)


def _grade(code: types.CodeType, n_bytes: int, room: dict[str, Any], pid_namespace: int, buffer: bytearray) -> bool:
    """One grade in a child of its own; False where the pipe is out of order afterwards."""
    reading, writing = os.pipe()
    if not room["has_namespaces"]:
        room = {**room, "tmp": os.path.realpath(tempfile.mkdtemp(prefix="agentrl-grade-", dir=room["view"]["scratch"]))}
    if pid_namespace >= 0:
        kernel.unshare(kernel.CLONE_NEWPID)
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        child.run(code, n_bytes, writing, room)
    os.close(writing)
    if pid_namespace >= 0:
        kernel.enter(pid_namespace, kernel.CLONE_NEWPID)
    try:
        ending, length = _watch(reading, buffer, room)
    finally:
        os.close(reading)
        _kill(pid)
        status = os.waitpid(pid, 0)[1]
        if not room["has_namespaces"]:
            shutil.rmtree(room["tmp"], ignore_errors=True)
    is_in_order = length > 0 and buffer[:1] == child.READ
    said = max(length - 1, 0) if is_in_order else 0
    exit_code = os.waitstatus_to_exitcode(status)
    os.writev(1, [HEADER.pack(ending, is_in_order, exit_code, said), memoryview(buffer)[1 : 1 + said]])
    buffer[:] = bytes(REPLY_BYTES)
    return is_in_order


def _watch(reading: int, buffer: bytearray, room: dict[str, Any]) -> tuple[int, int]:
    """How a child ended, and how much of the buffer it filled; ends the worker when the trainer has gone."""
    deadline = time.monotonic() + room["limits"]["seconds"]
    counts_bytes = not room["has_namespaces"]
    view, length = memoryview(buffer), 0
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(0, 0)  # a hang-up is reported without being asked for
    while True:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            return TOO_LATE, length
        ready = poll.poll(1000 * min(remaining, LOOK_SECONDS) if counts_bytes else 1000 * remaining)
        if any(fd == 0 for fd, _ in ready):
            os._exit(0)  # and with it, by its death signal, the child
        if any(fd == reading for fd, _ in ready):
            n_read = os.readv(reading, [view[length:]])
            if n_read == 0:
                return ANSWERED, length
            length += n_read
            if length == REPLY_BYTES:
                return TOO_LONG, length
        if counts_bytes and not ready and _bytes_in(room["tmp"]) > room["limits"]["disk_mb"] << 20:
            return TOO_LARGE, length


def _bytes_in(folder: str) -> int:
    """On disk; a folder of too many entries is counted as endless."""
    total, seen, folders = 0, 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if (seen := seen + 1) > namespaces.MAX_FILES:
                        return sys.maxsize
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except OSError:
            continue  # it went away meanwhile
    return total


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
