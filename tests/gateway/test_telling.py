"""F56: users' sessions reach a collector, and whatever is wrong with it, nobody waits and what is lost is counted."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from agentrl.config import TrackingConfig
from agentrl.errors import ConfigError
from agentrl.gateway import telling
from agentrl.gateway.kept_content import KeptContent
from agentrl.gateway.server import export_of
from agentrl.gateway.telling import SessionExport
from agentrl.monitoring import otlp
from agentrl.monitoring.session_log import read_sessions
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import sessions
from tests.gateway.test_planted_secrets import PLANTED, TOKEN, TRACES, live
from tests.gateway.world import ADMIN_KEY, World, until, world
from tests.monitoring.collector import StubCollector, attributes, collecting

pytestmark = pytest.mark.slow


@pytest.fixture
def collector() -> Any:
    with collecting() as stub:
        yield stub


@pytest.fixture(autouse=True)
def admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_ADMIN", ADMIN_KEY)


def tracking_to(url: str, **options: Any) -> TrackingConfig:
    told = {"endpoint": url, "timeout_seconds": 1.0} | options
    return TrackingConfig.model_validate({"opentelemetry": told, "log_seconds": 60.0})


@asynccontextmanager
async def told(place: ReleasePlace, tracking: TrackingConfig, **changes: Any) -> AsyncIterator[tuple[World, Any]]:
    """A gateway that tells a collector."""
    async with world(place, admin_key_env="TEST_ADMIN", **changes) as here:
        export = export_of(here.gateway, tracking)
        export.start()
        try:
            yield here, export
        finally:
            await export.aclose()


async def closed(here: World) -> None:
    """All sessions end, and are recorded."""
    await here.written()
    with here.place.store.write() as connection:
        connection.execute(update(sessions).values(status="closed", closed_at=sessions.c.last_at))
    await asyncio.to_thread(here.gateway.closing.run_once)


async def status(here: World) -> dict[str, Any]:
    found: dict[str, Any] = (await here.admin.get("/status")).json()["opentelemetry"]
    return found


async def ask(here: World, count: int, name: str = "s") -> None:
    answers = await asyncio.gather(*(here.ask(session=f"{name}{number}") for number in range(count)))
    assert {answer.status_code for answer in answers} == {200}


def test_sessions_of_a_canary_arrive_and_again_with_what_people_said(
    place: ReleasePlace, collector: StubCollector
) -> None:
    async def run() -> None:
        async with told(place, tracking_to(collector.url, environment="production")) as (here, export):
            await here.canary(100.0)
            await ask(here, 3)
            await closed(here)
            await until(lambda: export.counts()["exported"] == 3, 30)
            first = {root["gen_ai.conversation.id"]: root for root in collector.roots}
            assert first.keys() == {"s0", "s1", "s2"}
            assert first["s0"]["agentrl.release.channel"] == "canary"
            assert first["s0"]["agentrl.release.arm"] == "candidate"
            assert first["s0"]["agentrl.run.id"] == "r1"
            assert first["s0"]["agentrl.cost.usd"] == pytest.approx(20e-6)
            assert first["s0"]["gen_ai.usage.input_tokens"] == 10
            assert "agentrl.human_override" not in first["s0"]
            assert collector.resources[0]["deployment.environment.name"] == "production"
            (event,) = collector.spans[0].events
            assert attributes(event)["feature_flag.result.variant"] == "candidate"

            await here.tell(event_id="1", session_id="s0", kind="override", override=True, by="ada")
            await here.tell(event_id="2", session_id="s0", kind="outcome", success=False)
            await closed(here)
            await until(lambda: export.counts()["exported"] == 4, 30)
            again = collector.roots[-1]
            assert (again["gen_ai.conversation.id"], again["agentrl.human_override"]) == ("s0", True)
            assert again["agentrl.relabelled"] is True
            assert collector.spans[-1].events[0].name == "gen_ai.evaluation.result"
            assert collector.spans[-1].trace_id in {span.trace_id for span in collector.spans[:3]}
            (duration,) = [each for each in collector.metrics if each.name == "gen_ai.invoke_agent.duration"]
            assert sum(point.count for point in duration.histogram.data_points) == 3
            assert await status(here) == {"exported": 4, "waiting": 0, "dropped": 0, "problem": ""}
            text = (await here.admin.get("/metrics")).text
            assert "agentrl_gateway_opentelemetry_exported 4\n" in text
            assert "agentrl_gateway_opentelemetry_dropped 0\n" in text

    asyncio.run(run())


@pytest.mark.parametrize("fault", ["down", "hangs", "answers-500"])
def test_f56_a_collector_in_trouble_delays_no_record_no_answer_and_no_end(
    fault: str, one_place: ReleasePlace, collector: StubCollector
) -> None:
    collector.status = int(fault.removeprefix("answers-")) if fault.startswith("answers") else 200
    collector.seconds = 3600.0 if fault == "hangs" else 0.0
    url = "http://127.0.0.1:9" if fault == "down" else collector.url

    async def run() -> None:
        ended = 0.0
        async with world(one_place, admin_key_env="TEST_ADMIN") as here:
            export = export_of(here.gateway, tracking_to(url))
            export.start()
            await ask(here, 5)
            began = time.monotonic()
            await closed(here)
            assert time.monotonic() - began < 10
            assert {record["session_id"] for record in read_sessions(one_place.folder / "sessions")} == {
                f"s{number}" for number in range(5)
            }
            while not (found := await status(here))["problem"]:
                await ask(here, 2, "more")
                await asyncio.sleep(0.05)
            assert (found["exported"], found["waiting"], found["dropped"]) == (0, 5, 0)
            began = time.monotonic()
            await export.aclose()
            ended = time.monotonic() - began
            assert (await status(here))["dropped"] == 5
            assert "agentrl_gateway_opentelemetry_dropped 5\n" in (await here.admin.get("/metrics")).text
        assert ended < 10

    asyncio.run(run())


def test_f56_an_end_waits_moments_for_a_collector_that_has_just_begun_to_hang(
    one_place: ReleasePlace, collector: StubCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "FINISH_SECONDS", 0.5)

    async def run() -> None:
        async with told(one_place, tracking_to(collector.url, timeout_seconds=20.0)) as (here, export):
            await ask(here, 1)
            await closed(here)
            await until(lambda: export.counts()["exported"] == 1, 30)
            collector.seconds = 3600.0
            await ask(here, 1, "late")
            await closed(here)
            began = time.monotonic()
            await export.aclose()
            assert time.monotonic() - began < 10  # half of what a try may take
            assert export.counts() == {"exported": 1, "waiting": 0, "dropped": 1}

    asyncio.run(run())


def test_f56_nothing_is_lost_while_a_collector_is_away_for_a_while(
    one_place: ReleasePlace, collector: StubCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "RETRY_SECONDS", 0.1)
    collector.status = 500

    async def run() -> None:
        async with told(one_place, tracking_to(collector.url)) as (here, export):
            for batch in range(3):
                await ask(here, 20, f"b{batch}-")
                await closed(here)
            while not (await status(here))["problem"]:
                await asyncio.sleep(0.02)
            collector.status = 200  # and no further session closes
            await until(lambda: export.counts()["exported"] == 60, 30)
            assert len({root["gen_ai.conversation.id"] for root in collector.roots}) == 60
            assert await status(here) == {"exported": 60, "waiting": 0, "dropped": 0, "problem": ""}

    asyncio.run(run())


def test_f56_what_goes_beyond_the_bound_is_dropped_and_counted(
    one_place: ReleasePlace, collector: StubCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telling, "MAX_WAITING", 10)
    collector.status = 400

    async def run() -> None:
        async with told(one_place, tracking_to(collector.url)) as (here, export):
            for batch in range(4):
                await ask(here, 5, f"b{batch}-")
                await closed(here)
                await until(lambda batch=batch: export._courier._waiting >= min(10, 5 * batch + 5), 30)  # type: ignore[misc]
            await until(lambda: export.counts()["dropped"] == 10)
            found = await status(here)
            assert (found["waiting"], found["dropped"]) == (10, 10)
            assert "code: 400" in found["problem"]

    asyncio.run(run())


def test_f56_a_process_that_was_killed_has_a_successor(one_place: ReleasePlace, collector: StubCollector) -> None:
    async def run() -> None:
        async with world(one_place, admin_key_env="TEST_ADMIN") as here:
            export = SessionExport(tracking_to(collector.url), one_place.folder, again_seconds=0.0)
            here.gateway.closing.tell = export.tell
            export.start()
            first = export._courier
            assert first is not None
            await ask(here, 1)
            await closed(here)
            await until(lambda: export.counts()["exported"] == 1, 30)
            assert first._process is not None
            os.kill(first._process._process.pid, signal.SIGKILL)
            await ask(here, 1, "lost")
            await closed(here)
            await until(lambda: first.has_ended, 30)
            await ask(here, 1, "again")
            await closed(here)
            await until(lambda: export.counts()["exported"] == 2, 30)
            assert export.counts() == {"exported": 2, "waiting": 0, "dropped": 1}
            await export.aclose()

    asyncio.run(run())


def test_t8_t9_planted_secrets_and_personal_data_do_not_reach_a_collector(
    one_place: ReleasePlace, collector: StubCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPPORT_API_KEY", TOKEN)

    async def run() -> None:
        tracking = tracking_to(collector.url, content=True, metrics=False)
        async with told(one_place, tracking, keep_content=True) as (here, export):
            kept = KeptContent(one_place)
            here.gateway.watch([kept])
            kept.start()
            await live(here)
            await kept.aclose()
            await closed(here)
            await until(lambda: export.counts()["exported"] >= 1, 30)

    asyncio.run(run())
    sent = "\n".join(str(span) for span in collector.spans)
    assert [trace for trace in TRACES if trace in sent] == []
    (asked,) = json.loads(collector.roots[-1]["gen_ai.input.messages"])
    said = "my key is [secret], write to [email], card [credit_card], and [secret]"
    assert asked["parts"] == [{"type": "text", "content": said}]
    assert PLANTED not in Path(one_place.folder / telling.LOG).read_text()


def test_without_the_extra_a_gateway_says_what_to_install(
    one_place: ReleasePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(otlp, "find_spec", {}.get)
    with pytest.raises(ConfigError, match=r"OpenTelemetry: pip install 'agentrl\[otel\]'"):
        SessionExport(tracking_to("http://127.0.0.1:9"), one_place.folder)


def test_a_teller_that_raises_harms_no_record(one_place: ReleasePlace) -> None:
    def raises(_: object) -> None:
        raise RuntimeError("no")

    async def run() -> None:
        async with world(one_place) as here:
            here.gateway.closing.tell = raises
            await ask(here, 2)
            await closed(here)
            assert here.gateway.closing.trouble == ""
            assert here.gateway.closing.recorded == 2

    asyncio.run(run())
