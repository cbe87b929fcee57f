"""What a step's time and memory go to: parts of the work that somebody names, by one clock.

Every instant belongs to one part, so the parts add up to the wall time. Parts nest; the innermost one counts. During
rollouts much happens at once, so an instant is generation's while the engine has anything to do, else the tools'
while one is awaited, else the grader's.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

ROLLOUT, OTHER = "rollout", "other"
ACTIVITIES = ("generation", "tools", "grading")
"""What may go on at once in rollouts: the first that does names the instant."""


class Memory(Protocol):
    """Measures the most memory that is held between two calls."""

    def reset(self) -> None: ...

    def peak_bytes(self) -> int: ...


class Phases:
    """Times parts of the work.

    Args:
        clock: in seconds.
        finish: waits until the device has done what it was given, before the clock is read; None does not wait, and a
            part then lasts until its work is queued.
        memory: measures the peak of each part; None does not.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        *,
        finish: Callable[[], None] | None = None,
        memory: Memory | None = None,
    ) -> None:
        self._clock, self._finish, self._memory = clock, finish, memory
        self._lock = threading.Lock()  # overlapped, the update has a thread of its own
        self._parts: list[str] = []
        self._running: Counter[str] = Counter()
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._peaks: dict[str, int] = {}
        self._last = clock()

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """A part of the work that this thread waits for."""
        with self._changing():
            self._parts.append(part)
        if self._memory is not None:
            self._memory.reset()
        try:
            yield
        finally:
            if self._finish is not None:
                self._finish()
            if self._memory is not None:
                self._peaks[part] = max(self._memory.peak_bytes(), self._peaks.get(part, 0))
            with self._changing():
                self._parts.remove(part)

    @contextmanager
    def during(self, activity: str) -> Iterator[None]:
        """One of ACTIVITIES goes on, beside others."""
        with self._changing():
            self._running[activity] += 1
        try:
            yield
        finally:
            with self._changing():
                self._running[activity] -= 1

    def take_seconds(self) -> dict[str, float]:
        """Seconds by part since the last call (or the start): together, all of them."""
        with self._changing():
            seconds, self._seconds = dict(self._seconds), defaultdict(float)
        return seconds

    def take_peaks(self) -> dict[str, int]:
        """Most bytes held by part since the last call; empty where memory is not measured."""
        peaks, self._peaks = self._peaks, {}
        return peaks

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Book the time up to now, before what goes on changes."""
        with self._lock:
            now = self._clock()
            self._seconds[self._current()] += now - self._last
            self._last = now
            yield

    def _current(self) -> str:
        part = self._parts[-1] if self._parts else OTHER
        if part != ROLLOUT:
            return part
        return next((each for each in ACTIVITIES if self._running[each]), OTHER)


class Watched:
    """An object one of whose coroutines is an activity; all else passes through.

    Args:
        coroutine: its name.
        activity: one of ACTIVITIES.
    """

    def __init__(self, inner: Any, coroutine: str, activity: str, phases: Phases) -> None:
        self._inner, self._coroutine, self._activity, self._phases = inner, coroutine, activity, phases

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._timed(found) if name == self._coroutine else found

    def _timed(self, coroutine: Any) -> Any:
        async def timed(*arguments: Any, **options: Any) -> Any:
            with self._phases.during(self._activity):
                return await coroutine(*arguments, **options)

        return timed
