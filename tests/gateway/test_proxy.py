"""What a client sees of the proxy: OpenAI's protocol, whoever answers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from agentrl.gateway.turns import FinishedTurn, Usage
from agentrl.release.place import ReleasePlace
from tests.gateway.world import (
    Stub,
    begin_stream,
    breaks_off,
    fails,
    hangs,
    hangs_after_one,
    part,
    says,
    send_event,
    send_whole,
    until,
    whole,
    world,
)


def test_the_model_is_called_what_the_client_called_it(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            answer = (await here.ask()).json()
            assert answer["model"] == "mine"
            assert here.base.asked[0]["model"] == "base-model"
            streamed = (await here.ask(stream=True)).text
            assert '"model": "mine"' in streamed
            assert "base-model" not in streamed
            unnamed = await here.client.post("/v1/chat/completions", json={"messages": []})
            assert unnamed.json()["model"] == "support"

    asyncio.run(run())


def test_a_stream_goes_through_byte_by_byte_but_for_the_name(one_place: ReleasePlace) -> None:
    sent = (
        b': a comment\n\nevent: x\ndata: {"model":"other","text":"\\"model\\":\\"base-model\\""}\n\n'
        b"data: not json\r\n\r\ndata: \xff\xfe\n\ndata: [DONE]\n\n"
    )

    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        await begin_stream(send)
        for start in range(0, len(sent), 7):
            await send_event(send, sent[start : start + 7])
        await send_event(send, b"", is_last=True)

    async def run() -> None:
        async with world(one_place, base=answers) as here:
            assert (await here.ask(stream=True)).content == sent

    asyncio.run(run())


def test_each_event_is_passed_on_when_it_comes(one_place: ReleasePlace) -> None:
    go_on = asyncio.Event()

    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        await begin_stream(send)
        await send_event(send, part(asked, "first"))
        await go_on.wait()
        await send_event(send, b"data: [DONE]\n\n", is_last=True)

    async def run() -> None:
        async with world(one_place, base=answers) as here:
            body = {"messages": [], "stream": True}
            async with here.client.stream("POST", "/v1/chat/completions", json=body) as answer:
                chunks = answer.aiter_raw()
                assert b"first" in await anext(chunks)
                go_on.set()
                assert b"[DONE]" in await anext(chunks)

    asyncio.run(run())


@pytest.mark.parametrize("wants_counts", [True, False], ids=["asked", "not_asked"])
def test_token_counts_of_a_stream_are_shown_to_who_asked(one_place: ReleasePlace, wants_counts: bool) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            options = {"stream_options": {"include_usage": True}} if wants_counts else {}
            text = (await here.ask(session="s", stream=True, **options)).text
            assert ("usage" in text) == wants_counts
            row = await here.row("s")
            assert (row["tokens_in"], row["tokens_out"], row["unpriced"]) == (10, 5, 0)
            assert row["model_cost_usd"] == pytest.approx(20e-6)

    asyncio.run(run())


def test_a_server_that_knows_no_stream_options_is_not_asked_for_counts(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, of_base={"stream_usage": False}) as here:
            await here.ask(session="s", stream=True)
            assert "stream_options" not in here.base.asked[0]
            assert (await here.row("s"))["unpriced"] == 1

    asyncio.run(run())


def test_credentials_and_cookies_stay_here(one_place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """T7: the client's key goes to no server; the server's own key comes from the environment."""
    monkeypatch.setenv("TEST_CLIENT", "sk-client-0123456789abcdef")
    monkeypatch.setenv("TEST_SERVER", "sk-server-0123456789abcdef")

    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        await send_whole(send, 200, whole(stub, asked), set_cookie="a=b", server="secret-host", x_request_id="r7")

    async def run() -> None:
        keys = [{"name": "app", "env": "TEST_CLIENT"}]
        client = {"Authorization": "Bearer sk-client-0123456789abcdef", "Cookie": "c=d", "traceparent": "00-ab-cd-01"}
        of_base = {"key_env": "TEST_SERVER"}
        async with world(one_place, base=answers, client=client, api_keys=keys, of_base=of_base) as here:
            answer = await here.ask()
            (sent,) = here.base.headers
            assert sent["authorization"] == "Bearer sk-server-0123456789abcdef"
            assert "cookie" not in sent
            assert sent["traceparent"] == "00-ab-cd-01"
            assert "set-cookie" not in answer.headers
            assert "server" not in answer.headers
            assert answer.headers["x-request-id"] == "r7"

    asyncio.run(run())


def test_a_redirect_is_not_followed(one_place: ReleasePlace) -> None:
    """T7"""

    async def run() -> None:
        async with world(one_place) as here:
            away = f"http://127.0.0.1:{here.candidate.port}/v1/chat/completions"
            here.base.answers = fails(307, location=away)
            answer = await here.ask()
            assert answer.status_code == 502
            assert here.candidate.asked == []
            assert str(here.candidate.port) not in answer.text

    asyncio.run(run())


@pytest.mark.parametrize(
    ("answers", "status", "code", "retry_after"),
    [
        (fails(500), 502, "upstream_error", None),
        (fails(503, retry_after="7"), 503, "upstream_busy", "7"),
        (fails(429, retry_after="1e9"), 503, "upstream_busy", "1"),
        (fails(401), 502, "upstream_error", None),
        (fails(200, b"<html>"), 502, "upstream_error", None),
        (fails(200, b"[1]"), 502, "upstream_error", None),
        (hangs, 504, "upstream_timeout", None),
        (hangs_after_one, 502, "upstream_error", None),
    ],
    ids=["500", "503", "429", "401", "html", "no_object", "hangs", "streams_unasked"],
)
def test_a_server_that_is_not_well_is_told_in_openais_form(
    one_place: ReleasePlace, answers: Any, status: int, code: str, retry_after: str | None
) -> None:
    async def run() -> None:
        async with world(one_place, base=answers, of_base={"first_byte_seconds": 0.2}) as here:
            answer = await here.ask(session="s")
            assert answer.status_code == status
            assert answer.json()["error"]["code"] == code
            assert answer.headers.get("retry-after") == retry_after
            row = await here.row("s")
            assert (row["errors"], row["status"], row["success"]) == (1, "failed", False)

    asyncio.run(run())


def test_what_the_client_did_wrong_is_its_own_to_read(one_place: ReleasePlace) -> None:
    refusal = b'{"error": {"message": "base-model: too long", "type": "invalid_request_error", "code": "context"}}'

    async def run() -> None:
        async with world(one_place, base=fails(400, refusal)) as here:
            answer = await here.ask(session="s")
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context")
            assert (await here.row("s"))["errors"] == 0

    asyncio.run(run())


@pytest.mark.parametrize(
    ("body", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "invalid_json"),
        (b"[]", "application/json", 400, "invalid_json"),
        (b'{"a": NaN}', "application/json", 400, "invalid_json"),
        (b'{"stream": 1}', "application/json", 400, "bad"),
        (b"[" * 100_000, "application/json", 400, "invalid_json"),
        (b"{}", "text/plain", 415, "unsupported_media_type"),
        (b'{"a": "' + b"x" * 5000 + b'"}', "application/json", 413, "request_too_large"),
        (b"\xff", "application/json", 400, "invalid_json"),
    ],
    ids=["cut", "list", "nan", "stream", "deep", "text", "large", "no_utf8"],
)
def test_a_request_that_is_none_reaches_no_server(
    one_place: ReleasePlace, body: bytes, kind: str, status: int, code: str
) -> None:
    async def run() -> None:
        limit = 1_000_000 if len(body) > 50_000 else 4000
        async with world(one_place, max_request_bytes=limit) as here:
            answer = await here.client.post("/v1/chat/completions", content=body, headers={"Content-Type": kind})
            assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
            assert here.base.asked == []

    asyncio.run(run())


def test_models_and_unknown_addresses(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            assert (await here.client.get("/v1/models")).json()["data"][0]["id"] == "support"
            assert (await here.client.get("/v1/chat/completions")).status_code == 405
            assert (await here.client.post("/v1/embeddings", json={})).json()["error"]["code"] == "unknown_url"
            assert (await here.client.get("/healthz")).status_code == 200

    asyncio.run(run())


def test_a_client_that_leaves_takes_its_request_along(one_place: ReleasePlace) -> None:
    """F59: the server's work is cancelled; the session is aborted, which is no success whatever is said later."""

    async def run() -> None:
        async with world(one_place, base=hangs_after_one) as here:
            body, headers = {"messages": [], "stream": True}, {"X-Session-Id": "s"}
            async with here.client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as answer:
                chunks = answer.aiter_raw()
                await anext(chunks)
                assert here.base.under_way == 1
            await until(lambda: here.base.under_way == 0 and not len(here.gateway.flights))
            await here.tell(event_id="1", session_id="s", kind="outcome", success=True)
            row = await here.row("s")
            assert (row["status"], row["success"]) == ("aborted", False)
            here.base.answers = says
            await here.says("s")  # it goes on after all
            row = await here.row("s")
            assert row["status"] == "open"
            await here.client.post("/v1/sessions/s/close")
            row = await here.row("s")
            assert (row["status"], row["success"]) == ("closed", True)

    asyncio.run(run())


def test_a_stream_that_breaks_off_ends_with_an_error_and_without_done(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place, base=breaks_off) as here:
            events = (await here.ask(session="s", stream=True)).text.strip().split("\n\n")
            assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "upstream_error"
            assert "[DONE]" not in events[-1]
            assert (await here.row("s"))["status"] == "failed"

    asyncio.run(run())


def test_watchers_are_told_of_whole_turns_after_the_user(one_place: ReleasePlace) -> None:
    told: list[FinishedTurn] = []

    async def answers(stub: Stub, asked: dict[str, Any], send: Any) -> None:
        await begin_stream(send)
        calls = [{"index": 0, "id": "c1", "function": {"name": "look", "arguments": '{"a"'}}]
        for delta in (
            {"content": "so "},
            {"tool_calls": calls},
            {"tool_calls": [{**calls[0], "function": {"arguments": ": 1}"}}]},
        ):
            await send_event(send, {**part(asked, ""), "choices": [{"index": 0, "delta": delta}]})
        await send_event(
            send, {**part(asked, ""), "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}
        )
        usage = {"prompt_tokens": 3, "completion_tokens": 4}
        await send_event(send, {**part(asked, ""), "choices": [], "usage": usage})
        await send_event(send, b"data: [DONE]\n\n", is_last=True)

    def stumbles(_: FinishedTurn) -> None:
        raise RuntimeError("a watcher's own fault")

    async def run() -> None:
        async with world(one_place, base=answers) as here:
            here.gateway.watch([stumbles, told.append])
            answer = await here.ask(session="s", stream=True, headers={"X-User-Id": "u", "X-Intent": "refund"})
            assert answer.status_code == 200
            await until(lambda: bool(told))
            (turn,) = told
            call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
            assert turn.reply == {"role": "assistant", "content": "so ", "tool_calls": [call]}
            assert (turn.finish_reason, turn.usage, turn.intent) == ("tool_calls", Usage(3, 4), "refund")
            assert turn.cluster.startswith("sha256:")
            assert (await here.row("s"))["proposed_calls"] == 1

    asyncio.run(run())
