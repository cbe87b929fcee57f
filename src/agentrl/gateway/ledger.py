"""Everything that a gateway writes, by one thread, in transactions that many share.

Commits cost the same for one row and for a thousand. So what came while one transaction was being written goes into
the next: sessions (what was added to each), feedback, this replica's row. An event is acknowledged once the transaction
that it is in is on disk, and not before; a database that cannot be written refuses events, and the rest waits.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agentrl.errors import ReleaseError
from agentrl.gateway.errors import busy
from agentrl.gateway.feedback import FeedbackEvent
from agentrl.gateway.ledger_rows import Recorded, write_events, write_replica, write_responses, write_sessions
from agentrl.gateway.sessions import Session, Told
from agentrl.release.store import Store

logger = logging.getLogger(__name__)

MAX_EVENTS = 2000
"""Of one transaction: it holds up what waits behind it."""
MAX_WAITING = 20_000
"""Events that are not written yet; more are refused."""
MAX_HELD = 100_000
"""Sessions, and response ids, that are not written yet, at about 2 kB each: a database that is away for hours costs
what begins later, which is the baseline's by then, and no memory."""
ANSWER_SECONDS = 15.0
"""For who tells something; a database that hangs is one that cannot be written."""
GATHER_SECONDS = 0.2
"""Between two writes of sessions alone: nobody waits for them."""
RETRY_SECONDS = (0.2, 2.0)
"""After a failed write: at first, and at most."""


@dataclass
class Waiting:
    """What the next transactions are made of."""

    sessions: dict[tuple[str, str, str], tuple[dict[str, Any], Told]] = field(default_factory=dict)
    events: list[tuple[FeedbackEvent, asyncio.Future[Recorded]]] = field(default_factory=list)
    responses: list[tuple[str, str]] = field(default_factory=list)
    waiting: list[asyncio.Future[None]] = field(default_factory=list)
    """Who waits until all of this is written."""
    replica: dict[str, Any] | None = None

    def __bool__(self) -> bool:
        return bool(self.sessions or self.events or self.responses or self.waiting or self.replica)


class Ledger:
    """The one writer of a replica. All methods but the thread's own are called on the gateway's loop.

    Args:
        feedback_window_seconds: after a session's end, in which events are not late.
        wall: seconds since 1970, for tests.
    """

    def __init__(
        self, store: Store, workflow: str, *, feedback_window_seconds: float, wall: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._workflow = workflow
        self._window = feedback_window_seconds
        self._wall = wall
        self._lock = threading.Condition()
        self._next = Waiting()
        self._is_urgent = False
        self._is_ending = False
        self._is_idle = False
        self._thread = threading.Thread(target=self._run, name="agentrl-ledger", daemon=True)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.trouble = ""
        """Why the latest write failed; empty where it did not."""
        self.commits = 0
        self.recorded = 0

    def start(self) -> None:
        """Begin to write, for the loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def update(self, session: Session) -> None:
        """Write what happened in a session, at the next occasion."""
        with self._lock:
            key = session.key
            found = self._next.sessions.get(key)
            if found is None and len(self._next.sessions) >= MAX_HELD:
                return  # what happened stays with the session, for when there is room
            told, session.told = session.told, Told()
            if found is not None:
                told = found[1].plus(told)
            self._next.sessions[key] = (session.row(self._workflow), told)
            if self._is_idle:  # waking a thread costs more than all else here
                self._lock.notify()

    async def written(self) -> None:
        """Returns when everything so far is on disk, or cannot be just now."""
        if self.trouble:  # nobody waits for a database that is away
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            self._next.waiting.append(done)
            self._wake()
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await done

    async def record(self, events: Sequence[FeedbackEvent]) -> list[Recorded]:
        """Write events; what became of each, once it is on disk.

        Raises:
            ApiError: 503, the database cannot be written, or too many wait. They may be sent again, with their ids.
        """
        loop = asyncio.get_running_loop()
        futures: list[asyncio.Future[Recorded]] = [loop.create_future() for _ in events]
        with self._lock:
            if len(self._next.events) + len(events) > MAX_WAITING:
                raise busy(f"More than {MAX_WAITING} events wait to be written.", code="feedback_queue_full")
            self._next.events += zip(events, futures, strict=True)
            self._wake()
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.gather(*futures)
        except TimeoutError:
            raise busy("The event is not written yet; send it again.", code="feedback_not_written") from None

    def remember_response(self, response_id: str, session_id: str) -> None:
        """Which session a response belongs to, for `previous_response_id` at other replicas."""
        with self._lock:
            if len(self._next.responses) < MAX_HELD:
                self._next.responses.append((response_id, session_id))
            if self._is_idle:
                self._lock.notify()

    def report(self, replica: dict[str, Any]) -> None:
        """Write this replica's row; the latest one counts."""
        with self._lock:
            self._next.replica = replica
            self._wake()

    async def aclose(self) -> None:
        """Write what is left, then end."""
        with self._lock:
            self._is_ending = True
            self._wake()
        await asyncio.to_thread(self._thread.join, 10.0)

    def _wake(self) -> None:
        self._is_urgent = True
        self._lock.notify()

    def _run(self) -> None:
        pause = RETRY_SECONDS[0]
        while True:
            with self._lock:
                while not self._next and not self._is_ending:
                    self._is_idle = True
                    self._lock.wait()
                self._is_idle = False
                if not self._next:
                    return
                if not self._is_urgent and not self._is_ending:
                    self._lock.wait_for(lambda: self._is_urgent or self._is_ending, GATHER_SECONDS)
                waiting, self._next = self._next, Waiting()
                if len(waiting.events) > MAX_EVENTS:
                    self._next.events = waiting.events[MAX_EVENTS:]
                    waiting.events = waiting.events[:MAX_EVENTS]
                self._is_urgent = bool(self._next.events)
            try:
                recorded = self._write(waiting)
            except Exception as error:
                if not isinstance(error, ReleaseError):
                    logger.exception("the ledger cannot write; what waits is kept")
                self._failed(waiting, str(error))
                with self._lock:
                    if self._is_ending:
                        return
                time.sleep(pause)
                pause = min(2 * pause, RETRY_SECONDS[1])
            else:
                pause = RETRY_SECONDS[0]
                self._succeeded(waiting, recorded)

    def _write(self, waiting: Waiting) -> list[Recorded]:
        with self._store.write() as connection:
            write_sessions(connection, self._store, list(waiting.sessions.values()))
            write_responses(connection, self._store, self._workflow, waiting.responses, self._wall())
            events = [event for event, _ in waiting.events]
            recorded = write_events(connection, self._store, self._workflow, events, window_seconds=self._window)
            if waiting.replica is not None:
                write_replica(connection, self._store, self._workflow, waiting.replica)
        return recorded

    def _succeeded(self, waiting: Waiting, recorded: list[Recorded]) -> None:
        if self.trouble:
            logger.warning("the ledger writes again")
        self.trouble = ""
        self.commits += 1
        self.recorded += sum(each.outcome == "recorded" for each in recorded)

        def tell() -> None:
            for (_, future), each in zip(waiting.events, recorded, strict=True):
                if not future.done():
                    future.set_result(each)
            _release(waiting.waiting)

        self._on_loop(tell)

    def _failed(self, waiting: Waiting, why: str) -> None:
        if not self.trouble:
            logger.error("the ledger cannot write: %s; feedback is refused, sessions are kept for later", why)
        self.trouble = why
        with self._lock:  # what came meanwhile is newer
            for key, (row, told) in waiting.sessions.items():
                newer = self._next.sessions.get(key)
                self._next.sessions[key] = (row, told) if newer is None else (newer[0], told.plus(newer[1]))
            self._next.responses = waiting.responses + self._next.responses
            if self._next.replica is None:
                self._next.replica = waiting.replica

        def tell() -> None:
            for _, future in waiting.events:
                if not future.done():
                    error = busy("The event could not be written; send it again.", code="feedback_not_written")
                    future.set_exception(error)
            _release(waiting.waiting)

        self._on_loop(tell)

    def _on_loop(self, tell: Callable[[], None]) -> None:
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(tell)


def _release(futures: list[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)
