"""The whole way: users at a gateway in shadow, a candidate that hangs or answers, and the pair that gates read."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from agentrl.config import GatewayConfig, RunConfig
from agentrl.errors import ConfigError
from agentrl.gateway.app import ClientsApp
from agentrl.gateway.gateway import Gateway
from agentrl.gateway.shadow import Shadow
from agentrl.gateway.shadow.wiring import shadow_of
from agentrl.release.evidence import live_evidence
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, SessionEvidence
from agentrl.release.store.tables import sessions
from tests.gateway.shadow.turns import Json, call, in_loop, says
from tests.release_fixtures import change_routing

QUESTION = {"role": "user", "content": "how much?"}


class Server:
    """Answers over HTTP, one request a connection; remembers what it was asked."""

    def __init__(self, answer: Callable[[Json], Json], hold: asyncio.Event | None = None) -> None:
        self.bodies: list[Json] = []
        self.asked = asyncio.Event()
        self._answer, self._hold = answer, hold

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.partition("content-length:")[2].split("\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        self.bodies.append(body)
        self.asked.set()
        if self._hold is not None:
            await self._hold.wait()
        content = json.dumps(self._answer(body)).encode()
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
            + f"Content-Length: {len(content)}\r\n\r\n".encode()
            + content
        )
        await writer.drain()
        writer.close()


@asynccontextmanager
async def behind(
    place: ReleasePlace, baseline: Server, candidate: Server, *, channel: str = "shadow", grading: Json | None = None
) -> AsyncIterator[tuple[Gateway, Shadow, httpx.AsyncClient]]:
    servers = [await asyncio.start_server(each, "127.0.0.1", 0) for each in (baseline, candidate)]
    ports = [each.sockets[0].getsockname()[1] for each in servers]
    upstreams = {
        name: {"url": f"http://127.0.0.1:{port}/v1", "model": name}
        for name, port in zip(("old", "new"), ports, strict=True)
    }
    config = GatewayConfig.model_validate(
        {
            "upstreams": upstreams,
            "general": "old",
            "poll_seconds": 0.05,
            "shadow": {"grade": grading is not None},
        }
    )
    with place.store.write() as connection:
        change_routing(
            connection, place.store, place.workflow,
            release_id="rel_1", channel=channel, candidate_upstream="new", salt="s",
        )  # fmt: skip
    gateway = Gateway(config, place)
    shadow = shadow_of(gateway, run_config(**({"grading": grading} if grading else {})))
    await gateway.start()
    shadow.start()
    try:
        transport = httpx.ASGITransport(ClientsApp(gateway))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield gateway, shadow, client
    finally:
        await shadow.aclose()
        await gateway.aclose()
        for server in servers:
            server.close()


def run_config(**sections: Any) -> RunConfig:
    return RunConfig.model_validate(
        {"name": "x", "workflow": {"target": "support", "baseline": "b"}, **sections}, context={"source": "x"}
    )


async def ask(client: httpx.AsyncClient, *messages: Json, session: str = "s1") -> Json:
    reply = await client.post(
        "/v1/chat/completions",
        json={"model": "m", "messages": [QUESTION, *messages]},
        headers={"X-Session-Id": session},
    )
    assert reply.status_code == 200, reply.text
    message: Json = reply.json()["choices"][0]["message"]
    return message


def looks_then(answer: str) -> Callable[[Json], Json]:
    def reply(body: Json) -> Json:
        has_looked = body["messages"][-1]["role"] == "tool"
        return says(answer) if has_looked else says(None, call("look", f"c_{answer}", a=1))

    return reply


def kept(place: ReleasePlace, arm: Arm) -> Json:
    with place.store.read() as connection:
        rows = connection.execute(select(sessions).where(sessions.c.arm == arm.value)).mappings().all()
    assert len(rows) == 1
    return dict(rows[0])


def pair_of(place: ReleasePlace) -> list[SessionEvidence]:
    """By arm: a copy may be written before its session is."""
    return sorted(live_evidence(place.store, place.workflow, "rel_1", "shadow"), key=lambda each: each.arm)


@in_loop
async def test_a_users_session_and_its_copy_become_a_pair_and_the_users_word_is_the_baselines(
    place: ReleasePlace,
) -> None:
    baseline, candidate = Server(looks_then("42")), Server(looks_then("43"))
    async with behind(place, baseline, candidate) as (gateway, shadow, client):
        made = await ask(client)
        result = {"role": "tool", "tool_call_id": made["tool_calls"][0]["id"], "content": "SEEN BY THE BASELINE"}
        assert (await ask(client, made, result))["content"] == "42"
        await shadow.drained()
        event = {"event_id": "e1", "session_id": "s1", "kind": "outcome", "success": True}
        assert (await client.post("/v1/feedback", json=event)).status_code == 200
        await gateway.close_session("s1", "")
    assert candidate.bodies[-1]["messages"][-1] == {
        "role": "tool", "tool_call_id": "c_43", "content": "SEEN BY THE BASELINE",
    }  # fmt: skip
    gateway.closing.run_once()  # records what is over; the copy's columns stay its own
    mine, theirs = kept(place, Arm.CANDIDATE), kept(place, Arm.BASELINE)
    assert (mine["tool_calls"], mine["requests"], mine["tokens_in"]) == (1, 2, 20)
    assert (theirs["success"], mine["success"], mine["human_override"]) == (True, None, None)
    assert mine["shadow"]["turns"]["1"]["unmatched"] == 0
    assert mine["record"]["release_channel"] == "shadow"
    pair = pair_of(place)
    assert [(each.arm.value, each.pair) for each in pair] == [("baseline", "s1"), ("candidate", "s1")]


@in_loop
async def test_users_are_answered_while_the_candidate_answers_nobody(place: ReleasePlace) -> None:
    """F20: by events, not by a clock: the candidate is let go only after every user has his answer."""
    hold = asyncio.Event()
    baseline, candidate = Server(lambda _: says("42")), Server(lambda _: says("late"), hold)
    async with behind(place, baseline, candidate) as (_, shadow, client):
        await ask(client, session="first")
        await candidate.asked.wait()  # the copy is under way, and hangs
        answers = await asyncio.gather(*(ask(client, session=f"s{number}") for number in range(20)))
        assert [each["content"] for each in answers] == ["42"] * 20
        assert not hold.is_set()
        assert shadow.counts.copied == 0
        hold.set()
        await shadow.drained()
        assert shadow.counts.copied == 21


@in_loop
async def test_a_candidate_that_breaks_changes_nothing_for_users(place: ReleasePlace) -> None:
    async with behind(place, Server(lambda _: says("42")), Server(lambda _: {"nonsense": 1})) as (_, shadow, client):
        assert (await ask(client))["content"] == "42"
        await shadow.drained()
        assert (shadow.counts.failed, shadow.counts.copied) == (1, 1)
    assert kept(place, Arm.CANDIDATE)["success"] is False
    assert kept(place, Arm.BASELINE)["success"] is None


IS_42 = {
    "name": "is-42",
    "type": "string_check",
    "input": "{{ sample.output_text }}",
    "operation": "eq",
    "reference": "42",
}


@in_loop
async def test_one_grader_scores_both_and_a_users_later_word_counts(place: ReleasePlace) -> None:
    baseline, candidate = Server(lambda _: says("42")), Server(lambda _: says("43"))
    async with behind(place, baseline, candidate, grading=IS_42) as (gateway, shadow, client):
        await ask(client)
        await shadow.drained()
        await gateway.close_session("s1", "")
        pair = pair_of(place)
        assert [(each.arm.value, each.quality, each.success) for each in pair] == [
            ("baseline", 1.0, True),
            ("candidate", 0.0, False),
        ]
        event = {"event_id": "e1", "session_id": "s1", "kind": "outcome", "success": False}
        assert (await client.post("/v1/feedback", json=event)).status_code == 200
    assert [kept(place, arm)["success"] for arm in (Arm.BASELINE, Arm.CANDIDATE)] == [False, False]
    assert kept(place, Arm.CANDIDATE)["quality"] == 0.0


@in_loop
async def test_a_canary_sends_no_copies(place: ReleasePlace) -> None:
    candidate = Server(lambda _: says("43"))
    async with behind(place, Server(lambda _: says("42")), candidate, channel="canary") as (gateway, shadow, client):
        await ask(client)
        await shadow.drained()
        assert (candidate.bodies, gateway.status()["shadow"]["copied"]) == ([], 0)


def test_grades_need_a_grader(place: ReleasePlace) -> None:
    config = GatewayConfig.model_validate(
        {"upstreams": {"old": {"url": "http://127.0.0.1:9/v1", "model": "m"}}, "general": "old",
         "shadow": {"grade": True}}
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"gateway\.shadow\.grade: found true without a `grading` section"):
        shadow_of(Gateway(config, place), run_config())
