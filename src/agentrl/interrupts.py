"""Ctrl-C and SIGTERM, made into an orderly end."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
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

    async def guard(self, work: Coroutine[Any, Any, Result], interrupted: Callable[[], Result]) -> Result:
        """The result of `work`, or of `interrupted` where a signal or a call of this object stopped it."""
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        self._cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        if self._is_called:
            task.cancel()
        if threading.current_thread() is threading.main_thread():
            with suppress(NotImplementedError):  # no signal handlers on Windows' loops
                for number in (signal.SIGINT, signal.SIGTERM):
                    loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            return interrupted()
        finally:
            self._cancel = lambda: None
