"""A program beside us that ends with us, whatever our end is.

It leads a process group of its own, so Ctrl-C reaches us alone. A guard process holds the read end of a pipe from us:
when we are killed without a chance to clean up, the pipe closes and the guard kills the group. Output goes to a log
file: nobody has to read it, and it cannot fill a pipe.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

STOP_SECONDS = 5.0
GUARD = "import os, signal, sys; sys.stdin.read(); os.killpg(int(sys.argv[1]), signal.SIGKILL)"


class ProcessGroup:
    """A command that was started, and whatever it starts.

    Args:
        command: program and arguments.
        log: gets the output of both streams, from its beginning.
        variables: added to our environment.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(self, command: Sequence[str], log: Path, variables: Mapping[str, str]) -> None:
        with log.open("wb") as output:
            self.leader = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
                start_new_session=True,
            )
        try:
            self._guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", GUARD, str(self.leader.pid)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except BaseException:
            self.signal(signal.SIGKILL)
            self.leader.wait()
            raise

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all of the group; harmless when it is over."""
        with suppress(ProcessLookupError, PermissionError):  # macOS refuses where only a zombie is left
            os.killpg(self.leader.pid, number)

    def stop(self) -> None:
        """End all of the group; harmless when it is over."""
        try:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.leader.wait(STOP_SECONDS)
        finally:  # a second Ctrl-C cuts the waiting short, not the stopping
            self.signal(signal.SIGKILL)
            self.leader.wait()
            self._guard.kill()
            self._guard.communicate()
