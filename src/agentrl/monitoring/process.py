"""A process that takes messages, one JSON line each, and answers each in time or is given up."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

FOR_RANKS = re.compile(r"RANK$|WORLD_SIZE$|^MASTER_|^(PMI|MPI|OMPI|MV2)_")
"""Variables by which a program would take itself for one of the ranks that train."""
NICENESS = 10
"""What it takes to load a tracker's library, some seconds of a core, comes after what the run needs."""
END_SECONDS = 5.0
LOG_BYTES = 1_000_000


class GivenUp(Exception):
    """The process takes no further message; why, is the message."""


class ReceivingProcess:
    """Started at once, in a session of its own: Ctrl-C is for the run, which then says what is to be done.

    Args:
        command: its program, see `receiver.serve`.
        log: what it prints goes there, behind what is there.

    Raises:
        GivenUp: it cannot be started.
    """

    def __init__(self, command: Sequence[str], log: Path | None = None) -> None:
        environment = {name: value for name, value in os.environ.items() if not FOR_RANKS.search(name)}
        environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with suppress(OSError):  # a disk that is full has been told of elsewhere
            if log is not None and log.exists() and log.stat().st_size > LOG_BYTES:
                log.unlink()
        try:
            with open(log or os.devnull, "ab") as output:
                self._process = subprocess.Popen(
                    list(command),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    env=environment,
                    start_new_session=True,
                )
            assert self._process.stdin is not None
            os.set_blocking(self._process.stdin.fileno(), False)
        except OSError as error:
            raise GivenUp(f"its process cannot be started ({error.strerror or error})") from error
        with suppress(OSError, AttributeError):  # the latter where there are no priorities
            os.setpriority(os.PRIO_PROCESS, self._process.pid, NICENESS)

    def ask(self, message: Mapping[str, Any], seconds: float) -> Mapping[str, Any]:
        """Send a message; its answer.

        Raises:
            GivenUp: there is none within these seconds, or the process ended.
        """
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        deadline, line = time.monotonic() + seconds, b""
        unsent = json.dumps({"seconds": seconds, **message}).encode() + b"\n"

        def wait_for(stream: IO[bytes], event: int) -> None:
            waiting, left = select.poll(), deadline - time.monotonic()
            waiting.register(stream, event)
            if left <= 0 or not waiting.poll(1000 * left):
                raise GivenUp(f"no answer within {seconds:g} s")

        try:
            while unsent:  # a pipe holds less than a config may be, and who hangs takes nothing out
                wait_for(stdin, select.POLLOUT)
                unsent = unsent[os.write(stdin.fileno(), unsent) :]
            while not line.endswith(b"\n"):
                wait_for(stdout, select.POLLIN)
                if not (part := os.read(stdout.fileno(), 1 << 16)):
                    raise GivenUp(f"its process ended{self._code()}")
                line += part
            answer: Mapping[str, Any] = json.loads(line)
        except (OSError, ValueError) as error:  # it was killed, perhaps by us, or answers what is no answer
            raise GivenUp(f"its process ended{self._code()} ({type(error).__name__})") from error
        return answer

    def end(self) -> None:
        """Kill it and whatever it started; harmless when it is over."""
        with suppress(ProcessLookupError, PermissionError):  # the latter on macOS, where only a zombie is left
            os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def _code(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            return f" with code {self._process.wait(1.0)}"
        return ""
