"""`agentrl gateway` as a process: how it starts and ends, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from agentrl.release.store import open_store
from agentrl.release.store.tables import feedback, sessions
from tests.gateway.world import Listeners, Stub

RUN = [sys.executable, "-m", "agentrl", "gateway"]
CONFIG = """
workflow: {{target: support, baseline: none, policy_training: ppo_kl}}
release: {{gates: [], folder: {folder}, store: "{store}"}}
gateway:
  {more}
  port: 0
  admin_port: 0
  general: base
  upstreams:
    base: {{url: "http://127.0.0.1:{port}/v1", model: m}}
"""


def started(config: Path) -> tuple[subprocess.Popen[str], str]:
    """The process, and where it listens."""
    process = subprocess.Popen([*RUN, str(config)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    return process, line.split(" on ")[1].split("/v1")[0]


def write(folder: Path, port: int, store: str, more: str = "host: 127.0.0.1") -> Path:
    path = folder / "gateway.yaml"
    path.write_text(CONFIG.format(folder=folder / "releases", port=port, store=store, more=more))
    return path


@pytest.mark.slow
def test_what_was_acknowledged_is_there_after_kill_9(tmp_path: Path, store_url: str) -> None:
    """F29, F49: killed in the middle of a thousand events, then started again and told all of them once more."""
    stub, port, stop = Stub("base"), [0], threading.Event()

    async def serve_stub() -> None:
        listeners = Listeners()
        port[0] = await listeners.start(stub)
        is_up.set()
        await asyncio.to_thread(stop.wait)
        await listeners.aclose()

    is_up = threading.Event()
    server = threading.Thread(target=lambda: asyncio.run(serve_stub()))
    server.start()
    is_up.wait(10)
    config = write(tmp_path, port[0], store_url)
    events = [
        {"event_id": f"e{n}", "session_id": f"s{n % 4}", "kind": "cost", "usd": 1.0, "at": 10_000 - n}
        for n in range(1000)
    ]
    acknowledged: set[str] = set()
    process, address = started(config)
    try:
        with httpx.Client(base_url=address, timeout=10) as client:
            for number in range(4):
                asked = client.post("/v1/chat/completions", json={}, headers={"X-Session-Id": f"s{number}"})
                assert asked.status_code == 200
            killer = threading.Timer(0.25, lambda: os.kill(process.pid, signal.SIGKILL))
            for start in range(0, 1000, 5):
                if start == 50:
                    killer.start()
                try:
                    answer = client.post("/v1/feedback", json={"events": events[start : start + 5]})
                except httpx.TransportError:
                    break
                acknowledged |= {each["event_id"] for each in answer.json()["data"] if each["status"] == "recorded"}
        assert process.wait(10) == -signal.SIGKILL
        store = open_store(store_url)
        with store.read() as connection:
            kept = set(connection.execute(select(feedback.c.event_id)).scalars())
        assert {f":{event_id}" for event_id in acknowledged} <= kept
        assert 50 <= len(acknowledged) < 1000
        process, address = started(config)
        told: list[dict[str, Any]] = []
        with httpx.Client(base_url=address, timeout=30) as client:
            for some in (events[:500], events[500:]):
                told += client.post("/v1/feedback", json={"events": some}).json()["data"]
        assert {each["status"] for each in told} == {"recorded", "duplicate"}
        assert sum(each["status"] == "duplicate" for each in told) == len(kept)
        with store.read() as connection:
            rows = connection.execute(select(sessions.c.session_id, sessions.c.extra)).all()
            count = len(connection.execute(select(feedback.c.event_id)).all())
        store.close()
        assert (len(rows), count) == (4, 1000)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait(10)
        stop.set()
        server.join(10)


def refused(config: Path, **env: str) -> str:
    done = subprocess.run(
        [*RUN, str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **env},
        check=False,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


@pytest.mark.slow
def test_an_open_door_is_refused_before_anything_listens(tmp_path: Path) -> None:
    """T22"""
    message = refused(write(tmp_path, 1, f"sqlite:///{tmp_path}/r.db", more="host: 0.0.0.0"))
    assert "gateway.host: found 0.0.0.0" in message
    assert "Traceback" not in message
    message = refused(write(tmp_path, 1, f"sqlite:///{tmp_path}/r.db", more="api_keys: [{name: a, env: TEST_NO}]"))
    assert "TEST_NO is not set" in message
