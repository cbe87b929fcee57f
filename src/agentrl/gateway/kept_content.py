"""What was said in a session, kept for people where `gateway.keep_content` asks for it: redacted before it is kept.

Turns wait in a queue, a thread redacts and writes them; a full queue drops and counts. A request holds the conversation
up to it, so the last turn of a session is all of it. It joins the session's record when that is written.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, delete, or_, select, update

from agentrl.errors import ReleaseError
from agentrl.gateway.sessions import KEY
from agentrl.gateway.turns import FinishedTurn
from agentrl.monitoring.redaction import redact
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import session_content, sessions

logger = logging.getLogger(__name__)

MAX_WAITING = 1000
MAX_CHARS = 256_000
"""Of one session's conversation as JSON; of a longer one the beginning is left out, and the record says so."""


class KeptContent:
    """Watches finished turns; begins and ends with the gateway."""

    def __init__(self, place: ReleasePlace) -> None:
        self._place = place
        self._waiting: asyncio.Queue[FinishedTurn] = asyncio.Queue(MAX_WAITING)
        self._task: asyncio.Task[None] | None = None
        self.dropped = 0
        """Turns that the queue had no place for, or that could not be written."""

    def __call__(self, turn: FinishedTurn) -> None:
        """Take a turn."""
        try:
            self._waiting.put_nowait(turn)
        except asyncio.QueueFull:
            self.dropped += 1

    def start(self) -> None:
        """Write from now on."""
        self._task = asyncio.create_task(self._work())

    async def aclose(self) -> None:
        """Write what waits, and end."""
        await self._waiting.join()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _work(self) -> None:
        while True:
            turns = [await self._waiting.get()]
            while not self._waiting.empty():
                turns.append(self._waiting.get_nowait())
            try:
                await asyncio.to_thread(self._write, turns)
            except ReleaseError as error:
                self.dropped += len(turns)
                logger.error("what was said cannot be kept: %s", error)
            except Exception:
                self.dropped += len(turns)
                logger.exception("what was said cannot be kept")
            finally:
                for _ in turns:
                    self._waiting.task_done()

    def _write(self, turns: Sequence[FinishedTurn]) -> None:
        latest = {(turn.release_id, turn.session_id, turn.arm): turn for turn in turns}
        rows = [
            {
                "workflow": turn.workflow,
                "release_id": turn.release_id,
                "session_id": turn.session_id,
                "arm": turn.arm.value,
                "at": turn.at,
                "content": content_of(turn.request, turn.reply),
            }
            for turn in latest.values()
        ]
        with self._place.store.write() as connection:
            for row in rows:
                statement = self._place.store.insert(session_content).values(row)
                changed = {"at": row["at"], "content": row["content"]}
                newer = session_content.c.at <= row["at"]
                connection.execute(statement.on_conflict_do_update(index_elements=list(KEY), set_=changed, where=newer))
                same = and_(*(sessions.c[name] == row[name] for name in KEY))
                connection.execute(update(sessions).where(same).values(recorded_at=None))  # its record is of before


def content_of(request: Mapping[str, Any], reply: Mapping[str, Any]) -> dict[str, Any]:
    """The conversation, redacted, cut at its beginning where it is long."""
    asked = request.get("messages", request.get("input")) or []
    said = redact([asked] if isinstance(asked, str) else list(asked))
    messages = [*said, redact(dict(reply))] if isinstance(said, list) else [said, redact(dict(reply))]
    lengths = [len(json.dumps(each, ensure_ascii=False)) for each in messages]
    left_out = 0
    while len(messages) > 1 and sum(lengths) > MAX_CHARS:
        messages, lengths, left_out = messages[1:], lengths[1:], left_out + 1
    if sum(lengths) > MAX_CHARS:
        messages, left_out = [], left_out + 1
    return {"messages": messages, **({"left_out": left_out} if left_out else {})}


def take_content(connection: Connection, keys: Sequence[Mapping[str, Any]]) -> dict[tuple[Any, ...], Any]:
    """What was kept of these sessions, by key; it goes into their records and is no longer here."""
    if not keys:
        return {}
    these = or_(*(and_(*(session_content.c[name] == key[name] for name in KEY)) for key in keys))
    found = {
        tuple(row[name] for name in KEY): row["content"]
        for row in connection.execute(select(session_content).where(these)).mappings()
    }
    if found:
        connection.execute(delete(session_content).where(these))
    return found
