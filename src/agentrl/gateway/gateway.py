"""A replica: its parts, put together, and the little loop that keeps them in step."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentrl.config import GatewayConfig
from agentrl.config.tool_policy import ToolPolicyConfig
from agentrl.gateway.approvals import ToolQuestions
from agentrl.gateway.arms import Served
from agentrl.gateway.assignment import Assignment
from agentrl.gateway.closing import Closing
from agentrl.gateway.counts import Counts
from agentrl.gateway.errors import ApiError
from agentrl.gateway.feedback import FeedbackEvent
from agentrl.gateway.flights import Flights
from agentrl.gateway.http import Call
from agentrl.gateway.keys import Keys, refuse_open_doors, upstream_key
from agentrl.gateway.ledger import Ledger
from agentrl.gateway.ledger_rows import Recorded
from agentrl.gateway.limits import Places, Rates
from agentrl.gateway.lookup import Lookup, session_rows, sessions_of_responses
from agentrl.gateway.poll import RoutingPoll
from agentrl.gateway.relay import Asked, Relay
from agentrl.gateway.sessions import SessionBook
from agentrl.gateway.turns import Watcher
from agentrl.gateway.upstream import Upstream
from agentrl.release.place import ReleasePlace
from agentrl.release.routing import read_routing
from agentrl.release.steady_clock import steady_seconds

logger = logging.getLogger(__name__)

SEEN_SECONDS = 1.0
"""Between two writes of this replica's row where nothing changes."""
WRITTEN_SECONDS = 0.5
"""By then another replica has written a session that began before."""


class Gateway:
    """One replica in front of its upstreams.

    Args:
        clock, wall: steady seconds, and seconds since 1970.

    Raises:
        ConfigError: a key is missing, a door is open, or an upstream must not be called.
    """

    def __init__(
        self,
        config: GatewayConfig,
        place: ReleasePlace,
        *,
        clock: Callable[[], float] = steady_seconds,
        wall: Callable[[], float] = time.time,
    ) -> None:
        refuse_open_doors(config)
        self.config, self.place, self.workflow = config, place, place.workflow
        self.clock, self.wall = clock, wall
        self.keys = Keys.read(config)
        self.upstreams = {
            name: Upstream(name, upstream, upstream_key(config, name)) for name, upstream in config.upstreams.items()
        }
        self.id = f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.started_at = wall()
        self.counts = Counts()
        self.places = Places(config.max_concurrent)
        self.rates = Rates(config.max_requests_per_second, clock=clock)
        self.book = SessionBook(config.session_idle_seconds)
        self.ledger = Ledger(
            place.store, self.workflow, feedback_window_seconds=config.feedback_window_seconds, wall=wall
        )
        self.poll = RoutingPoll(
            lambda: read_routing(place.store, self.workflow),
            general=config.general,
            bundles={name: upstream.bundle for name, upstream in config.upstreams.items()},
            poll_seconds=config.poll_seconds,
            on_change=self._wake,
            may_renew=lambda: not self.ledger.trouble,  # what the candidate does here, nobody would come to know
            clock=clock,
        )
        self.flights = Flights(dict(self.upstreams), config.drain_seconds, clock=clock, wall=wall)
        self.flights.on_drained = self._report
        self.relay = Relay(
            self.workflow,
            self.upstreams,
            self.flights,
            self.counts,
            lambda: self.served,
            retries=config.retries,
            clock=clock,
            wall=wall,
        )
        self._assignment = Assignment(
            config,
            self.keys,
            self.book,
            self.ledger,
            self.flights,
            Lookup(session_rows(place.store, self.workflow)),
            Lookup(sessions_of_responses(place.store, self.workflow)),
            lambda: self.served,
            clock=clock,
            wall=wall,
        )
        self.closing = Closing(config, place, wall=wall)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._reported_at = 0.0
        self.status_of: dict[str, Callable[[], Any]] = {}
        """By name: what those beside it, such as the shadow, have to say in `status`."""
        self.gauges_of: list[Callable[[], Mapping[str, float]]] = []
        """Of those beside it, for `gauges`."""
        self.questions: ToolQuestions | None = None
        """Answers which tool calls may be made; None without `tools.policy`."""
        self.is_draining = False
        """Told to end: what is under way is finished, nothing new is begun."""

    @property
    def served(self) -> Served:
        """What is served, as of the latest look at the routing."""
        return self.poll.served

    def watch(self, watchers: Sequence[Watcher]) -> None:
        """Tell these of finished turns."""
        self.relay.watchers.extend(watchers)

    async def start(self) -> None:
        """Begin: threads and the loop that keeps step."""
        self._loop = asyncio.get_running_loop()
        self.ledger.start()
        await asyncio.to_thread(self.poll.look)  # who is general is known before the first user comes
        self.poll.start()
        self.flights.look(self.served)
        self._report()
        self._tasks = [asyncio.create_task(self._keep_step()), asyncio.create_task(self._close_idle())]

    async def aclose(self) -> None:
        """Write what is left, and end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self.poll.close)
        self.flights.look(self.served)
        self._report(is_ending=True)
        await self.ledger.aclose()
        await asyncio.to_thread(self.closing.close)
        for upstream in self.upstreams.values():
            await upstream.aclose()

    def admit(self, call: Call) -> str:
        """The client's name, if it may ask now.

        Raises:
            ApiError: 401, 403 or 429; 503 where the replica is about to end.
        """
        client = self.keys.client(call.headers)
        self.rates.admit(client)
        if self.is_draining:
            raise ApiError(503, "This replica is about to end.", code="draining", retry_after_seconds=1.0)
        return client

    async def complete(self, call: Call, client: str, asked: Asked) -> None:
        """Answer a request with the policy of its session.

        Raises:
            ApiError: there is no answer.
        """
        session, is_new = await self._assignment.session(call, asked.body, client)
        session_header = self.config.session_header.lower().encode("ascii")
        call.extra.append((session_header, session.id.encode("ascii")))
        if is_new:
            self.counts.sessions[session.arm.value] += 1
            self.ledger.update(session)
        try:
            await self.relay.carry(call, session, asked, self._assignment.remember)
        finally:
            self.ledger.update(session)

    async def record(self, events: Sequence[FeedbackEvent]) -> list[Recorded]:
        """Keep feedback; what became of each event, once it is on disk.

        Raises:
            ApiError: 503, it cannot be written.
        """
        recorded = await self.ledger.record(events)
        again = [index for index, each in enumerate(recorded) if each.outcome == "unknown_session"]
        if again:  # it may have begun at another replica, a moment ago
            await asyncio.sleep(WRITTEN_SECONDS)
            for index, each in zip(again, await self.ledger.record([events[i] for i in again]), strict=True):
                recorded[index] = each
        for each in recorded:
            self.counts.feedback[each.outcome] += 1
        return recorded

    async def close_session(self, session_id: str, client: str) -> None:
        """End a session: nothing follows.

        Raises:
            ApiError: 404 unknown, 403 another client's, 409 while it is being answered.
        """
        await self._assignment.close(session_id, client)

    def ask_before_calls(self, rules: ToolPolicyConfig) -> None:
        """Answer clients' questions by these rules from now on."""
        self.questions = ToolQuestions(self.place, rules, self._assignment.owned, wall=self.wall)

    def _wake(self) -> None:
        """From the poll's thread: something changed."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._changed.set)

    async def _keep_step(self) -> None:
        """Act upon changes at once, and upon time a few times a second: leases end, drains run out."""
        while True:
            try:
                async with asyncio.timeout(self.config.poll_seconds):
                    await self._changed.wait()
            except TimeoutError:
                pass
            is_told = self._changed.is_set()
            self._changed.clear()
            is_changed = self.flights.look(self.served)
            if is_told or is_changed or self.clock() - self._reported_at >= SEEN_SECONDS:
                self._report()

    async def _close_idle(self) -> None:
        """Sessions that are over become records."""
        pause = min(self.config.session_idle_seconds / 4, 30.0)
        while True:
            await asyncio.sleep(pause)
            for session in self.book.in_flight():  # long answers are no idleness
                session.last_at = self.wall()
                self.ledger.update(session)
            await asyncio.to_thread(self.closing.run_once)

    def _report(self, *, is_ending: bool = False) -> None:
        self._reported_at = self.clock()
        flights = self.flights
        self.ledger.report(
            {
                "id": self.id,
                "epoch": self.served.epoch,
                "has_lease": self.served.lease.holds(self.clock()) and not is_ending,
                "candidate_in_flight": flights.candidate,
                "last_candidate_at": flights.last_candidate_at,
                "drained_at": flights.drained_at,
                "started_at": self.started_at,
                "seen_at": self.wall(),
            }
        )

    def gauges(self) -> dict[str, float]:
        """What is now, for Prometheus."""
        served, now = self.served, self.clock()
        return {
            "in_flight": len(self.flights),
            "candidate_in_flight": self.flights.candidate,
            "routing_epoch": served.epoch,
            "share_percent": served.share_percent,
            "may_serve_candidate": float(served.may_serve_candidate(now)),
            "lease_seconds_left": max(0.0, served.lease.until - now),
            "sessions_in_memory": len(self.book),
            "store_unreadable": float(bool(self.poll.trouble)),
            "store_unwritable": float(bool(self.ledger.trouble)),
            "records_unwritable": float(bool(self.closing.trouble)),
            "answers_cut": self.flights.cut,
            "places_refused": self.places.refused,
            "rates_refused": self.rates.refused,
            "records_written": self.closing.recorded,
            **{name: value for told in self.gauges_of for name, value in told().items()},
        }

    def status(self) -> dict[str, Any]:
        """For operators: what is served, and what is under way."""
        served, now = self.served, self.clock()
        row = served.routing
        return {
            "replica": self.id,
            "workflow": self.workflow,
            "routing": None if row is None else {key: value for key, value in vars(row).items() if key != "salt"},
            "problem": served.problem,
            "general": served.general,
            "candidate": served.candidate,
            "may_serve_candidate": served.may_serve_candidate(now),
            "lease_seconds_left": max(0.0, served.lease.until - now) if served.lease.holds(now) else 0.0,
            "in_flight": len(self.flights),
            "candidate_in_flight": self.flights.candidate,
            "last_candidate_at": self.flights.last_candidate_at,
            "drained_at": self.flights.drained_at,
            "cut": self.flights.cut,
            "sessions_in_memory": len(self.book),
            "store": {"poll_trouble": self.poll.trouble, "ledger_trouble": self.ledger.trouble},
            "upstreams": {name: {"in_flight": upstream.in_flight} for name, upstream in self.upstreams.items()},
            "is_draining": self.is_draining,
            **{name: told() for name, told in self.status_of.items()},
        }
