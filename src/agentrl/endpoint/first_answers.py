"""For servers: a call that is delivered twice is done once."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from itertools import islice
from typing import Any, Generic, TypeVar

from agentrl.errors import AgentRLError

T = TypeVar("T")


class CallConflict(AgentRLError):
    """The same rollout and call came with another payload before; nothing was done. Answer it with 409."""


class FirstAnswers(Generic[T]):
    """Remembers what was answered to each (rollout, call).

    A trainer sends a call again when its answer is late or lost, with the same ids and the same bytes. Wrap what has
    side effects:

        answer = await answers.once(body["trace_id"], body["call_id"], body["arguments"], lambda: book(body))

    It lives in one process and one event loop: with several workers keep the answers where all of them look.

    Args:
        capacity: answers that are kept; the oldest are forgotten first.
    """

    def __init__(self, *, capacity: int = 10_000) -> None:
        self._capacity = capacity
        self._calls: OrderedDict[tuple[str, str], tuple[str, asyncio.Task[T]]] = OrderedDict()

    async def once(self, rollout_id: str, call_id: str, payload: Any, run: Callable[[], Awaitable[T]]) -> T:
        """The answer of `run` to the first delivery; a later one waits for it if need be.

        It is finished also when whoever asked first has hung up. Where it raises, all who wait get the error and the
        next delivery runs it again.

        Args:
            payload: what the call asks for, as JSON.

        Raises:
            CallConflict: the first delivery asked for something else.
        """
        key = (rollout_id, call_id)
        text = json.dumps(payload, sort_keys=True, default=str)
        digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
        if (known := self._calls.get(key)) is None:
            task = asyncio.ensure_future(_run(run))
            self._calls[key] = digest, task
            task.add_done_callback(lambda done: self._settle(key, done))
        else:
            first, task = known
            if first != digest:
                raise CallConflict(f"call {call_id[:80]!r} of this rollout came before, and asked for something else")
        return await asyncio.shield(task)

    def _settle(self, key: tuple[str, str], task: asyncio.Task[T]) -> None:
        if task.cancelled() or task.exception() is not None:
            del self._calls[key]
        excess = len(self._calls) - self._capacity
        if excess > 0:
            finished = (known for known, (_, each) in self._calls.items() if each.done())
            for old in list(islice(finished, excess)):
                del self._calls[old]


async def _run(run: Callable[[], Awaitable[T]]) -> T:
    return await run()
