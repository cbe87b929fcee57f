"""The users of a drill: many streams open at once, and somebody new all the time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from enum import StrEnum

import httpx

from agentrl.release.steady_clock import steady_seconds


class Ending(StrEnum):
    """How an answer ended for its user."""

    OPEN = "open"
    DONE = "done"
    CUT = "cut"
    """After its first words."""
    REFUSED = "refused"
    """Without a word: an error, or no server."""


@dataclass
class Stream:
    """One user's session of one answer; times of `steady_seconds`."""

    session_id: str
    asked_at: float
    first_word_at: float | None = None
    ended_at: float | None = None
    model: str = ""
    """Who answered, in the answer's own first word: what a gateway says of it is not what is asked here."""
    ending: Ending = Ending.OPEN


@dataclass
class Users:
    """They ask gateways in turn.

    Attributes:
        urls: of the gateways, up to and including /v1; changed where one is started anew.
    """

    urls: list[str]
    client: httpx.AsyncClient
    session_header: str
    prefix: str
    streams: list[Stream] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def come(self) -> Stream:
        """One more user."""
        stream = Stream(f"{self.prefix}-{len(self.streams):05d}", steady_seconds())
        url = self.urls[len(self.streams) % len(self.urls)]
        self.streams.append(stream)
        task = asyncio.create_task(self._listen(stream, url))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return stream

    async def keep_coming(self, per_second: float) -> None:
        """Somebody new at even distances, until this is cancelled."""
        while True:
            self.come()
            await asyncio.sleep(1 / per_second)

    def of(self, model: str, ending: Ending | None = None) -> list[Stream]:
        """Those that a model answered."""
        return [each for each in self.streams if each.model == model and ending in (None, each.ending)]

    async def tell_violation(self, stream: Stream) -> None:
        """Feedback: this answer broke a safety rule.

        Raises:
            httpx.HTTPError: the gateway did not take it.
        """
        event = {
            "event_id": f"{stream.session_id}-safety",
            "session_id": stream.session_id,
            "kind": "safety",
            "violations": 1,
        }
        url = self.urls[self.streams.index(stream) % len(self.urls)]
        reply = await self.client.post(f"{url}/feedback", json=event, headers={self.session_header: stream.session_id})
        reply.raise_for_status()

    async def leave(self) -> None:
        """Hang up, all of them."""
        for task in list(self.tasks):
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _listen(self, stream: Stream, url: str) -> None:
        body = {"model": "drill", "stream": True, "messages": [{"role": "user", "content": "go on"}]}
        try:
            async with self.client.stream(
                "POST", f"{url}/chat/completions", json=body, headers={self.session_header: stream.session_id}
            ) as reply:
                reply.raise_for_status()
                async for line in reply.aiter_lines():
                    self._hear(stream, line)
        except httpx.HTTPError:
            pass
        finally:
            stream.ended_at = steady_seconds()
            if stream.ending is Ending.OPEN:
                stream.ending = Ending.REFUSED if stream.first_word_at is None else Ending.CUT

    def _hear(self, stream: Stream, line: str) -> None:
        if not line.startswith("data: "):
            return
        if line == "data: [DONE]":
            if stream.ending is Ending.OPEN:
                stream.ending = Ending.DONE
            return
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            stream.ending = Ending.CUT
            return
        if stream.first_word_at is None and chunk["choices"]:
            said = str(chunk["choices"][0]["delta"].get("content", ""))
            stream.first_word_at, stream.model = steady_seconds(), said.partition(":")[0]
