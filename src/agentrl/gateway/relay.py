"""One request, from its arrival to the last byte of its answer: who answers, who steps in, what is recorded.

    1. the session's upstream answers                            `arms.upstream_of`
    2. a candidate that gives no first byte is stepped in for    once, by the baseline; a fault of the candidate
       so is one that refuses (4xx) what the baseline answers    where both refuse, it is the request's
    3. bytes go to the client as they come                       from here on nobody steps in
    4. what happened is added to the session, then watchers are told

An answer that is not streamed is whole before its first byte goes out, so that a candidate's reply that breaks off or
is no JSON is stepped in for, too.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from agentrl.endpoint import INFRASTRUCTURE_STATUSES
from agentrl.gateway.arms import Served, upstream_of
from agentrl.gateway.counts import Counts
from agentrl.gateway.errors import ApiError, busy
from agentrl.gateway.flights import Flight, Flights
from agentrl.gateway.http import Call
from agentrl.gateway.sessions import ABORTED, FAILED, OPEN, Session, kept_id
from agentrl.gateway.streaming import EventStream, Renaming, Reply, error_event
from agentrl.gateway.turns import FinishedTurn, Watcher
from agentrl.gateway.upstream import Answer, Upstream, UpstreamFailure
from agentrl.monitoring.session_record import digest
from agentrl.release.records import Arm

logger = logging.getLogger(__name__)

PASSED_ON = ("traceparent", "tracestate", "x-request-id")
"""Headers of a request that a server is shown. Neither keys nor cookies are among them."""
GIVEN_BACK = ("content-type", "content-encoding", "x-request-id", "retry-after")
"""Headers of an answer that a client is shown."""
MAX_HEADER_CHARS = 512
MAX_TOOLS = 200
"""Names of called tools that a session's record keeps."""
LAST_WORDS_SECONDS = 1.0
"""For a client to take in that its stream has broken off."""
MAX_RETRY_AFTER_SECONDS = 60.0
"""Of a server's own wish."""


@dataclass(frozen=True)
class Asked:
    """What a client asked for."""

    path: str
    """chat/completions or responses."""
    body: Mapping[str, Any] = field(repr=False)
    model: str
    is_stream: bool
    wants_counts: bool
    """Of tokens, at the end of a stream."""
    at: float
    """Seconds since 1970."""
    headers: Mapping[str, str] = field(repr=False)
    """For the server."""

    @classmethod
    def read(cls, path: str, body: Mapping[str, Any], headers: Mapping[str, str], at: float) -> Asked:
        """From a request's body.

        Raises:
            ApiError: 400, `stream` or `model` is not what it may be; the rest is for the server to judge.
        """
        stream, model, options = body.get("stream"), body.get("model"), body.get("stream_options")
        if stream is not None and not isinstance(stream, bool):
            raise ApiError(400, f"stream: found {stream!r:.40}; allowed: true or false", code="bad", param="stream")
        if model is not None and not isinstance(model, str):
            raise ApiError(400, f"model: found {model!r:.40}; allowed: a text", code="bad", param="model")
        wants_counts = isinstance(options, dict) and options.get("include_usage") is True
        passed = {name: headers[name] for name in PASSED_ON if _is_plain(headers.get(name, ""))}
        return cls(path, body, model or "", stream is True, wants_counts, at, passed)

    def content(self, upstream: Upstream) -> bytes:
        """The body for a server: its own name of the model, and token counts asked for."""
        body = {**self.body, "model": upstream.config.model}
        if self.is_stream and self.path == "chat/completions" and upstream.config.stream_usage:
            options = self.body.get("stream_options")
            body["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


class Relay:
    """Carries requests to upstreams and their answers back.

    Args:
        upstreams: by name.
        served: what is served now.
        clock, wall: steady seconds, and seconds since 1970.
    """

    def __init__(
        self,
        workflow: str,
        upstreams: Mapping[str, Upstream],
        flights: Flights,
        counts: Counts,
        served: Callable[[], Served],
        *,
        retries: int,
        watchers: Sequence[Watcher] = (),
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._workflow = workflow
        self._upstreams = upstreams
        self._flights, self._counts, self._served = flights, counts, served
        self._retries = retries
        self.watchers = list(watchers)
        self._clock, self._wall = clock, wall

    async def carry(self, call: Call, session: Session, asked: Asked, remember: Callable[[str, Session], None]) -> None:
        """Answer a request; returns when the client has the last byte, or has gone.

        Args:
            remember: is given the id of a response that another may follow.

        Raises:
            ApiError: there is no answer, and none of it is with the client.
        """
        began = self._clock()
        flight = self._flights.begin(session)
        reply = Reply(asked.path == "responses")
        work = asyncio.ensure_future(self._answer(call, flight, asked, reply))
        gone = asyncio.ensure_future(call.gone())
        ended = "failed"
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if call.is_ended:  # what is left is to give the connection back
                await asyncio.wait({work})
            ended = work.result() if work.done() else "aborted"
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            self._flights.end(flight)
            self._add_up(session, flight, reply, ended, self._clock() - began)
        if ended == "answered":
            if reply.is_responses and reply.id:
                remember(reply.id, session)
            self._tell(session, flight, asked, reply, self._clock() - began)

    async def _answer(self, call: Call, flight: Flight, asked: Asked, reply: Reply) -> str:
        """Returns how it ended: answered, refused (the client's own fault), failed."""
        session, attempt, is_refused = flight.session, 0, False
        while True:
            upstream = self._choose(flight)
            try:
                async with self._open(upstream, flight, asked) as answer:
                    if answer.status >= 400 and flight.is_candidates:  # whose fault it is, the baseline tells
                        raise UpstreamFailure("refused", f"status {answer.status}", status=answer.status)
                    if answer.status >= 400:
                        await self._pass_refusal(call, flight, answer, asked, upstream)
                        return "refused"
                    if is_refused:
                        is_refused = False
                        self._step_in(session, session.upstream, "refused", "what the baseline answers, it refused")
                    if answer.is_event_stream:
                        if not asked.is_stream:
                            raise UpstreamFailure("protocol", "a stream that nobody asked for")
                        return await self._pass_stream(call, flight, answer, asked, upstream, reply)
                    return await self._pass_whole(call, flight, answer, asked, upstream, reply)
            except UpstreamFailure as failure:
                if flight.is_begun:
                    return await self._break_off(call, flight, upstream, failure)
                is_candidate = flight.is_candidates
                is_refused = is_refused or failure.kind == "refused"
                if flight.stopped_for == "ending":
                    raise busy("This replica ends; ask again.", code="draining") from failure
                if is_candidate and flight.stopped_for != "withdrawn" and failure.kind != "refused":
                    self._step_in(session, upstream.name, failure.kind, f"it gave no answer ({failure})")
                elif failure.kind != "refused":
                    self._counts.failed(upstream.name, failure.kind)
                flight.stopped_for = ""
                if is_candidate:
                    flight.upstream, flight.withdrawn_at = self._served().general, None
                    continue
                if attempt < self._retries and failure.kind != "full":
                    attempt += 1
                    continue
                raise _unanswered(failure) from failure

    def _step_in(self, session: Session, candidate: str, kind: str, why: str) -> None:
        """The baseline answers: a failure of the candidate, whatever comes of the session."""
        session.told.fallbacks += 1
        self._counts.fallbacks += 1
        self._counts.failed(candidate, kind)
        logger.warning("%s: %s; the baseline steps in", candidate, why)

    def _choose(self, flight: Flight) -> Upstream:
        """Whose turn it is; a session whose candidate was taken back is moved for good."""
        served, session = self._served(), flight.session
        if not flight.upstream:
            name = upstream_of(session, served, self._clock(), known=self._upstreams)
            if name != session.upstream and not session.is_moved:
                session.moved_at = self._wall()
            flight.upstream = name
        return self._upstreams[flight.upstream]

    @asynccontextmanager
    async def _open(self, upstream: Upstream, flight: Flight, asked: Asked) -> AsyncIterator[Answer]:
        """The upstream's answer, unless it is no server's that is well; all of it within the time that it has.

        Raises:
            UpstreamFailure: there is none, or it broke off.
        """
        headers = {
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if asked.is_stream else "application/json",
            "X-Session-Id": flight.session.id,
            **asked.headers,
        }
        try:
            async with asyncio.timeout(upstream.config.timeout_seconds) as flight.scope:
                async with upstream.ask("POST", asked.path, asked.content(upstream), headers) as answer:
                    status = answer.status
                    if not 200 <= status < 500 or 300 <= status < 400 or status in INFRASTRUCTURE_STATUSES:
                        found = f"status {status}{', a redirect, which is not followed' if 300 <= status < 400 else ''}"
                        retry_after = answer.headers.get("retry-after", "")
                        raise UpstreamFailure("status", found, status=status, retry_after=retry_after)
                    yield answer
        except TimeoutError:
            why = flight.stopped_for or f"no whole answer within {upstream.config.timeout_seconds:g} seconds"
            raise UpstreamFailure("timeout", why) from None
        finally:
            flight.scope = None

    def _renaming(self, upstream: Upstream, asked: Asked) -> Renaming:
        """A client that named no model is told the workflow's name."""
        return Renaming.of(upstream.config.model, asked.model or self._workflow)

    async def _pass_refusal(self, call: Call, flight: Flight, answer: Answer, asked: Asked, upstream: Upstream) -> None:
        """A 4xx is about the request: it is the client's to read."""
        content = self._renaming(upstream, asked)(await answer.whole())
        flight.is_begun = True
        await call.answer(answer.status, content, kind=answer.headers.get("content-type", "application/json"))

    async def _pass_whole(
        self, call: Call, flight: Flight, answer: Answer, asked: Asked, upstream: Upstream, reply: Reply
    ) -> str:
        raw = await answer.whole()
        try:
            body = json.loads(raw)
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise UpstreamFailure("protocol", "the answer is no JSON object")
        reply.read_body(body)
        flight.is_begun = True
        content = self._renaming(upstream, asked)(raw)
        await call.answer(answer.status, content, headers=_given_back(answer, but=("content-type",)))
        return "answered"

    async def _pass_stream(
        self, call: Call, flight: Flight, answer: Answer, asked: Asked, upstream: Upstream, reply: Reply
    ) -> str:
        drops_counts = upstream.config.stream_usage and not asked.wants_counts
        events = EventStream(reply, self._renaming(upstream, asked), drops_counts=drops_counts)
        async for chunk in answer.chunks():
            if content := events.feed(chunk):
                if not flight.is_begun:
                    flight.is_begun = True
                    await call.begin(answer.status, _given_back(answer))
                await call.send(content)
        if not flight.is_begun:
            raise UpstreamFailure("protocol", "the stream had no events")
        if not reply.is_done:
            raise UpstreamFailure("protocol", "the stream ended without its last event")
        await call.send(events.rest(), is_last=True)
        return "answered"

    async def _break_off(self, call: Call, flight: Flight, upstream: Upstream, failure: UpstreamFailure) -> str:
        """End a stream that cannot go on, so that the client sees that it is not whole."""
        self._counts.failed(upstream.name, failure.kind)
        logger.warning("%s: an answer broke off (%s)", upstream.name, failure)
        if flight.stopped_for == "cut":
            error = busy("The policy that answered was taken back; ask again.", code="policy_withdrawn")
        else:
            error = ApiError(502, "The answer broke off; ask again.", code="upstream_error", kind="server_error")
        with suppress(TimeoutError):  # a client that does not read holds up no rollback
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await call.send(error_event(error.body), is_last=True)
        return "failed"

    def _add_up(self, session: Session, flight: Flight, reply: Reply, ended: str, seconds: float) -> None:
        """What happened, to the session and to the counts."""
        told, now = session.told, self._wall()
        told.requests += 1
        told.seconds += seconds
        session.last_at = max(session.last_at, now)
        upstream = self._upstreams.get(flight.upstream)
        if ended != "refused":
            self._price(session, upstream, reply)
        told.errors += ended == "failed"
        if not session.in_flight:
            session.status = {"aborted": ABORTED, "failed": FAILED}.get(ended, OPEN)
        if ended == "answered":
            names = reply.proposed_calls
            told.proposed_calls += len(names)
            session.draft["tools"] = [*session.draft.get("tools", ()), *(kept_id(name) for name in names)][:MAX_TOOLS]
            session.draft["output_digest"] = digest(reply.text)
        self._counts.request(flight.upstream, ended, seconds)

    @staticmethod
    def _price(session: Session, upstream: Upstream | None, reply: Reply) -> None:
        usage, told = reply.usage, session.told
        prices = upstream.config.prices if upstream is not None else None
        if usage is not None:
            told.tokens_in += usage.tokens_in
            told.tokens_out += usage.tokens_out
        if usage is None or prices is None:
            told.unpriced += 1
            return
        told.model_cost_usd += prices.cost_usd(
            prompt_tokens=usage.tokens_in, sampled_tokens=usage.tokens_out, tool_calls=len(reply.proposed_calls)
        )

    def _tell(self, session: Session, flight: Flight, asked: Asked, reply: Reply, seconds: float) -> None:
        """Watchers, after the user: what one of them does wrong is no user's trouble."""
        if not self.watchers:
            return
        turn = FinishedTurn(
            workflow=self._workflow,
            session_id=session.id,
            client=session.client,
            cluster=session.cluster,
            intent=session.intent,
            arm=session.arm,
            is_forced=session.is_forced,
            release_id=session.release_id,
            routing=self._served().routing,
            upstream=flight.upstream,
            is_fallback=session.arm is Arm.CANDIDATE and flight.upstream != session.upstream,
            path=asked.path,
            request=asked.body,
            reply=reply.message,
            finish_reason=reply.finish_reason,
            usage=reply.usage,
            at=asked.at,
            seconds=seconds,
        )
        for watch in self.watchers:
            try:
                watch(turn)
            except Exception:
                self._counts.watcher_errors += 1
                logger.exception("a watcher of finished turns failed")


def _given_back(answer: Answer, but: Sequence[str] = ()) -> list[tuple[bytes, bytes]]:
    """Headers that the client is shown."""
    shown = [(name, answer.headers.get(name, "")) for name in GIVEN_BACK if name not in but]
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in shown if value]


def _is_plain(value: str) -> bool:
    return 0 < len(value) <= MAX_HEADER_CHARS and value.isascii() and value.isprintable()


def _unanswered(failure: UpstreamFailure) -> ApiError:
    """What a client reads where no server answered: nothing about which, or where."""
    if failure.kind == "full" or failure.status in (429, 503):
        wait = failure.retry_after
        seconds = min(float(wait), MAX_RETRY_AFTER_SECONDS) if wait.isascii() and wait.isdigit() else 1.0
        return busy(
            "The model is answering as much as it can; try again shortly.", code="upstream_busy", seconds=seconds
        )
    if failure.kind == "timeout":
        return ApiError(504, "The model took too long to answer.", code="upstream_timeout", kind="server_error")
    return ApiError(
        502, "The model could not be reached, or gave no answer.", code="upstream_error", kind="server_error"
    )
