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
import signal
import struct
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from typing import Any, NoReturn

from agentrl.grading.sandbox.inside import child, folders, kernel, landlock, namespaces, syscall_filter

REPLY_BYTES = 1 << 14
"""Longest reply that is read of a child, its first byte included."""
ANSWERED, TOO_LATE, TOO_LONG, TOO_LARGE, TOO_MANY = range(5)
"""How a grade ended: by itself, at its time limit, with too long a reply, too many bytes in files, too many threads."""
HEADER = struct.Struct("<BBiI")
"""To the trainer: how it ended, whether the pipe is in order, the exit code, and the length of what the child wrote."""
LENGTH = struct.Struct("<I")
"""Before every message to a worker."""
LOOK_SECONDS = 0.2
"""Where there are no namespaces: how often the bytes in files and the threads are counted."""


def main(setup: dict[str, Any]) -> NoReturn:
    """Move in, say so, and grade until the trainer's end of the pipe is closed.

    Args:
        setup: `level`, `view`, `limits`, `source` and `preload`; see `agentrl.grading.sandbox.worker`.
    """
    level, limits, view = setup["level"], setup["limits"], setup["view"]
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")  # when the machine runs out of memory, a grade ends and not the trainer
    has_namespaces = level in ("bubblewrap", "namespaces")
    room: dict[str, Any] = {"limits": limits, "view": view, "tmp": view["tmp"], "has_namespaces": has_namespaces}
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
    os.environ.update(HOME=view["tmp"], TMPDIR=view["tmp"])
    sys.path[:] = view["import_paths"]
    sys.prefix = sys.exec_prefix = view["prefix"]
    with _pipes_put_away():
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
            _leave(room)
        if not _grade(code, LENGTH.unpack(header)[0], room, pid_namespace, buffer):
            os._exit(1)


@contextlib.contextmanager
def _pipes_put_away() -> Iterator[None]:
    """While packages are imported: some of their modules print, and what they print is no message."""
    kept = [os.dup(fd) for fd in (0, 1)]
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1):
        os.dup2(null, fd)
    try:
        yield
    finally:
        with contextlib.suppress(BaseException):
            sys.stdout.flush()
        for fd, pipe in enumerate(kept):
            os.dup2(pipe, fd)
        for fd in (null, *kept):
            os.close(fd)


def _leave(room: dict[str, Any]) -> NoReturn:
    """The trainer has gone."""
    if not room["has_namespaces"]:
        folders.remove(room["view"]["scratch"])
    os._exit(0)


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
        ending, length = _watch(pid, reading, buffer, room)
    finally:
        os.close(reading)
        status = _end(pid, room)
    is_in_order = length > 0 and buffer[:1] == child.READ
    said = max(length - 1, 0) if is_in_order else 0
    exit_code = os.waitstatus_to_exitcode(status)
    os.writev(1, [HEADER.pack(ending, is_in_order, exit_code, said), memoryview(buffer)[1 : 1 + said]])
    buffer[:] = bytes(REPLY_BYTES)
    return is_in_order


def _watch(pid: int, reading: int, buffer: bytearray, room: dict[str, Any]) -> tuple[int, int]:
    """How a child ended, and how much of the buffer it filled; ends the worker when the trainer has gone."""
    deadline = time.monotonic() + room["limits"]["seconds"]
    look = deadline if room["has_namespaces"] else time.monotonic() + LOOK_SECONDS
    view, length = memoryview(buffer), 0
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    poll.register(0, 0)  # a hang-up is reported without being asked for
    while (now := time.monotonic()) < deadline:
        if now >= look:  # by the clock: a child that is never quiet is counted as well
            if ending := _is_beyond(pid, room):
                return ending, length
            look = time.monotonic() + LOOK_SECONDS
        ready = poll.poll(1000 * max(0.0, min(deadline, look) - now))
        if any(fd == 0 for fd, _ in ready):
            _end(pid, room)
            _leave(room)
        if any(fd == reading for fd, _ in ready):
            n_read = os.readv(reading, [view[length:]])
            if n_read == 0:
                return ANSWERED, length
            length += n_read
            if length == REPLY_BYTES:
                return TOO_LONG, length
    return TOO_LATE, length


def _is_beyond(pid: int, room: dict[str, Any]) -> int:
    """Which of the limits that are only counted a child has passed; 0 for none."""
    most = room["limits"]["disk_mb"] << 20
    if folders.bytes_written(pid) > most or folders.bytes_in(room["tmp"]) > most:
        return TOO_LARGE
    return TOO_MANY if folders.threads_of(pid) > room["limits"]["tasks"] else 0


def _end(pid: int, room: dict[str, Any]) -> int:
    """End a child and remove what it leaves; its status."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if not room["has_namespaces"]:
        folders.remove(room["tmp"])
    return status
