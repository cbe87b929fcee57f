"""Sessions that this replica does not know, from the store: all that are asked for at once in one query."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import select

from agentrl.errors import ReleaseError
from agentrl.gateway.sessions import seen_by_users
from agentrl.release.store import Store
from agentrl.release.store.tables import response_sessions, sessions

Row = Mapping[str, Any]
ANSWER_SECONDS = 2.0
"""For a query; a database that hangs is one that cannot be read, and no user waits for it."""


class Lookup:
    """Rows by key; who asks while a query is under way is part of the next.

    Args:
        query: the rows of some keys; runs in a thread.
        seconds: for a query; while one takes longer, nobody is looked up.
    """

    def __init__(self, query: Callable[[Sequence[str]], dict[str, Any]], *, seconds: float = ANSWER_SECONDS) -> None:
        self._query, self._seconds = query, seconds
        self._late_at = 0.0
        """When the query under way has taken too long, on the loop's clock."""
        self._asked: dict[str, asyncio.Future[Any]] = {}
        self._is_running = False
        self._task: asyncio.Task[None] | None = None

    async def find(self, key: str) -> Any:
        """What the store has of a key; None for nothing.

        Raises:
            ReleaseError: the store cannot be read, or hangs.
        """
        loop = asyncio.get_running_loop()
        late = ReleaseError(f"a look-up takes longer than {self._seconds:g} s")
        if self._is_running and loop.time() > self._late_at:
            raise late
        future = self._asked.get(key)
        if future is None:
            future = self._asked[key] = loop.create_future()
        if not self._is_running:
            self._is_running, self._late_at = True, loop.time() + self._seconds
            self._task = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(2 * self._seconds):  # the query under way, then the next
                return await asyncio.shield(future)  # who leaves takes nobody's answer away
        except TimeoutError:
            raise late from None

    async def _run(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                self._late_at = asyncio.get_running_loop().time() + self._seconds
                try:
                    found = await asyncio.to_thread(self._query, list(asked))
                except Exception as error:
                    failure = error if isinstance(error, ReleaseError) else ReleaseError(f"a look-up failed: {error}")
                    for future in asked.values():
                        future.set_exception(failure)
                        future.exception()  # perhaps nobody waits any more
                else:
                    for key, future in asked.items():
                        future.set_result(found.get(key))
        finally:
            self._is_running = False


def session_rows(store: Store, workflow: str) -> Callable[[Sequence[str]], dict[str, Row]]:
    """The row that its user last saw of each session id."""

    def query(ids: Sequence[str]) -> dict[str, Row]:
        by_id: dict[str, list[Row]] = {}
        columns = sessions.c
        with store.read() as connection:
            wanted = select(sessions).where(columns.workflow == workflow, columns.session_id.in_(ids))
            for row in connection.execute(wanted).mappings():
                by_id.setdefault(row["session_id"], []).append(dict(row))
        seen = {session_id: seen_by_users(rows) for session_id, rows in by_id.items()}
        return {session_id: row for session_id, row in seen.items() if row is not None}

    return query


def sessions_of_responses(store: Store, workflow: str) -> Callable[[Sequence[str]], dict[str, str]]:
    """The session id of each response id."""

    def query(ids: Sequence[str]) -> dict[str, str]:
        columns = response_sessions.c
        with store.read() as connection:
            wanted = select(columns.response_id, columns.session_id).where(
                columns.workflow == workflow, columns.response_id.in_(ids)
            )
            return {row.response_id: row.session_id for row in connection.execute(wanted)}

    return query
