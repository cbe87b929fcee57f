"""Programs that run beside us, end with us whatever our end is, and may be killed as crashes kill."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from agentrl.errors import ReleaseError
from agentrl.process_group import ProcessGroup

READY = re.compile(r"\bon (https?://[^\s,]+)[\s,]")  # what is behind it: a line half written is no address
POLL_SECONDS = 0.02
LOG_LINES = 15


class Program:
    """A command that was started; leads a process group of its own. Use it as a context: it is stopped at its end.

    Args:
        name: in messages.
        command: program and arguments; the first `python` is the running interpreter.
        log: gets its output.
        variables: added to its environment.

    Raises:
        ReleaseError: it cannot be started.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, *, variables: Mapping[str, str] | None = None
    ) -> None:
        self.name, self.log = name, log
        words = [sys.executable if word == "python" else word for word in command]
        try:
            self._group = ProcessGroup(words, log, variables or {})
        except OSError as error:
            raise ReleaseError(f"{name}: cannot be started ({error.strerror or error})") from error

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._group.leader.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._group.leader.poll()

    def addresses(self, count: int = 1, *, seconds: float = 60.0) -> list[str]:
        """The first `count` addresses that it says it answers on (`... on http://...`), without a slash at the end.

        Raises:
            ReleaseError: it ended, or did not listen in time; with its last words.
        """
        deadline = time.monotonic() + seconds
        while True:
            ended = self.exit_code  # before reading, so that an ended program's last words are in the log
            found = READY.findall(self.log.read_text("utf-8", "replace"))
            if ended is None and len(found) >= count:
                return [address.rstrip("/") for address in found[:count]]
            if ended is not None:
                raise ReleaseError(f"{self.name} ended with exit code {ended}{self.last_words()}")
            if time.monotonic() > deadline:
                raise ReleaseError(f"{self.name} said no address within {seconds:g} s{self.last_words()}")
            time.sleep(POLL_SECONDS)

    def check(self) -> None:
        """See that it runs.

        Raises:
            ReleaseError: it ended; with its last words.
        """
        if (ended := self.exit_code) is not None:
            raise ReleaseError(f"{self.name} ended with exit code {ended}{self.last_words()}")

    def kill(self) -> None:
        """End it as a crash or the kernel does: at once, without a word."""
        self._group.signal(signal.SIGKILL)
        self._group.leader.wait()

    def stop(self) -> None:
        """End it, and whatever it started; harmless when it is over."""
        self._group.stop()

    def last_words(self) -> str:
        """The end of its output, indented, behind a colon and a line break."""
        lines = self.log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:] or ["(nothing)"]
        return "; its last output:\n" + "\n".join(f"  {line}" for line in lines)
