"""Several workers, awaited: a thread each, one grade at a time, and a queue for what has to wait."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import weakref
from collections.abc import Callable, Sequence

from agentrl.grading.sandbox.worker import Level, Limits, Outcome, Worker, WorkerError

Job = tuple[Callable[[], bytes], asyncio.AbstractEventLoop, "asyncio.Future[Outcome]"]


class WorkerPool:
    """Grades from any event loop; workers start when they are needed, and a dead one is replaced.

    Args:
        n_workers: processes, and so grades at once.
        preload: modules that a worker imports once.
    """

    def __init__(
        self, level: Level, source: str, limits: Limits, *, n_workers: int, preload: Sequence[str] = ()
    ) -> None:
        self.level = level
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._state = _State(level, source, limits, tuple(preload))
        self._n_workers, self._threads = n_workers, list[threading.Thread]()
        # threads hold the state, never the pool: a pool that is forgotten ends them
        self._forgotten = weakref.finalize(self, _stop, self._state, self._jobs, n_workers)

    @property
    def worker_pids(self) -> tuple[int, ...]:
        return tuple(worker.pid for worker in tuple(self._state.workers))

    async def grade(self, request: Callable[[], bytes]) -> Outcome:
        """
        Args:
            request: makes the JSON of `[sample, item]`, in a worker's thread; what it raises is an outcome.
        """
        if self._state.is_closed:
            return Outcome(details="the grader has been closed")
        self._start_threads()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        self._jobs.put((request, loop, future))
        return await future

    def _start_threads(self) -> None:
        with self._state.lock:
            while len(self._threads) < self._n_workers:
                thread = threading.Thread(target=_work, args=(self._state, self._jobs), name="grader", daemon=True)
                self._threads.append(thread)
                thread.start()

    async def aclose(self) -> None:
        """End all workers; what still runs or waits comes back without a score."""
        self._forgotten()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)


class _State:
    def __init__(self, level: Level, source: str, limits: Limits, preload: tuple[str, ...]) -> None:
        self._made_of = level, source, limits, preload
        self.workers: set[Worker] = set()
        self.is_closed = False
        self.lock = threading.Lock()

    def hire(self) -> Worker:
        """
        Raises:
            WorkerError: it does not start, or the pool has been closed.
        """
        worker = Worker(*self._made_of)
        with self.lock:
            if not self.is_closed:
                self.workers.add(worker)
                return worker
        worker.close()
        raise WorkerError("the grader has been closed")

    def replace(self, worker: Worker | None) -> Worker:
        """Another in the place of one that has ended, or of none.

        Raises:
            WorkerError: as `hire`.
        """
        if worker is not None:
            with self.lock:
                self.workers.discard(worker)
            worker.close()
        return self.hire()

    def end(self) -> None:
        with self.lock:
            self.is_closed = True
            workers, self.workers = self.workers, set()
        for worker in workers:
            worker.kill()
            worker.tidy()


def _stop(state: _State, jobs: queue.SimpleQueue[Job | None], n_workers: int) -> None:
    state.end()
    for _ in range(n_workers):
        jobs.put(None)


def _work(state: _State, jobs: queue.SimpleQueue[Job | None]) -> None:
    """A thread: its worker, and one job after the other."""
    worker: Worker | None = None
    while (job := jobs.get()) is not None:
        request, loop, future = job
        if future.cancelled():
            continue
        try:
            outcome, worker = _graded(state, worker, request)
        except (WorkerError, OSError) as error:
            outcome, worker = Outcome(details=str(error)), None
        except Exception as error:  # somebody waits, whatever it is
            outcome = Outcome(details=f"the sample cannot be sent: {type(error).__name__}: {error}")
        with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
            loop.call_soon_threadsafe(_settle, future, outcome)
    if worker is not None:
        worker.close()


def _graded(state: _State, worker: Worker | None, request: Callable[[], bytes]) -> tuple[Outcome, Worker | None]:
    body = request()
    if worker is None or not worker.is_alive:
        worker = state.replace(worker)
    try:
        outcome = worker.grade(body)
    except WorkerError:  # it died while it was idle, and has run nothing
        worker = state.replace(worker)
        outcome = worker.grade(body)
    return outcome, worker


def _settle(future: asyncio.Future[Outcome], outcome: Outcome) -> None:
    if not future.done():
        future.set_result(outcome)
