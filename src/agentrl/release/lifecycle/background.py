"""One job at a time beside the tick: a look at many sessions takes seconds, in which the lease must be renewed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

Job = Callable[[], Any]
Runner = Callable[[Job], "Future[Any]"]


def in_thread(job: Job) -> Future[Any]:
    """Run it in a thread that ends with the process."""
    future: Future[Any] = Future()
    threading.Thread(target=_run, args=(job, future), daemon=True, name="look").start()
    return future


def at_once(job: Job) -> Future[Any]:
    """Run it here, before going on."""
    future: Future[Any] = Future()
    _run(job, future)
    return future


def _run(job: Job, future: Future[Any]) -> None:
    try:
        future.set_result(job())
    except BaseException as error:  # whatever it is, it is raised where the result is asked for
        future.set_exception(error)
