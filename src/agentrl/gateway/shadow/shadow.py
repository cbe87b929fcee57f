"""Copies wait in a bounded queue and are taken by a few workers. Full, it drops and counts: users never wait for it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentrl.config.gateway import ShadowConfig
from agentrl.errors import ReleaseError
from agentrl.gateway.feedback import FeedbackEvent, read_event
from agentrl.gateway.shadow.conversation import NotCopied, UserTurn, user_turn
from agentrl.gateway.shadow.copies import CopiedTurn, copied_turn
from agentrl.gateway.shadow.grades import Grading
from agentrl.gateway.shadow.rows import keep_copy, mean_score
from agentrl.gateway.turns import FinishedTurn
from agentrl.gateway.upstream import Upstream
from agentrl.release.records import Arm
from agentrl.release.store import Store

logger = logging.getLogger(__name__)

MAX_NOTED = 10_000
"""Dropped turns that wait to be noted in their sessions' rows; of more, only the number is known."""
MAX_WAITING_CHARS = 64_000_000
"""Of all conversations in the queue: a few hundred very long ones would take a gateway's memory."""
Record = Callable[[Sequence[FeedbackEvent]], Awaitable[Any]]


@dataclass
class ShadowCounts:
    """Of one replica since its start."""

    copied: int = 0
    failed: int = 0
    """Of `copied`, those that the candidate gave no answer to."""
    dropped: int = 0
    """The queue was full, or the shadow had ended when their turn came."""
    calls: int = 0
    unmatched: int = 0
    unwritten: int = 0
    """Rows that the store did not take."""
    not_copied: Counter[str] = field(default_factory=Counter)
    """By reason."""

    def as_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {**vars(self), "not_copied": dict(sorted(self.not_copied.items()))}


class Shadow:
    """A watcher of finished turns, see `gateway/turns.py`: `watch` is given to the gateway, `start` called on its loop.

    Args:
        upstreams: of the gateway, by name; copies are asked of `routing.candidate_upstream`.
        config: `gateway.shadow`.
        store: where the candidate's rows are kept.
        grading: grades both answers; None leaves quality and success null.
        record: writes feedback events, such as `Ledger.record`: the baseline's grade goes where every grade goes.
        is_wanted: asked again when a copy's turn has come: whether its shadow still runs.
        wall: seconds since 1970.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        config: ShadowConfig,
        store: Store,
        *,
        grading: Grading | None = None,
        record: Record | None = None,
        is_wanted: Callable[[FinishedTurn], bool] = lambda _: True,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._upstreams, self._config, self._store = upstreams, config, store
        self._grading, self._record, self._is_wanted = grading, record, is_wanted
        self._clock, self._wall = clock, wall
        self._queue: asyncio.Queue[tuple[FinishedTurn, UserTurn]] = asyncio.Queue(config.queue)
        self._waiting_chars = 0
        self._dropped: deque[tuple[FinishedTurn, int]] = deque(maxlen=MAX_NOTED)
        self._workers: list[asyncio.Task[None]] = []
        self.counts = ShadowCounts()

    @property
    def waiting(self) -> int:
        """Copies in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to take copies, on the loop that runs."""
        self._workers = [asyncio.ensure_future(self._work()) for _ in range(self._config.concurrency)]

    async def aclose(self) -> None:
        """Give up what waits and what is under way, which is counted as dropped."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        while not self._queue.empty():
            self._drop(*self._queue.get_nowait())
            self._queue.task_done()
        await self._note_dropped()
        if self._grading is not None:
            await self._grading.aclose()

    async def drained(self) -> None:
        """Return when no copy waits or is under way."""
        await self._queue.join()

    def watch(self, turn: FinishedTurn) -> None:
        """A turn of the baseline, once its answer is with the user: a copy waits from now on, or is dropped."""
        routing = turn.routing
        if (
            routing is None
            or routing.channel != "shadow"
            or routing.release_id != turn.release_id
            or turn.arm is not Arm.BASELINE
            or turn.is_forced
        ):
            return
        try:
            asked = user_turn(turn)
        except NotCopied as error:
            self.counts.not_copied[str(error)] += 1
            return
        if asked is None:  # the baseline wants tools: the turn goes on
            return
        if self._queue.full() or self._waiting_chars + asked.chars > MAX_WAITING_CHARS:
            self._drop(turn, asked)
            return
        self._waiting_chars += asked.chars
        self._queue.put_nowait((turn, asked))

    def _drop(self, turn: FinishedTurn, asked: UserTurn) -> None:
        self.counts.dropped += 1
        self._dropped.append((replace(turn, request={}, reply={}), asked.number))  # what waits here may be many

    async def _work(self) -> None:
        while True:
            turn, asked = await self._queue.get()
            self._waiting_chars -= asked.chars
            try:
                await self._copy(turn, asked)
                await self._note_dropped()
            except asyncio.CancelledError:
                self._drop(turn, asked)
                raise
            except Exception:  # a worker that ends would leave the queue to fill up
                logger.exception("shadow: a copy of session %s was lost", turn.session_id)
                self._drop(turn, asked)
            finally:
                self._queue.task_done()

    async def _copy(self, turn: FinishedTurn, asked: UserTurn) -> None:
        name = turn.routing.candidate_upstream if turn.routing else ""
        upstream = self._upstreams.get(name)
        if upstream is None or not self._is_wanted(turn):
            self._drop(turn, asked)
            return
        copied = await copied_turn(
            asked,
            upstream.ask_json,
            model=upstream.config.model,
            at=turn.at,
            prices=upstream.config.prices,
            max_requests=self._config.max_requests,
            timeout_seconds=self._config.timeout_seconds,
            clock=self._clock,
        )
        self.counts.copied += 1
        self.counts.failed += bool(copied.failure)
        self.counts.calls += copied.calls
        self.counts.unmatched += copied.unmatched
        if self._grading is not None and not copied.failure:
            score, other = await self._grading.grade(turn, asked, copied)
            copied = replace(
                copied, score=score, baseline_score=other, grader_version="" if score is None else self._grading.version
            )
        turns = await self._keep(turn, copied)
        if turns and self._grading is not None:
            await self._tell_baseline(turn, copied, turns)

    async def _keep(self, turn: FinishedTurn, copied: CopiedTurn) -> list[dict[str, Any]]:
        threshold = self._grading.pass_threshold if self._grading is not None else None
        try:
            return await asyncio.to_thread(keep_copy, self._store, turn, copied, pass_threshold=threshold)
        except ReleaseError as error:
            self.counts.unwritten += 1
            logger.warning("shadow: session %s was not kept (%s)", turn.session_id, error)
            return []

    async def _note_dropped(self) -> None:
        """A session with a turn that nobody copied is no whole evidence: its row says so."""
        while self._dropped:
            turn, number = self._dropped.popleft()
            await self._keep(turn, CopiedTurn(number=number, at=turn.at, is_dropped=True))

    async def _tell_baseline(self, turn: FinishedTurn, copied: CopiedTurn, turns: list[dict[str, Any]]) -> None:
        """What the same grader says of the baseline, so that the pair is of one judge; a user's later word counts."""
        score = mean_score([each for each in turns if not each["is_dropped"]], "baseline_score")
        if score is None or self._record is None or self._grading is None:
            return
        common = {"session_id": turn.session_id, "at": turn.at, "grader_version": self._grading.version or None}
        where = f"shadow:{turn.release_id}:{turn.session_id}:{copied.number}"
        is_success = all(
            each["baseline_score"] >= self._grading.pass_threshold for each in turns if not each["is_dropped"]
        )
        bodies = (
            {**common, "event_id": f"{where}:grade", "kind": "grade", "score": score},
            {**common, "event_id": f"{where}:outcome", "kind": "outcome", "success": is_success},
        )
        try:
            await self._record([read_event(body, turn.client, self._wall()) for body in bodies])
        except Exception as error:
            self.counts.unwritten += 1
            logger.warning("shadow: the baseline's grade of session %s was not kept (%s)", turn.session_id, error)
