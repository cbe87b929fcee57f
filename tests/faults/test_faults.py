"""Each fault that an endpoint can have, over real sockets: what the policy sees, and what is graded."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from agentrl.chat import ChatFormat
from agentrl.config import GradingConfig, RolloutConfig, ToolEndpointConfig
from agentrl.endpoint import Endpoint, EndpointFailure, endpoint
from agentrl.grading import RunGrader, build_grader
from agentrl.inference.scripted import ScriptedEngine
from agentrl.rollout.engine import RolloutEngine
from agentrl.tools import EndpointTool, Toolbox
from agentrl.types import Outcome, Rollout, StopReason
from tests.engine_fixtures import make_tokenizer
from tests.factories import make_rollout, make_task
from tests.faults.server import FAULTS, FaultServer, output_of, packed, score_of

TOKENIZER = make_tokenizer()
CHAT = ChatFormat(TOKENIZER)
RETRIES = 2


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.01)


def settings_for(fault: str) -> dict[str, Any]:
    """A short deadline only where the fault is to pass it: a busy machine is no fault."""
    is_slow = fault.partition(":")[0] in ("hang", "silent", "drip", "late")
    return {"timeout_seconds": 0.8 if is_slow else 10.0, "retries": RETRIES, "breaker_seconds": 0.05}


def make_tool(url: str, fault: str, name: str = "look", **fields: Any) -> EndpointTool:
    settings = settings_for(fault) | fields
    return EndpointTool(ToolEndpointConfig(name=name, server_url=f"{url}/tool/{fault}", **settings))


def make_grader(url: str, fault: str, **fields: Any) -> RunGrader:
    settings = settings_for(fault) | fields
    return build_grader(GradingConfig(name="right", url=f"{url}/grade/{fault}", **settings))


def calling(*names: str) -> Callable[[list[int], str], list[int]]:
    """A policy that calls these tools, one a turn, and answers `yes`."""
    turns = [f'<tool_call>{{"name": "{name}", "arguments": {{}}}}</tool_call>' for name in names] + ["yes"]
    said: dict[str, int] = {}

    def script(_: list[int], session: str) -> list[int]:
        said[session] = said.get(session, -1) + 1
        return [*TOKENIZER.encode(turns[said[session]], add_special_tokens=False), CHAT.stop_id]

    return script


def make_engine(tools: list[EndpointTool], grader: RunGrader, *calls: str, **limits: Any) -> RolloutEngine:
    config = RolloutConfig(**{"max_turn_tokens": 400, "max_context_tokens": 4000, **limits})
    return RolloutEngine(ScriptedEngine(calling(*(calls or ("look",)))), CHAT, Toolbox(tools), grader, config)


@dataclass
class Episode:
    rollout: Rollout
    server: FaultServer
    tool: EndpointTool
    grader: RunGrader

    @property
    def outputs(self) -> list[str]:
        return [result.output for turn in self.rollout.turns for result in turn.tool_results]

    @property
    def score(self) -> float | None:
        return self.rollout.grade.score if self.rollout.grade else None

    def delivered(self, kind: str) -> int:
        """How often the server was sent calls of that kind: `call` or `grade`."""
        return sum(count for key, count in self.server.deliveries.items() if key.partition("/")[2].startswith(kind))

    def assert_is_right(self) -> None:
        assert self.rollout.outcome is Outcome.COMPLETED
        assert self.score == score_of(self.rollout.id)

    def assert_is_lost(self) -> None:
        assert self.rollout.outcome is Outcome.INFRA_FAILED
        assert self.score is None
        assert self.rollout.grade
        assert self.rollout.grade.reason


def episode(tool: str = "ok", grade: str = "ok", *calls: str, grading: dict[str, Any] | None = None) -> Episode:
    """One rollout against a server whose tool and grader have these faults."""

    async def run() -> Episode:
        server = FaultServer(late_seconds=1.2)
        async with server.listening() as url:
            tools = make_tool(url, tool)
            grader = make_grader(url, grade, **(grading or {}))
            engine = make_engine([tools], grader, *calls)
            [rollout] = await engine.run([make_task()])
            await asyncio.sleep(0.6 if "late" in (tool, grade) else 0)
            await engine.aclose()
        assert not any(len(digests) > 1 for digests in server.contents.values())  # the same bytes under one key
        return Episode(rollout, server, tools, grader)

    return asyncio.run(run())


def in_loop(run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(run())


@pytest.mark.parametrize("fault", ["500:1", "503:2", "reset:1", "half:2", "429:1", "html:1", "hang:1"])
def test_f1_a_fault_that_passes_costs_a_retry_and_nothing_else(fault: str) -> None:
    found = episode(fault, fault)
    found.assert_is_right()
    times = fault.partition(":")[2]
    assert found.delivered("call") == found.delivered("grade") == int(times) + 1
    [result] = found.rollout.turns[0].tool_results
    assert (result.output, result.attempts) == (output_of(found.rollout.id, result.call_id), int(times) + 1)
    assert found.tool.endpoint.stats.retries == int(times)
    assert sum(found.tool.endpoint.stats.failures.values()) == int(times)


def test_f2_a_tool_that_fails_for_ever_loses_the_rollout_and_is_not_graded() -> None:
    found = episode("500")
    found.assert_is_lost()
    assert (found.delivered("call"), found.delivered("grade")) == (RETRIES + 1, 0)
    assert found.rollout.stop_reason is StopReason.INFRASTRUCTURE


@pytest.mark.parametrize(("fault", "shown"), [("400", "unknown column"), ("409", "on purpose")])
def test_f3_a_4xx_is_shown_to_the_policy_once(fault: str, shown: str) -> None:
    found = episode(fault)
    found.assert_is_right()
    assert shown in found.outputs[0]
    assert found.delivered("call") == 1


@pytest.mark.parametrize("fault", ["401", "403", "404"])
def test_f3_a_wrong_key_or_path_is_not_the_policys_doing(fault: str) -> None:
    found = episode(fault)
    found.assert_is_lost()
    assert found.delivered("call") == 1
    assert found.tool.endpoint.stats.failures == {f"http_{fault}": 1}


@pytest.mark.parametrize(
    ("fault", "at_least", "at_most"),
    [("429-seconds", 3, 3), ("429-date", 10, 10), ("429-absurd", 10, 10), ("429-negative", 0, 0.25)],
)
def test_f4_retry_after_is_honoured_up_to_a_cap_that_is_logged(
    fault: str, at_least: float, at_most: float, caplog: pytest.LogCaptureFixture
) -> None:
    pauses: list[float] = []

    async def note(seconds: float) -> None:
        pauses.append(seconds)

    async def run() -> None:
        async with FaultServer().listening() as url:
            one = Endpoint(
                "tool look", f"{url}/tool/{fault}:1", {}, timeout_seconds=5, retries=1, max_concurrency=1, sleep=note
            )
            payload = {"call_id": "call_1", "trace_id": "trace_1"}
            assert (await one.post(payload, rollout_id="trace_1")).attempts == 2
            await one.aclose()

    in_loop(run)
    assert at_least <= pauses[0] <= at_most
    assert ("waiting 10 s" in caplog.text) == (at_most == 10)


def test_f5_a_refused_connection_is_tried_again_and_then_infrastructure() -> None:
    async def run() -> None:
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{nobody.getsockname()[1]}"
            tool = make_tool(url, "ok")
            engine = make_engine([tool], make_grader(url, "ok"))
            [rollout] = await engine.run([make_task()])
            await engine.aclose()
        assert rollout.outcome is Outcome.INFRA_FAILED
        assert "connection refused" in rollout.error
        assert tool.endpoint.stats.failures == {"connect": RETRIES + 1}

    in_loop(run)


@pytest.mark.parametrize("fault", ["hang", "silent", "drip"])
def test_f6_f7_a_server_that_never_finishes_is_left_at_the_deadline(fault: str) -> None:
    started = time.monotonic()
    found = episode(fault)
    found.assert_is_lost()
    assert found.tool.endpoint.stats.failures == {"timeout": RETRIES + 1}
    assert time.monotonic() - started < 30  # each would take a minute, or for ever


MALFORMED = ["html", "empty", "truncated", "list", "nan", "infinity", "double-key", "bad-utf8", "bom", "nothing"]


@pytest.mark.parametrize("fault", MALFORMED)
def test_f8_a_malformed_reply_is_tried_again_and_then_infrastructure(fault: str) -> None:
    found = episode(fault)
    found.assert_is_lost()
    assert found.delivered("call") == RETRIES + 1
    assert found.tool.endpoint.stats.failures == {"protocol": RETRIES + 1}
    found = episode("ok", fault)
    found.assert_is_lost()
    assert found.delivered("grade") == RETRIES + 1
    assert found.grader.endpoints[0].stats.failures == {"protocol": RETRIES + 1}


@pytest.mark.parametrize("fault", ["flood", "bomb"])
def test_f9_too_long_a_reply_is_a_message_to_the_policy_and_no_score(fault: str) -> None:
    packed()  # once, it takes a second
    found = episode(fault)
    found.assert_is_right()
    assert "over 1,048,576 bytes" in found.outputs[0]
    assert found.delivered("call") == 1
    found = episode("ok", fault)
    found.assert_is_lost()
    assert found.rollout.grade
    assert "answered 413" in found.rollout.grade.reason


def test_f10_a_reply_for_another_call_or_rollout_is_rejected_and_counted() -> None:
    for tool, grade in (("wrong-call", "ok"), ("wrong-trace", "ok"), ("ok", "wrong-trace"), ("ok", "wrong-call")):
        found = episode(tool, grade)
        found.assert_is_lost()
        one = found.tool.endpoint if grade == "ok" else found.grader.endpoints[0]
        assert one.stats.failures == {"protocol": RETRIES + 1}
        assert "another" in f"{found.rollout.error}{found.rollout.grade}"
    episode("wrong-call:1", "wrong-trace:2").assert_is_right()


def test_f14_a_late_reply_is_counted_and_read_by_nobody() -> None:
    async def run() -> None:
        server = FaultServer(late_seconds=1.2)
        async with server.listening() as url:
            tool = make_tool(url, "late:1")
            engine = make_engine([tool], make_grader(url, "ok"))
            [rollout] = await engine.run([make_task()])
            assert rollout.outcome is Outcome.COMPLETED
            [result] = rollout.turns[0].tool_results
            assert result.attempts == 2
            for _ in range(500):
                if tool.endpoint.stats.late_replies:
                    break
                await asyncio.sleep(0.02)
            stats = tool.endpoint.stats
            assert (stats.late_replies, stats.calls, stats.retries, stats.failures) == (1, 1, 1, {"timeout": 1})
            await engine.aclose()

    in_loop(run)


@pytest.mark.parametrize("fault", ["text", "nothing", "nan", "1e308"])
def test_f15_an_unusable_score_is_no_score(fault: str) -> None:
    episode("ok", fault).assert_is_lost()


def test_f15_clamping_is_asked_for_and_never_makes_a_score_of_no_number() -> None:
    clamped = episode("ok", "1e308", grading={"out_of_range": "clamp"})
    assert (clamped.rollout.outcome, clamped.score) == (Outcome.COMPLETED, 1.0)
    episode("ok", "nan", grading={"out_of_range": "clamp"}).assert_is_lost()
    episode("ok", "text", grading={"out_of_range": "clamp"}).assert_is_lost()


@pytest.mark.parametrize("fault", ["500", "hang", "reset", "400", "401"])
def test_f16_a_grader_that_fails_leaves_the_rollout_ungraded(fault: str) -> None:
    found = episode("ok", fault)
    found.assert_is_lost()
    assert found.outputs == [output_of(found.rollout.id, found.rollout.turns[0].tool_results[0].call_id)]


@pytest.mark.parametrize(
    ("backlog", "max_at_once"), [(5, 0), (1024, 20)], ids=["small backlog", "503 beyond 20 at once"]
)
def test_f19_five_hundred_at_once_are_all_answered(backlog: int, max_at_once: int) -> None:
    async def run() -> None:
        server = FaultServer(latency_seconds=0.005, max_at_once=max_at_once)
        async with server.listening(backlog=backlog) as url:
            tool = make_tool(url, "ok", retries=8)
            grader = make_grader(url, "ok", retries=8)
            engine = make_engine([tool], grader, max_concurrent=500)
            rollouts = await engine.run([make_task(f"t{index}") for index in range(500)])
            await engine.aclose()
        assert [rollout.grade.score for rollout in rollouts if rollout.grade] == [score_of(r.id) for r in rollouts]
        stats = tool.endpoint.stats
        assert stats.calls == 500
        assert 0 < stats.queue_p50_seconds <= stats.queue_p99_seconds
        assert server.most_at_once <= 2 * 64  # both endpoints' ceilings

    in_loop(run)


def test_f20_who_brings_more_than_is_taken_waits() -> None:
    async def run() -> None:
        server = FaultServer(latency_seconds=0.002)
        async with server.listening() as url:
            tool = make_tool(url, "ok", max_concurrency=2)
            engine = make_engine([tool], make_grader(url, "ok"), max_concurrent=8)
            most = 0

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, tool.endpoint.stats.waiting)
                    await asyncio.sleep(0)

            watcher = asyncio.ensure_future(watch())
            rollouts = await engine.run([make_task(f"t{index}") for index in range(100)])
            watcher.cancel()
            await engine.aclose()
        assert all(rollout.outcome is Outcome.COMPLETED for rollout in rollouts)
        assert 1 <= most <= 6  # of 100 rollouts eight are under way, and two of their calls

    in_loop(run)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_f21_when_everything_is_down_calls_stop_and_come_back_by_themselves() -> None:
    async def run() -> None:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        tool, grader = make_tool(url, "ok", breaker_failures=5), make_grader(url, "ok", breaker_failures=5)
        engine = make_engine([tool], grader)
        rollouts = await engine.run([make_task(f"t{index}") for index in range(40)])
        assert {rollout.outcome for rollout in rollouts} == {Outcome.INFRA_FAILED}
        assert tool.endpoint.health.state == "open"
        assert "connection refused" in tool.endpoint.health.error
        assert tool.endpoint.stats.failures["connect"] < 40  # of 120 attempts without a breaker
        healed = asyncio.ensure_future(engine.wait_until_healthy())
        await asyncio.sleep(0.1)
        assert not healed.done()
        server = FaultServer()
        async with server.listening(port) as _:
            await asyncio.wait_for(healed, 10)
            assert tool.endpoint.health.is_healthy
            rollouts = await engine.run([make_task(f"t{index}") for index in range(40)])
            await engine.aclose()
        assert {rollout.outcome for rollout in rollouts} == {Outcome.COMPLETED}

    in_loop(run)


def test_f21_no_rollout_is_lost_while_a_server_starts_again() -> None:
    async def run() -> None:
        port = free_port()
        url, first, second = f"http://127.0.0.1:{port}", FaultServer(latency_seconds=0.01), FaultServer()
        calls = {"retries": 6, "breaker_failures": 5, "breaker_seconds": 0.2}
        tool, grader = make_tool(url, "ok", **calls), make_grader(url, "ok", **calls)
        engine = make_engine([tool], grader)
        async with first.listening(port):
            running = asyncio.ensure_future(engine.run([make_task(f"t{index}") for index in range(300)]))
            while sum(first.deliveries.values()) < 100:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        async with second.listening(port):
            rollouts = await asyncio.wait_for(running, 60)
            await engine.aclose()
        assert sum(second.deliveries.values()) > 100
        assert {rollout.outcome for rollout in rollouts} == {Outcome.COMPLETED}
        assert [rollout.grade.score for rollout in rollouts if rollout.grade] == [score_of(r.id) for r in rollouts]

    in_loop(run)


def test_f22_one_bad_tool_among_five_stops_no_other() -> None:
    async def run() -> None:
        server = FaultServer()
        names = ["a", "b", "c", "d", "bad"]
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(server.listening())
            tools = [make_tool(url, "500" if name == "bad" else "ok", name, breaker_failures=5) for name in names]
            grader = make_grader(url, "ok")
            engines = [make_engine(tools, grader, name) for name in names]
            tasks = [make_task(f"t{index}") for index in range(30)]
            results = await asyncio.gather(*(engine.run(tasks) for engine in engines))
            states = [tool.endpoint.health.state for tool in tools]
            await engines[0].aclose()
        assert [{rollout.outcome for rollout in rollouts} for rollouts in results] == [
            *([{Outcome.COMPLETED}] * 4),
            {Outcome.INFRA_FAILED},
        ]
        assert states == [*(["closed"] * 4), "open"]
        assert [tool.endpoint.stats.breaker_opened for tool in tools] == [0, 0, 0, 0, 1]

    in_loop(run)


def test_f38_a_sandbox_that_dies_under_way_loses_the_rollout() -> None:
    found = episode("dies", "ok", "look", "look")
    found.assert_is_lost()
    assert [turn.tool_results != () for turn in found.rollout.turns] == [True, False]
    assert found.delivered("grade") == 0


@pytest.mark.parametrize("fault", ["redirect", "redirect:1"])
def test_t7_a_redirect_is_not_followed(fault: str) -> None:
    found = episode(fault)
    found.assert_is_lost()
    assert found.delivered("call") == 1


def test_t19_two_rollouts_share_nothing_but_the_configured_headers() -> None:
    """On one connection; the server sets a cookie, which is not sent back."""
    body = b'{"output": ""}'
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                await reader.readexactly(2)
                head = "HTTP/1.1 200 OK\r\nSet-Cookie: session=canary\r\nWWW-Authenticate: Negotiate canary\r\n"
                writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        except asyncio.IncompleteReadError:
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        one = Endpoint("tool look", url, {"X-Team": "a"}, timeout_seconds=5, retries=0, max_concurrency=1)
        for rollout_id in ("trace_1", "trace_2"):
            await one.post({}, rollout_id=rollout_id)
        await one.aclose()
        server.close()

    in_loop(run)
    first, second = heads
    assert first.replace(b"trace_1", b"") == second.replace(b"trace_2", b"")
    assert b"canary" not in second


def test_any_mix_of_faults_gives_the_right_score_or_none() -> None:
    draw = random.Random(1)
    slow = ("hang", "silent", "drip", "late", "flood", "bomb", "429-seconds", "429-date", "429-absurd")
    quick = [name for name in FAULTS if name not in slow]

    async def run() -> None:
        server = FaultServer()
        async with server.listening() as url:
            for _ in range(60):
                kinds = [f"{draw.choice(quick)}:{draw.randint(1, 3)}" for _ in range(2)]
                tool, grader = make_tool(url, kinds[0]), make_grader(url, kinds[1])
                engine = make_engine([tool], grader)
                [rollout] = await engine.run([make_task()])
                await engine.aclose()
                assert rollout.grade
                assert rollout.grade.score in (None, score_of(rollout.id))
                assert (rollout.outcome is Outcome.INFRA_FAILED) == (rollout.grade.score is None)

    in_loop(run)


def test_grading_is_told_the_rollout_by_id_and_key() -> None:
    async def run() -> None:
        server = FaultServer()
        async with server.listening() as url:
            grader = make_grader(url, "500:1")
            rollout = make_rollout(score=None)
            assert (await grader.grade(rollout)).score == score_of(rollout.id)
            await grader.aclose()
        assert set(server.contents) == {f"{rollout.id}/grade"}

    in_loop(run)


def test_a_call_ends_at_its_total_deadline_however_many_retries_are_left() -> None:
    async def run() -> None:
        async with FaultServer().listening() as url:
            settings: dict[str, Any] = {"timeout_seconds": 0.2, "total_timeout_seconds": 0.5, "retries": 1000}
            one = Endpoint("tool look", f"{url}/tool/hang", {}, max_concurrency=1, breaker_failures=1000, **settings)
            started = time.monotonic()
            with pytest.raises(EndpointFailure, match=r"no answer within 0\.5 s, 0\.\d s of them in the queue"):
                await one.post({"trace_id": "trace_1"}, rollout_id="trace_1", action="x")
            assert time.monotonic() - started < 10
            await one.aclose()

    in_loop(run)
