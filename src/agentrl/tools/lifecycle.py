"""Servers that keep a sandbox for each episode: opened before its first turn, closed once after its grade.

Sent:      {"type": "rollout_open", "trace_id": "trace_...", "run_id": "run_...", "item": {...}}
           {"type": "rollout_close", "trace_id": "trace_...", "run_id": "run_..."}
Expected:  any JSON object with status 200; 410 to a close says that the sandbox is not there any more.

A ledger in the run directory notes every sandbox before it is asked for, and again when it is closed: what a crash left
open is closed when the run is resumed, or when another run starts beside it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
import uuid
from pathlib import Path
from typing import Any

import httpx

from agentrl.config import LifecycleConfig, ToolsConfig
from agentrl.endpoint import Endpoint, EndpointFailure, advice, excerpt, served_url
from agentrl.errors import CheckpointError, SandboxError
from agentrl.tools.endpoint_tool import GONE

logger = logging.getLogger(__name__)

LEDGER = "sandboxes.jsonl"
OPEN, CLOSE = "rollout_open", "rollout_close"


class Ledger:
    """Which sandboxes of a run are open: one line an event, on disk before anything else happens.

    Args:
        close_url: who closes them; kept with the run's id.

    Raises:
        CheckpointError: it cannot be written, or a line other than the last, which a crash may have cut, not be read.
    """

    def __init__(self, path: Path, close_url: str) -> None:
        self._path = path
        self._writing = threading.Lock()
        self.run_id, self.close_url = f"run_{uuid.uuid4()}", close_url
        self.left_open: tuple[str, ...] = ()
        """Trace ids that an earlier process opened and did not close."""
        try:
            if path.exists():
                self._replay(path.read_text("utf-8").split("\n"))
            else:
                self._append({"event": "run", "run_id": self.run_id, "close_url": close_url})
        except OSError as error:
            raise CheckpointError(f"{path} cannot be used: {error.strerror}") from error

    def _replay(self, lines: list[str]) -> None:
        found: dict[str, None] = {}
        *whole, cut = lines
        for number, line in enumerate(whole, start=1):
            try:
                event = json.loads(line)
                if event["event"] == "run":
                    self.run_id, self.close_url = event["run_id"], event["close_url"]
                elif event["event"] == "open":
                    found[event["trace_id"]] = None
                else:
                    found.pop(event["trace_id"], None)
            except (ValueError, KeyError, TypeError) as error:
                raise CheckpointError(f"{self._path}:{number} is damaged ({error}): {line[:80]!r}") from error
        self.left_open = tuple(found)
        if cut:  # it never took effect: a sandbox is asked for only after its whole line is on disk
            with self._path.open("r+b") as file:
                file.truncate(sum(len(line.encode()) + 1 for line in whole))

    async def note(self, event: str, trace_id: str) -> None:
        """`open` or `closed`; on disk when this returns."""
        await asyncio.to_thread(self._append, {"event": event, "trace_id": trace_id})

    def _append(self, event: dict[str, str]) -> None:
        with self._writing, self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")
            file.flush()
            os.fsync(file.fileno())


class Lifecycle:
    """The endpoints of `tools.lifecycle`.

    Args:
        base_url: what `{serve}` in the config's urls stands for.
        transport: replaces the network in tests.

    Attributes:
        unclosed: trace ids of sandboxes that are open, those included that could not be closed, with their ledgers.

    Raises:
        ConfigError: a URL or a header cannot be used.
    """

    def __init__(
        self, config: LifecycleConfig, base_url: str = "", *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        def endpoint(verb: str, url: str) -> Endpoint:
            name = f"sandbox {verb}"
            url = served_url(name, url, base_url)
            return Endpoint(name, url, config.headers, transport=transport, **config.call_options)

        self._open, self._close = endpoint("open", config.open_url), endpoint("close", config.close_url)
        self._item_fields = config.item_fields
        self._places = asyncio.Semaphore(config.max_open)
        self._ledger: Ledger | None = None
        self._run_id = f"run_{uuid.uuid4()}"  # where there is no ledger
        self._opened: set[str] = set()  # each holds a place
        self._closing: set[asyncio.Task[str]] = set()
        self.unclosed: dict[str, Ledger | None] = {}

    @property
    def endpoints(self) -> tuple[Endpoint, Endpoint]:
        return self._open, self._close

    @classmethod
    def from_config(cls, config: ToolsConfig, base_url: str = "") -> Lifecycle | None:
        """The endpoints of `tools.lifecycle`; None where the tools need none."""
        return cls(config.lifecycle, base_url) if config.lifecycle else None

    async def open_ledger(self, folder: Path) -> None:
        """Keep a ledger in `folder`; what an earlier process left open there is closed now, under its run id.

        Raises:
            CheckpointError: the ledger is damaged, or cannot be written.
        """
        self._ledger = Ledger(folder / LEDGER, self._close.shown_url)
        await self._reap(self._ledger)

    async def reap(self, folder: Path) -> None:
        """Close what another run left open that nobody works in any more, if it is this server's.

        Raises:
            CheckpointError: that run's ledger is damaged, or cannot be written.
        """
        if (folder / LEDGER).exists():
            ledger = Ledger(folder / LEDGER, self._close.shown_url)
            if ledger.close_url == self._close.shown_url:
                await self._reap(ledger)

    async def _reap(self, ledger: Ledger) -> None:
        if ledger.left_open:
            logger.warning("closing %d sandboxes that %s left open", len(ledger.left_open), ledger.run_id)
            self.unclosed |= dict.fromkeys(ledger.left_open, ledger)
            await self.close_leftovers()

    async def open(self, rollout_id: str, item: dict[str, Any]) -> None:
        """Ask for the rollout's sandbox, once a place is free; `close` has to follow, also after a failure.

        Raises:
            SandboxError: there is none.
        """
        await self._places.acquire()
        self._opened.add(rollout_id)
        self.unclosed[rollout_id] = self._ledger
        fields = self._item_fields
        if fields != "all":
            item = {key: value for key, value in item.items() if fields != "none" and key in fields}
        payload = {**self._labels(OPEN, rollout_id), "item": item}
        try:
            if self._ledger is not None:
                await self._ledger.note("open", rollout_id)
            reply = await self._open.post(payload, rollout_id=rollout_id, action=OPEN, is_repeatable=False)
        except (EndpointFailure, OSError) as failure:  # what cannot be noted is not opened: nobody would close it
            raise SandboxError(str(failure), rollout_id=rollout_id) from failure
        if reply.status >= 400:
            found = f"answered {reply.status}{excerpt(reply.text)}{advice('status', reply.status)}"
            raise SandboxError(f"{self._open.name} at {self._open.shown_url}: {found}", rollout_id=rollout_id)

    async def close(self, rollout_id: str) -> str:
        """Close the rollout's sandbox, once; "" or, where it had died before, words that say so.

        Goes on when the caller is cancelled: `aclose` waits for it. A failure to close is logged and tried again
        later; it does not change what the episode earned.
        """
        if rollout_id not in self._opened:
            return ""
        self._opened.discard(rollout_id)
        task = asyncio.ensure_future(self._close_one(rollout_id))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        task.add_done_callback(lambda _: self._places.release())
        return await asyncio.shield(task)

    async def close_leftovers(self) -> None:
        """Close what no episode holds any more and could not be closed before."""
        await asyncio.gather(*self._closing)
        await asyncio.gather(*(self._close_one(rollout_id) for rollout_id in self.unclosed.keys() - self._opened))

    async def aclose(self) -> None:
        """Close what is still open, and the connections."""
        self._opened.clear()
        await self.close_leftovers()
        await asyncio.gather(self._open.aclose(), self._close.aclose())

    async def _close_one(self, rollout_id: str) -> str:
        payload, ledger = self._labels(CLOSE, rollout_id), self.unclosed[rollout_id]
        try:
            reply = await self._close.post(payload, rollout_id=rollout_id, action=CLOSE)
            if reply.status >= 400 and reply.status != GONE:
                logger.warning("%r answered %d%s; it stays open", self._close, reply.status, excerpt(reply.text))
                return ""
            if ledger is not None:
                await ledger.note("closed", rollout_id)
        except (EndpointFailure, OSError) as failure:
            logger.warning("%s; rollout %s stays open", failure, rollout_id)
            return ""
        self.unclosed.pop(rollout_id, None)
        if reply.status == GONE:
            return f"{self._close.name} at {self._close.shown_url}: answered {GONE}, it died before its end"
        return ""

    def _labels(self, kind: str, rollout_id: str) -> dict[str, Any]:
        ledger = self.unclosed[rollout_id]
        return {"type": kind, "trace_id": rollout_id, "run_id": ledger.run_id if ledger else self._run_id}
