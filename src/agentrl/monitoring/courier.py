"""A courier carries what a run says to somebody else's program, and never lets the run feel what becomes of it.
A gateway has one too, for as long as it runs.

That program (a tracker's library, an exporter) may hang, crash, print, prompt, or talk to a dead server for minutes
when a process ends. So it has a process of its own, which can be killed; the run has a bounded queue and a thread that
waits in its place. What goes wrong is told once, what was lost is counted.

    run -> queue -> thread -> pipe -> process
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentrl.monitoring.process import GivenUp, ReceivingProcess
from agentrl.printable import printable

QUEUE_MESSAGES = 1000
"""That wait for a slow receiver; further ones are dropped and counted."""
MAX_REFUSALS = 5
"""In a row, until a receiver is given up: a server that is restarted may refuse a few."""
LOOK_SECONDS = 0.2
SHOWN_CHARS = 300


@dataclass(frozen=True)
class Deadlines:
    """Seconds after which a receiver is given up."""

    start: float
    message: float
    finish: float


@dataclass(frozen=True)
class Parcel:
    """A message, and how much is lost where it does not arrive."""

    message: Mapping[str, Any]
    units: int


class Courier:
    """Carries messages to one receiver, in their order.

    Args:
        name: of the receiver, for messages.
        command: its program, see `receiver.serve`.
        start: its first message.
        tell: is told what went wrong, perhaps from another thread.
        units: of what messages carry, for the count of what was lost, such as "steps".
        kept: where what was lost can be found.
        repair: what a user can do about a failure.
        on_started: is given the answer to `start`.
        log: what the program prints.
        max_units: that wait for it, at the most; None: as many as `QUEUE_MESSAGES` hold.
        retry_seconds: after which a receiver that has not passed on what it was sent is asked to try again; None: with
            the next message.
        whose: it is that goes on without it.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        start: Mapping[str, Any],
        deadlines: Deadlines,
        *,
        tell: Callable[[str], None],
        units: str,
        kept: str,
        repair: str = "",
        on_started: Callable[[Mapping[str, Any]], None] | None = None,
        log: Path | None = None,
        max_units: int | None = None,
        retry_seconds: float | None = None,
        whose: str = "run",
    ) -> None:
        self.name, self.lost = name, 0
        self.trouble = ""
        """Why the receiver was given up; empty while it was not."""
        self.problem = ""
        """What its latest answer said was wrong."""
        self.taken = 0
        """Units of all messages so far, those that were lost at once included."""
        self._command, self._start, self._deadlines, self._log = command, start, deadlines, log
        self._tell, self._units, self._kept = tell, units, kept
        self._repair, self._on_started = repair, on_started
        self._queue: queue.Queue[Parcel] = queue.Queue(QUEUE_MESSAGES)
        self._process: ReceivingProcess | None = None
        self._queued = 0  # units of the messages in the queue
        self._waiting = 0  # units that the process has and has not passed on
        self._max_units, self._retry_seconds, self._whose = max_units, retry_seconds, whose
        self._asked_at = time.monotonic()
        self._refusals, self._is_warned, self._is_started = 0, False, False
        self._lock, self._is_closing = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"courier-{name}", daemon=True)
        self._thread.start()

    def send(self, message: Mapping[str, Any], units: int = 1) -> None:
        """Take a message and return at once, whatever the receiver does."""
        with self._lock:
            self.taken += units
            is_full = self._max_units is not None and self._queued + units > self._max_units
            self._queued += units
        try:
            if self.trouble or is_full:
                raise queue.Full
            self._queue.put_nowait(Parcel(message, units))
        except queue.Full:
            self._take_out(units)
            self._lose(units)

    @property
    def waiting(self) -> int:
        """Units that are neither passed on nor lost."""
        return self._queued + (0 if self.trouble else self._waiting)

    @property
    def has_ended(self) -> bool:
        """Its thread and its process are gone."""
        return not self._thread.is_alive()

    def ask_to_finish(self) -> None:
        """Nothing more will come: several couriers do their last deliveries side by side."""
        self._is_closing.set()

    def wait(self, until: float) -> bool:
        """Whether all is delivered, which it may be by that moment of `time.monotonic`."""
        self._thread.join(max(0.0, until - time.monotonic()))
        return not self._thread.is_alive()

    def close(self, until: float) -> None:
        """Deliver what is left, up to that moment of `time.monotonic`; then the process is ended, well or not."""
        waited = min(self._deadlines.finish, max(0.0, until - time.monotonic()))
        self.ask_to_finish()
        if not self.wait(until):
            state = "was still busy" if self._is_started else "had not even started"
            self._give_up(f"it {state} when the end of the {self._whose} had waited {waited:.3g} s for it")
            if self._process is not None:
                self._process.end()
            self._thread.join(LOOK_SECONDS)
        while not self._queue.empty():
            left = self._queue.get_nowait().units
            self._take_out(left)
            self._lose(left)
        if self.lost:
            self._tell(f"{self.name}: {self.lost} {self._units} did not arrive; {self._kept}")

    def _work(self) -> None:
        """The thread: one message after the other, and no way out for an error."""
        try:
            self._process = ReceivingProcess(self._command, self._log)
            if self.trouble:  # the run ended meanwhile
                return
            answer = self._process.ask(self._start, self._deadlines.start)
            if error := answer.get("error"):
                raise GivenUp(str(error))
            self._is_started = True
            if self._on_started is not None:
                self._on_started(answer)
            while not (self._is_closing.is_set() and self._queue.empty()):
                try:
                    parcel = self._queue.get(timeout=LOOK_SECONDS)
                except queue.Empty:
                    if not self._is_to_retry():
                        continue
                    parcel = Parcel({"retry": True}, 0)
                self._deliver(self._process, parcel)
            self._finish(self._process)
        except Exception as error:  # nothing of this may reach the run
            self._give_up(str(error) if isinstance(error, GivenUp) else f"{type(error).__name__}: {error}")
        finally:
            if self._process is not None:
                self._process.end()

    def _deliver(self, process: ReceivingProcess, parcel: Parcel) -> None:
        """Send one message. A receiver that refuses it is asked again with the next one.

        Raises:
            GivenUp: it refused too many, or does not answer.
        """
        self._waiting += parcel.units
        self._take_out(parcel.units)
        answer = process.ask(parcel.message, self._deadlines.message)
        self._asked_at = time.monotonic()
        self._waiting = int(answer.get("waiting", 0))
        self._lose(int(answer.get("lost", 0)))
        self.problem = printable(str(answer.get("error") or answer.get("warning") or ""))[:SHOWN_CHARS]
        if error := str(answer.get("error", "")):
            self._lose(parcel.units)
            self._refusals += 1
            self._warn(error)
            if self._refusals == MAX_REFUSALS:
                raise GivenUp(f"{MAX_REFUSALS} failures in a row, the last one: {error}")
            return
        self._refusals = 0
        if warning := str(answer.get("warning", "")):
            self._warn(warning)
        if note := str(answer.get("note", "")):
            self._tell(f"{self.name}: {printable(note)[:SHOWN_CHARS]}")

    def _finish(self, process: ReceivingProcess) -> None:
        answer = process.ask({"finish": True}, self._deadlines.finish)
        self._waiting = 0
        self._lose(int(answer.get("lost", 0)))
        if error := str(answer.get("error", "")):
            raise GivenUp(error)
        if warning := str(answer.get("warning", "")):
            self._warn(warning)

    def _is_to_retry(self) -> bool:
        is_due = self._retry_seconds is not None and time.monotonic() - self._asked_at >= self._retry_seconds
        return is_due and self._waiting > 0

    def _take_out(self, units: int) -> None:
        with self._lock:
            self._queued -= units

    def _lose(self, units: int) -> None:
        with self._lock:
            self.lost += units

    def _warn(self, why: str) -> None:
        if not self._is_warned:
            self._is_warned = True
            self._tell(f"warning: {self.name}: {self._described(why)}; going on")

    def _give_up(self, why: str) -> None:
        with self._lock:
            if self.trouble:
                return
            self.trouble = printable(why)[:SHOWN_CHARS]
        self._lose(self._waiting)
        meanwhile = "" if self._is_closing.is_set() else f", the {self._whose} goes on without it"
        self._tell(f"warning: {self.name} is given up{meanwhile}: {self._described(why)}")

    def _described(self, why: str) -> str:
        parts = [printable(why)[:SHOWN_CHARS], self._repair]
        with suppress(OSError):
            if self._log is not None and self._log.stat().st_size:
                parts.append(f"see {self._log}")
        return "; ".join(filter(None, parts))
