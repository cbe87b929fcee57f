"""Which session a request belongs to, and which arm a new one gets."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

from agentrl.config import GatewayConfig
from agentrl.errors import ReleaseError
from agentrl.gateway.arms import Served, choose_arm
from agentrl.gateway.errors import ApiError, busy
from agentrl.gateway.flights import Flights
from agentrl.gateway.http import Call
from agentrl.gateway.keys import Keys
from agentrl.gateway.ledger import Ledger
from agentrl.gateway.lookup import Lookup
from agentrl.gateway.sessions import (
    CLOSED,
    MAX_ID_CHARS,
    OPEN,
    Session,
    SessionBook,
    issued_id,
    kept_id,
    refuse_foreign,
    session_of,
)
from agentrl.monitoring.redaction import redact_text
from agentrl.monitoring.session_record import digest
from agentrl.printable import printable
from agentrl.release.records import Arm

ARM_HEADER, ADMIN_HEADER = "X-AgentRL-Arm", "X-AgentRL-Admin-Key"
MAX_RESPONSES = 100_000
"""Response ids in memory; older ones are found in the store."""
MAX_INTENT_CHARS = 80


class Assignment:
    """Sessions of requests.

    Args:
        find, find_response: rows of sessions by id, and session ids by response id, from the store.
        served: what is served now.
        clock, wall: steady seconds, and seconds since 1970.
    """

    def __init__(
        self,
        config: GatewayConfig,
        keys: Keys,
        book: SessionBook,
        ledger: Ledger,
        flights: Flights,
        find: Lookup,
        find_response: Lookup,
        served: Callable[[], Served],
        *,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._config, self._keys, self._book, self._ledger, self._flights = config, keys, book, ledger, flights
        self._find, self._find_response = find, find_response
        self._served, self._clock, self._wall = served, clock, wall
        self._responses: OrderedDict[str, str] = OrderedDict()

    async def session(self, call: Call, body: Mapping[str, Any], client: str) -> tuple[Session, bool]:
        """The session of a request, and whether it begins with it.

        Raises:
            ApiError: 403, it is another client's, or an arm is asked for without the admin key; 409, the session is of
                the other arm already.
        """
        forced = self._forced(call)
        session_id = await self._id(call, body, client)
        session, is_new = None, session_id is None
        if session_id is not None:
            session = self._book.find(session_id, self._wall()) or await self._stored(session_id, client)
            is_new = session is None
        if session is None:
            session = self._begin(call, body, session_id or issued_id(), client, forced)
        refuse_foreign(session, client)
        if forced is not None and (session.arm is not forced or not session.is_forced):
            message = f"{ARM_HEADER}: the session is of the arm {session.arm} already; force the arm of a new one."
            raise ApiError(409, message, code="arm_is_assigned")
        session.last_at = max(session.last_at, self._wall())
        session.status = OPEN
        return session, is_new

    def remember(self, response_id: str, session: Session) -> None:
        """That `previous_response_id` will mean this session."""
        key = self._response_key(response_id, session.client)
        self._responses[key] = session.id
        if len(self._responses) > MAX_RESPONSES:
            self._responses.popitem(last=False)
        self._ledger.remember_response(key, session.id)

    async def owned(self, session_id: str, client: str) -> Session:
        """A session of this client, as it is known here or in the store.

        Raises:
            ApiError: 404 unknown, 403 another client's, 503 where nobody knows.
        """
        session = self._book.find(session_id, self._wall())
        if session is None:
            try:
                row = await self._find.find(session_id)
            except ReleaseError:
                raise busy("Sessions cannot be looked up just now; try again.", code="store_unreadable") from None
            if row is None:
                raise ApiError(404, "There is no such session.", code="unknown_session", param="session_id")
            session = session_of(row)
        refuse_foreign(session, client)
        return session

    async def close(self, session_id: str, client: str) -> None:
        """End a session: nothing follows.

        Raises:
            ApiError: 404 unknown, 403 another client's, 409 while it is being answered, 503 where nobody knows.
        """
        session = await self.owned(session_id, client)
        for _ in range(100):  # its last answer's last byte was sent a moment ago
            if not session.in_flight:
                break
            await asyncio.sleep(0.01)
        else:
            raise ApiError(409, "The session is being answered; close it afterwards.", code="session_in_flight")
        if session.status == OPEN:
            session.status = CLOSED
            self._ledger.update(session)
            await self._ledger.written()

    def _forced(self, call: Call) -> Arm | None:
        asked = call.header(ARM_HEADER)
        if not asked:
            return None
        if not self._keys.is_admin(call.header(ADMIN_HEADER)):
            raise ApiError(
                403, f"{ARM_HEADER} needs the admin key.", code="arm_is_not_yours_to_choose", kind="permission_error"
            )
        if asked not in (Arm.BASELINE, Arm.CANDIDATE):
            raise ApiError(400, f"{ARM_HEADER}: found {asked!r:.40}; allowed: baseline, candidate", code="unknown_arm")
        return Arm(asked)

    async def _id(self, call: Call, body: Mapping[str, Any], client: str) -> str | None:
        """The header's, else that of the response which this one follows; None where one has to be issued."""
        if given := call.header(self._config.session_header):
            return kept_id(given)
        previous = body.get("previous_response_id")
        if not isinstance(previous, str) or not previous:
            return None
        key = self._response_key(previous, client)
        if (known := self._responses.get(key)) is not None:
            return known
        try:
            found: str | None = await self._find_response.find(key)
        except ReleaseError:
            return None
        return found

    async def _stored(self, session_id: str, client: str) -> Session | None:
        """A session that another replica began, or this one before it was started again."""
        try:
            row = await self._find.find(session_id)
        except ReleaseError:  # nobody can say whose it is; a new one is the baseline's as soon as the lease is over
            return None
        if row is None:
            return None
        session = session_of(row)
        refuse_foreign(session, client)
        if (known := self._book.find(session_id, self._wall())) is not None:  # another request was quicker
            return known
        if session.status == CLOSED and session.release_id != self._served().release_id:
            return None
        self._book.keep(session)
        return session

    def _begin(self, call: Call, body: Mapping[str, Any], session_id: str, client: str, forced: Arm | None) -> Session:
        if (known := self._book.find(session_id, self._wall())) is not None:
            return known
        served, now = self._served(), self._wall()
        arm = choose_arm(served, session_id, self._clock()) if forced is None else forced
        if arm is Arm.CANDIDATE and not served.may_serve_candidate(self._clock()):
            raise ApiError(409, f"{ARM_HEADER}: no candidate is served.", code="no_candidate")
        upstream = served.candidate if arm is Arm.CANDIDATE else served.general
        declared, prices = self._config.upstreams[upstream].bundle, self._config.upstreams[upstream].prices
        user = call.header(self._config.user_header)
        opening = {key: body[key] for key in ("messages", "input", "instructions") if key in body}
        session = Session(
            id=session_id,
            release_id=served.release_id,
            arm=arm,
            channel=served.channel,
            upstream=upstream,
            bundle=served.bundle_of(upstream) or declared,
            client=client,
            assigned_at=now,
            last_at=now,
            cluster=digest([client, user]) if user else "",
            intent=redact_text(printable(call.header(self._config.intent_header)))[:MAX_INTENT_CHARS],
            is_forced=forced is not None,
            price_table=None if prices is None else digest(prices.model_dump()),
            draft={"context_digest": digest(opening)},
        )
        if arm is Arm.CANDIDATE and forced is None:
            self._flights.assigned_candidate()
        self._book.keep(session)
        return session

    @staticmethod
    def _response_key(response_id: str, client: str) -> str:
        key = f"{client}:{response_id}"
        return key if len(key) <= 2 * MAX_ID_CHARS and key.isascii() and key.isprintable() else kept_id(key + "\n")
