from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from agentrl.config import LifecycleConfig
from agentrl.errors import CheckpointError, SandboxError
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools.lifecycle import CLOSE, LEDGER, OPEN, Ledger, Lifecycle
from agentrl.tools.toolbox import Toolbox
from agentrl.types import FailureClass, Outcome, Rollout, StopReason
from tests.engine_fixtures import CALL, FakeGrader, FakeTool
from tests.factories import make_task
from tests.rollout.test_engine import Script, make_engine

CONFIG = {"open_url": "http://127.0.0.1/open", "close_url": "http://127.0.0.1/close", "retries": 0}


class Server:
    """Sandboxes by trace id; answers what `status` says for a request, 200 by itself."""

    def __init__(self, status: Callable[[dict[str, Any]], int] = lambda _: 200, seconds: float = 0.0) -> None:
        self.status, self.seconds = status, seconds
        self.requests: list[dict[str, Any]] = []
        self.alive: set[str] = set()
        self.most_alive = 0

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.requests.append(body)
        assert request.url.path == {OPEN: "/open", CLOSE: "/close"}[body["type"]]
        assert request.headers["X-Rollout-Id"] == body["trace_id"]
        await asyncio.sleep(self.seconds)
        status = self.status(body)
        if status == 200 and body["type"] == OPEN:
            self.alive.add(body["trace_id"])
        elif status in (200, 410):
            self.alive.discard(body["trace_id"])
        self.most_alive = max(self.most_alive, len(self.alive))
        return httpx.Response(status, json={})

    def seen(self, kind: str) -> list[str]:
        return [body["trace_id"] for body in self.requests if body["type"] == kind]


def lifecycle(server: Server, **config: Any) -> Lifecycle:
    return Lifecycle(LifecycleConfig(**{**CONFIG, **config}), transport=httpx.MockTransport(server))


def engine_with(server: Server, *tools: Any, grader: Any = None, script: Any = None, **config: Any) -> RolloutEngine:
    engine = make_engine(script or Script(CALL, "42"), grader=grader)
    engine._toolbox = Toolbox(tools or [FakeTool()])
    engine._lifecycle = lifecycle(server, **config)
    return engine


def run(engine: RolloutEngine, n: int = 3, folder: Path | None = None) -> list[Rollout]:
    async def story() -> list[Rollout]:
        if folder:
            await engine.open_ledger(folder)
        rollouts = await engine.run([make_task(f"t{i}", secret="s", repo="r") for i in range(n)])
        await engine.aclose()
        return rollouts

    return asyncio.run(story())


def ledger_of(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / LEDGER).read_text().splitlines()]


def test_each_sandbox_is_opened_before_the_first_turn_and_closed_once_after_the_grade(tmp_path: Path) -> None:
    server = Server()
    engine = engine_with(server)

    class Watching(FakeGrader):
        async def grade(self, rollout: Rollout) -> Any:
            assert rollout.id in server.alive
            return await super().grade(rollout)

    engine._grader = Watching()
    rollouts = run(engine, folder=tmp_path)
    ids = sorted(rollout.id for rollout in rollouts)
    assert sorted(server.seen(OPEN)) == sorted(server.seen(CLOSE)) == ids
    assert server.alive == set()
    assert all(rollout.is_valid for rollout in rollouts)
    [run_id] = {body["run_id"] for body in server.requests}
    first, *events = ledger_of(tmp_path)
    assert first == {"event": "run", "run_id": run_id, "close_url": "http://127.0.0.1/close"}
    assert sorted(event["trace_id"] for event in events if event["event"] == "open") == ids
    assert sorted(event["trace_id"] for event in events if event["event"] == "closed") == ids


@pytest.mark.parametrize(("fields", "sent"), [("all", {"secret", "repo"}), ("none", set()), (["repo"], {"repo"})])
def test_the_server_is_sent_no_more_of_the_item_than_it_may_see(fields: Any, sent: set[str]) -> None:
    server = Server()
    run(engine_with(server, item_fields=fields), 1)
    assert set(server.requests[0]["item"]) == sent
    assert "item" not in server.requests[1]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_without_a_sandbox_the_rollout_is_lost_before_it_samples(status: int) -> None:
    server = Server(lambda body: status if body["type"] == OPEN else 200)
    grader = FakeGrader()
    [rollout] = run(engine_with(server, grader=grader), 1)
    assert (rollout.stop_reason, rollout.outcome) == (StopReason.INFRASTRUCTURE, Outcome.INFRA_FAILED)
    assert (rollout.failure_class, rollout.turns, grader.seen) == (FailureClass.SANDBOX, (), [])
    assert rollout.error.startswith(f"SandboxError: sandbox open at http://127.0.0.1/open: answered {status}")
    assert server.seen(CLOSE) == [rollout.id]  # it may have been opened all the same


def test_a_sandbox_that_died_under_way_takes_the_rollouts_vote_with_it() -> None:
    server = Server(lambda body: 410 if body["type"] == CLOSE else 200)
    [rollout] = run(engine_with(server), 1)
    assert (rollout.outcome, rollout.failure_class) == (Outcome.INFRA_FAILED, FailureClass.SANDBOX)
    assert rollout.grade.score is None
    assert "answered 410, it died before its end" in rollout.error
    assert server.seen(OPEN) == server.seen(CLOSE) == [rollout.id]  # none was opened in its place


def test_a_tool_whose_sandbox_is_gone_ends_the_rollout_without_a_vote() -> None:
    from agentrl.config import ToolEndpointConfig
    from agentrl.tools.endpoint_tool import EndpointTool

    def gone(_: httpx.Request) -> httpx.Response:
        return httpx.Response(410, json={"output": "a fresh start"})

    config = ToolEndpointConfig(name="look", server_url="http://127.0.0.1/look")
    server = Server()
    tool = EndpointTool(config, transport=httpx.MockTransport(gone))
    [rollout] = run(engine_with(server, tool), 1)
    assert (rollout.outcome, rollout.failure_class) == (Outcome.INFRA_FAILED, FailureClass.SANDBOX)
    assert (len(rollout.turns), rollout.turns[0].observation_ids) == (1, ())
    assert server.alive == set()


def test_a_sandbox_that_cannot_be_closed_is_tried_again_and_the_episode_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refused: list[str] = []

    def first_time(body: dict[str, Any]) -> int:
        if body["type"] == CLOSE and body["trace_id"] not in refused:
            refused.append(body["trace_id"])
            return 409
        return 200

    server = Server(first_time)
    with caplog.at_level(logging.WARNING):
        rollouts = run(engine_with(server), folder=tmp_path)
    assert all(rollout.is_valid for rollout in rollouts)
    assert "stays open" in caplog.text
    assert server.alive == set()
    assert len(server.seen(CLOSE)) == 6
    assert [event["event"] for event in ledger_of(tmp_path)].count("closed") == 3


def test_so_many_are_open_at_once_and_no_more() -> None:
    server = Server(seconds=0.002)
    rollouts = run(engine_with(server, max_open=2), 9)
    assert all(rollout.is_valid for rollout in rollouts)
    assert server.most_alive == 2


async def cancelled(work: Awaitable[Any], when: Callable[[], bool]) -> None:
    task = asyncio.ensure_future(work)
    while not when():
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("moment", ["opening", "calling a tool", "closing"])
def test_a_cancelled_run_closes_each_sandbox_once(tmp_path: Path, moment: str) -> None:
    server = Server(seconds=0.02)
    tool = FakeTool(seconds=10.0 if moment == "calling a tool" else 0.0)
    engine = engine_with(server, tool)

    async def story() -> None:
        await engine.open_ledger(tmp_path)
        reached = {
            "opening": lambda: len(server.requests) == 3,
            "calling a tool": lambda: tool.running == 3,
            "closing": lambda: len(server.seen(CLOSE)) == 3,
        }[moment]
        await cancelled(engine.run([make_task(f"t{i}") for i in range(3)]), reached)
        await engine.aclose()

    asyncio.run(story())
    assert server.alive == set()
    assert sorted(server.seen(CLOSE)) == sorted(server.seen(OPEN))
    assert [event["event"] for event in ledger_of(tmp_path)].count("closed") == 3


def test_a_time_limit_closes_too() -> None:
    server = Server()
    engine = engine_with(server, FakeTool(seconds=10.0))
    engine._config = engine._config.model_copy(update={"max_seconds": 0.05})
    [rollout] = run(engine, 1)
    assert rollout.stop_reason is StopReason.TIME_LIMIT
    assert (server.seen(CLOSE), server.alive) == ([rollout.id], set())


CRASHED = [
    {"event": "run", "run_id": "run_old", "close_url": "http://127.0.0.1/close"},
    {"event": "open", "trace_id": "trace_a"},
    {"event": "open", "trace_id": "trace_b"},
    {"event": "closed", "trace_id": "trace_a"},
    {"event": "open", "trace_id": "trace_c"},
]


def crash(folder: Path, last: str = "") -> None:
    folder.mkdir(exist_ok=True)
    (folder / LEDGER).write_text("".join(json.dumps(event) + "\n" for event in CRASHED) + last)


@pytest.mark.parametrize("last", ["", '{"event": "op'])
def test_what_a_crash_left_open_is_closed_at_the_next_start_under_its_run_id(tmp_path: Path, last: str) -> None:
    crash(tmp_path, last)
    server = Server()
    [rollout] = run(engine_with(server), 1, tmp_path)
    assert server.seen(CLOSE)[:2] in (["trace_b", "trace_c"], ["trace_c", "trace_b"])
    assert {body["run_id"] for body in server.requests} == {"run_old"}
    assert server.seen(OPEN) == [rollout.id]
    assert [event["event"] for event in ledger_of(tmp_path)].count("open") == 4
    assert Ledger(tmp_path / LEDGER, "").left_open == ()


def test_orphans_that_the_server_does_not_know_any_more_are_done_with(tmp_path: Path) -> None:
    crash(tmp_path)
    server = Server(lambda body: 410 if body["trace_id"] == "trace_b" else 200)
    run(engine_with(server), 1, tmp_path)
    assert Ledger(tmp_path / LEDGER, "").left_open == ()


def test_orphans_stay_in_the_ledger_while_the_server_is_down(tmp_path: Path) -> None:
    crash(tmp_path)

    async def start(server: Server) -> None:
        sandboxes = lifecycle(server)
        await sandboxes.open_ledger(tmp_path)
        await sandboxes.aclose()

    asyncio.run(start(Server(lambda _: 500)))
    assert Ledger(tmp_path / LEDGER, "").left_open == ("trace_b", "trace_c")
    asyncio.run(start(Server()))
    assert Ledger(tmp_path / LEDGER, "").left_open == ()


@pytest.mark.parametrize(("close_url", "reaped"), [("http://127.0.0.1/close", 2), ("http://127.0.0.2/close", 0)])
def test_another_runs_orphans_are_closed_where_the_server_is_the_same(
    tmp_path: Path, close_url: str, reaped: int
) -> None:
    crash(tmp_path / "old")
    server = Server()

    async def start() -> None:
        sandboxes = lifecycle(server, close_url=close_url)
        await sandboxes.open_ledger(tmp_path)
        await sandboxes.reap(tmp_path / "old")
        await sandboxes.reap(tmp_path / "without a ledger")
        await sandboxes.aclose()

    asyncio.run(start())
    assert len(server.requests) == reaped
    assert len(Ledger(tmp_path / "old" / LEDGER, "").left_open) == 2 - reaped
    assert [event["event"] for event in ledger_of(tmp_path)] == ["run"]


def test_a_damaged_ledger_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / LEDGER).write_text('{"event": "run", "run_id": "r", "close_url": ""}\noops\n{"event": "open"}\n')
    with pytest.raises(CheckpointError, match=r"sandboxes\.jsonl:2 is damaged"):
        Ledger(tmp_path / LEDGER, "")
    with pytest.raises(CheckpointError, match="cannot be used"):
        Ledger(tmp_path / "nothing" / LEDGER, "")


def test_what_cannot_be_noted_is_not_opened(tmp_path: Path) -> None:
    server = Server()
    sandboxes = lifecycle(server)

    async def story() -> None:
        await sandboxes.open_ledger(tmp_path)
        (tmp_path / LEDGER).unlink()
        (tmp_path / LEDGER).mkdir()
        with pytest.raises(SandboxError, match="Is a directory"):
            await sandboxes.open("trace_a", {})

    asyncio.run(story())
    assert server.requests == []
