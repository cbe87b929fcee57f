"""Ctrl-C and SIGTERM, made into an orderly end; and whether an event loop, such as a notebook's, runs already."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


class Stop:
    """Ends work at its next wait, so that what was finished until then can be saved."""

    def __init__(self) -> None:
        self._is_called = False
        self._cancel: Callable[[], object] = lambda: None

    def __call__(self) -> None:
        """Ask for the end, from any thread."""
        self._is_called = True
        self._cancel()

    async def guard(
        self,
        work: Coroutine[Any, Any, Result],
        interrupted: Callable[[], Result],
        ask: Callable[[], object] | None = None,
    ) -> Result:
        """The result of `work`, or of `interrupted` where a signal or a call of this object stopped it.

        Args:
            ask: for work that several processes must end together: it asks all of them, and `work` is not cancelled
                from here but ends itself.
        """
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        cancel = ask or task.cancel
        self._cancel = lambda: loop.call_soon_threadsafe(cancel)
        if self._is_called:
            cancel()
        if threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # no signal handlers on Windows' loops
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return interrupted()
        finally:
            self._cancel = lambda: None


@contextmanager
def noting_signals(tell: Callable[[str], None]) -> Iterator[threading.Event]:
    """An event that the first Ctrl-C or SIGTERM sets, for work that looks at it between its steps.

    The second one ends the process as if nobody had asked for more. Outside the main thread, where Python handles no
    signals, the event stays unset.
    """
    noted = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in numbers}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, frame: object) -> None:
        del number, frame
        restore()
        noted.set()
        tell("stopping after this step; once more stops at once, without saving it")

    for number in numbers:
        signal.signal(number, note)
    try:
        yield noted
    finally:
        restore()


def is_loop_running() -> bool:
    """Whether this thread has an event loop already, as a notebook's has: a second one cannot be run in it."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
