"""One grade in one process: lock the door, read the request, run the code, answer once, end."""

from __future__ import annotations

import json
import math
import numbers
import os
import resource
import signal
import sys
import types
from typing import Any, NoReturn

from agentrl.grading.sandbox.inside import kernel, landlock
from agentrl.grading.sandbox.inside.namespaces import NOBODY, mount_tmp

READ = b"R"
"""Sent before any code of the grader runs: the request has been taken off the pipe, which is in order."""
MAX_DETAILS = 2000
FILE_NAME = "<grader>"


def run(code: types.CodeType, n_bytes: int, reply_fd: int, room: dict[str, Any]) -> NoReturn:
    """Never returns, whatever happens: the process ends here.

    Args:
        n_bytes: length of the request, the JSON of `[sample, item]`, next on standard input.
        room: what the zygote has prepared, see `zygote.main`.
    """
    try:
        kernel.die_with_parent(signal.SIGKILL)
        request = read_exactly(0, n_bytes)
        os.write(reply_fd, READ)
        _close_the_door(reply_fd, room)
        reply = _graded(code, request)
        del request
    except MemoryError:
        reply = {"error": "memory", "details": "the sandbox ran out of memory"}
    except BaseException as error:
        reply = {"error": "sandbox", "details": f"{type(error).__name__}: {error}"[:MAX_DETAILS]}
    try:
        os.write(reply_fd, json.dumps(reply).encode())
    finally:
        os._exit(0)


def read_exactly(fd: int, n_bytes: int) -> bytes:
    """
    Raises:
        EOFError: the other side has gone.
    """
    parts = []
    while n_bytes:
        if not (part := os.read(fd, min(n_bytes, 1 << 20))):
            raise EOFError("the trainer has gone")
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


def _close_the_door(reply_fd: int, room: dict[str, Any]) -> None:
    """Everything that the code shall not have is given up, in an order in which each step can still be made."""
    limits, tmp = room["limits"], room["tmp"]
    if room["has_namespaces"]:
        mount_tmp(tmp, limits["disk_mb"], room["user"])
    os.chdir(tmp)
    os.environ.update(HOME=tmp, TMPDIR=tmp)
    os.umask(0o077)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    os.closerange(3, reply_fd)
    os.closerange(reply_fd + 1, highest)
    _limit(limits, counts_own_tasks=room["counts_tasks"])
    if room["has_namespaces"] and room["user"] == NOBODY and os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    kernel.drop_capabilities()
    kernel.die_with_parent(signal.SIGKILL)  # again: a change of user takes it back
    if room["has_landlock"]:
        view = room["view"]
        landlock.restrict(view["read_only"], [tmp], view["devices"])
    if room["filter"] is not None:
        room["filter"].install()


def _limit(limits: dict[str, Any], *, counts_own_tasks: bool) -> None:
    memory, file_size = limits["memory_mb"] << 20, limits["disk_mb"] << 20
    values = {
        resource.RLIMIT_AS: memory,
        resource.RLIMIT_FSIZE: file_size,
        resource.RLIMIT_CPU: math.ceil(limits["seconds"] * 4) + 1,
        resource.RLIMIT_NOFILE: limits["files"],
        resource.RLIMIT_CORE: 1,  # 0 would not keep the kernel from handing it to a program
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    if counts_own_tasks:
        values[resource.RLIMIT_NPROC] = limits["tasks"]
    for kind, value in values.items():
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def _graded(code: types.CodeType, request: bytes) -> dict[str, Any]:
    """What `grade` says of a sample, or how it failed."""
    sample, item = json.loads(request)
    module = types.ModuleType("grader")
    sys.modules["grader"] = module
    try:
        exec(code, module.__dict__)
        score = module.__dict__["grade"](sample, item)
        if isinstance(score, bool) or not isinstance(score, numbers.Real):
            raise TypeError(f"grade returned {type(score).__name__} {score!r:.80}; allowed: a number")
        value = float(score)
        if not math.isfinite(value):
            raise ValueError(f"grade returned {value}; allowed: a finite number")
    except MemoryError:
        return {"error": "memory", "details": "MemoryError: the grader used more memory than it may"}
    except BaseException as error:
        return {"error": "runtime", "details": _told(error)}
    return {"score": value}


def _told(error: BaseException) -> str:
    """`ValueError: no answer (line 7, in grade)`; an exception that cannot be shown is named at least."""
    name, place = type(error).__name__, ""
    try:
        trace = error.__traceback__
        while trace is not None:  # by hand: there may be millions
            if trace.tb_frame.f_code.co_filename == FILE_NAME:
                place = f" (line {trace.tb_lineno}, in {trace.tb_frame.f_code.co_name:.80})"
            trace = trace.tb_next
        return f"{name:.80}: {str(error)[:MAX_DETAILS]}{place}"
    except BaseException:
        return f"{name:.80}{place}"
