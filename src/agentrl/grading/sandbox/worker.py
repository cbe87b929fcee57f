"""A worker from outside: started, asked for one grade at a time, and ended with everything in it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from agentrl.grading.sandbox.inside import MODULES, folders
from agentrl.grading.sandbox.view import View

INSIDE = Path(__file__).with_name("inside")
PACKAGE = "agentrl.grading.sandbox.inside"
START_SECONDS = 60.0
"""For the interpreter and the packages that are imported beforehand."""
GRACE_SECONDS = 5.0
"""A worker keeps its own time limit; one that has not answered this much later is killed."""
HEADER = struct.Struct("<BBiI")
LENGTH = struct.Struct("<I")
BOOTSTRAP = f"""
import json, os, sys, types
def read(n):
    data = b""
    while len(data) < n:
        part = os.read(0, n - len(data))
        if not part: os._exit(0)
        data += part
    return data
setup = json.loads(read(int.from_bytes(read(4), "little")))
package = sys.modules["{PACKAGE}"] = types.ModuleType("{PACKAGE}")
package.__path__ = []
for name, text in setup.pop("modules"):
    module = sys.modules["{PACKAGE}." + name] = types.ModuleType("{PACKAGE}." + name)
    setattr(package, name, module)
    exec(compile(text, name, "exec"), module.__dict__)
try:
    package.zygote.main(setup)
except BaseException as error:
    package.zygote.failed(error)
"""
"""The whole program of a worker; its modules arrive as text, because agentrl's files are not visible inside."""
ENVIRONMENT = {"LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""All of it. A hash seed, so that the order of a set is the same in every worker."""


class Level(StrEnum):
    """How a grade is kept apart, the strongest first."""

    BUBBLEWRAP = "bubblewrap"
    NAMESPACES = "namespaces"
    LANDLOCK = "landlock"
    UNISOLATED = "unisolated"


@dataclass(frozen=True)
class Limits:
    """Of one grade."""

    seconds: float = 120.0
    """From the start of its execution."""
    memory_mb: int = 2048
    disk_mb: int = 1024
    files: int = 256
    """Open at once."""
    tasks: int = 64
    """Threads; there are no further processes. A whole worker counts, so a few are its own."""


@dataclass(frozen=True)
class Outcome:
    """What became of one grade, read strictly: whatever a child wrote, it is one of these."""

    score: float | None = None
    details: str = ""
    """Why there is no score."""
    is_graders_fault: bool = False
    """The code raised, or returned no number; otherwise a limit, or the sandbox, ended it."""
    seconds: float = 0.0


class WorkerError(Exception):
    """A worker could not start, or has ended."""


class Worker:
    """One process tree in a sandbox; not for several threads at once, `close` excepted.

    Args:
        preload: modules imported once; the code that a grader brings is run in children only.
    """

    def __init__(self, level: Level, source: str, limits: Limits, preload: Iterable[str] = ()) -> None:
        self.level, self._limits = level, limits
        view = View.of_this_interpreter()
        self._scratch = ""
        if level in (Level.LANDLOCK, Level.UNISOLATED):
            self._scratch = tempfile.mkdtemp(prefix="agentrl-grades-", dir=view.scratch)
            view = replace(view, scratch=self._scratch)
        modules = [(name, (INSIDE / f"{name}.py").read_text("utf-8")) for name in MODULES]
        setup: dict[str, Any] = {"level": level, "view": view.as_dict(), "limits": asdict(limits), "source": source}
        setup |= {"preload": list(preload), "modules": modules}
        self._process = subprocess.Popen(
            _command(level, view),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,  # what bwrap or the interpreter say when they cannot start; grades have none
            env=ENVIRONMENT,
            cwd="/",
            start_new_session=True,
            bufsize=0,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._into, self._out_of = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._into, False)
        os.set_blocking(self._out_of, False)
        try:
            deadline = time.monotonic() + START_SECONDS
            body = json.dumps(setup).encode()
            told = json.loads(self._exchange(LENGTH.pack(len(body)) + body, deadline, _text_length))
            if not told["ready"]:
                raise WorkerError(told["why"])
        except (WorkerError, ValueError, KeyError) as error:
            said = self._last_words()
            self.close()
            raise WorkerError(f"sandbox {level}: a worker could not start: {error}{said}") from None
        self.landlock_version: int = told["landlock"]

    def __repr__(self) -> str:
        return f"Worker({self.level.value!r}, pid={self.pid}, alive={self.is_alive})"

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        if self._process.returncode is not None:
            return False
        # not reaped here: as long as it is not, its process group is no other's, and can be killed
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def grade(self, request: bytes) -> Outcome:
        """Run the code on the JSON of `[sample, item]`.

        Raises:
            WorkerError: the worker was dead already, and nothing has been run: another one may be asked.
        """
        if not self.is_alive:
            raise WorkerError("the worker has ended")
        started = time.monotonic()
        deadline = started + self._limits.seconds + GRACE_SECONDS
        try:
            answer = self._exchange(LENGTH.pack(len(request)) + request, deadline, _reply_length, header=HEADER.size)
        except WorkerError as error:
            self.close()
            return Outcome(details=f"the worker {error}", seconds=time.monotonic() - started)
        ending, is_in_order, exit_code, _ = HEADER.unpack(answer[: HEADER.size])
        if not is_in_order:
            self.close()
        outcome = self._read(ending, exit_code, answer[HEADER.size :])
        return replace(outcome, seconds=time.monotonic() - started)

    def kill(self) -> None:
        """End the worker and all that is in it, at once; may be called from any thread."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """The same, and give back what the worker held here."""
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()
        self.tidy()

    def tidy(self) -> None:
        """Remove what a worker that has been killed left on disk."""
        if self._scratch:
            folders.remove(self._scratch)

    def _last_words(self) -> str:
        """What bwrap or the interpreter complained about, in parentheses."""
        assert self._process.stderr is not None
        os.set_blocking(self._process.stderr.fileno(), False)
        said = (self._process.stderr.read() or b"").decode(errors="replace").strip()
        return f" ({said[-300:]})" if said else ""

    def _read(self, ending: int, exit_code: int, text: bytes) -> Outcome:
        limits = self._limits
        if ending == 1:
            return Outcome(details=f"stopped at the time limit of {limits.seconds:g} seconds")
        if ending == 2:
            return Outcome(details="stopped: it wrote where only the result is written")
        if ending == 3:
            return Outcome(details=f"stopped: more than {limits.disk_mb} MB in files")
        if ending == 4:
            return Outcome(details=f"stopped: more than {limits.tasks} threads")
        if exit_code < 0:
            return Outcome(details=f"killed by {_signal_name(-exit_code)}")
        if exit_code or not text:
            return Outcome(details=f"ended with exit code {exit_code} and without a result")
        return parse_reply(text)

    def _exchange(
        self, message: bytes, deadline: float, length_of: Callable[[bytes], int], header: int = LENGTH.size
    ) -> bytes:
        """Write a message while reading the answer: a header, and as much as `length_of` says that it announces."""
        to_write, answer, wanted = memoryview(message), b"", header
        poll = select.poll()
        poll.register(self._out_of, select.POLLIN)
        if to_write:
            poll.register(self._into, select.POLLOUT)
        while len(answer) < wanted:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                raise WorkerError("did not answer in time and was killed")
            for fd, _ in poll.poll(1000 * remaining):
                if fd == self._into:
                    try:
                        to_write = to_write[os.write(fd, to_write) :]
                    except BlockingIOError:
                        continue
                    except OSError:
                        to_write = to_write[:0]
                    if not to_write:
                        poll.unregister(fd)
                    continue
                part = os.read(fd, 1 << 16)
                if not part:
                    raise WorkerError("ended")
                answer += part
                if len(answer) >= header and wanted == header:
                    wanted += length_of(answer[:header])
        return answer if header == HEADER.size else answer[header:]


def parse_reply(text: bytes) -> Outcome:
    """The JSON that a child wrote; the code under test may have written it itself, so nothing in it is believed."""
    try:
        reply = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        reply = None
    match reply:
        case {"score": float(score), **rest} if not rest:
            finite = score == score and abs(score) != float("inf")
            return Outcome(score) if finite else Outcome(details="it gave a score that is no finite number")
        case {"error": str(kind), "details": str(details), **rest} if not rest:
            return Outcome(details=details, is_graders_fault=kind == "runtime")
    return Outcome(details=f"it gave a result that cannot be read ({len(text)} bytes)")


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _text_length(header: bytes) -> int:
    return int(LENGTH.unpack(header)[0])


def _reply_length(header: bytes) -> int:
    return int(HEADER.unpack(header)[3])


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _command(level: Level, view: View) -> list[str]:
    python = [view.executable, "-S", "-s", "-P", "-B", "-W", "ignore", "-c", BOOTSTRAP]
    if level is not Level.BUBBLEWRAP:
        return python
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise WorkerError("bwrap is not installed")
    words = [bwrap, "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    if os.geteuid() == 0:
        # to map the user nobody, and to own namespaces where only root may; all are given up before any grade
        words += [
            word for name in ("SETUID", "SETGID", "SETFCAP", "SYS_ADMIN") for word in ("--cap-add", f"CAP_{name}")
        ]
    else:
        words += ["--unshare-user"]
    words += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    places = [*view.read_only, *view.devices]
    parents = {str(parent) for path in places for parent in Path(path).parents if parent != Path("/")}
    for folder in sorted(parents):  # as bwrap makes them, only root could pass through
        words += ["--perms", "0755", "--dir", folder]
    for path in view.read_only:
        words += ["--ro-bind", path, path]
    for device in view.devices:
        words += ["--dev-bind", device, device]
    for path, points_to in view.links:
        words += ["--symlink", points_to, path]
    return [*words, "--proc", "/proc", "--dir", view.tmp, "--remount-ro", "/", "--chdir", "/", *python]
