"""Requests that mean harm: false names for this machine, bodies without an end, declarations without a floor."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra agentrl[serve] is not installed")

from agentrl.routes import app as routes

PATH = "/v1/fine_tuning/alpha/graders/run"
CHECK = {"type": "string_check", "input": "{{sample.output_text}}", "reference": "x", "operation": "eq"}
BODY = json.dumps({"grader": CHECK, "model_sample": "x"}).encode()


def ask(content: Any, *, hosts: tuple[str, ...] = ("127.0.0.1",)) -> tuple[int, str]:
    """Status, and the code of an error."""

    async def work() -> tuple[int, str]:
        transport = httpx.ASGITransport(routes.create_app(routes.Rules()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            request = client.build_request("POST", PATH, content=content)
            kept = [(name, value) for name, value in request.headers.raw if name.lower() != b"host"]
            given = [(b"host", host.encode("latin-1")) for host in hosts]
            request.headers = httpx.Headers([*kept, *given, (b"content-type", b"application/json")])
            reply = await client.send(request)
            return reply.status_code, reply.json().get("error", {}).get("code", "")

    return asyncio.run(work())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8000", "[::1]:8000", "LOCALHOST", "127.0.0.2"])
def test_this_machine_by_any_of_its_names_is_answered(host: str) -> None:
    assert ask(BODY, hosts=(host,)) == (200, "")


@pytest.mark.parametrize(
    "hosts",
    [
        ("a{b.evil.example",),
        ("evil.example#localhost",),
        ("evil.example@localhost",),
        ("localhost/evil.example",),
        ("localhost evil.example",),
        ("evil`.example:80",),
        ("evil.example:99999999",),
        ("[::1",),
        ("[::1].evil.example",),
        ("localhost\xe9",),
        ("",),
        (),
        ("localhost", "evil.example"),
    ],
)
def test_a_name_that_is_no_name_is_not_taken_for_this_machine(hosts: tuple[str, ...]) -> None:
    """Starlette puts the server's own address in the place of such a header."""
    assert ask(BODY, hosts=hosts) == (403, "unknown_host")


def test_a_request_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "BODY_SECONDS", 0.1)

    async def forever() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(1e6)

    assert ask(forever()) == (408, "request_timeout")


@pytest.mark.parametrize(
    "grader",
    [
        {"type": "json_schema", "json_schema": json.loads('{"not":' * 150 + "{}" + "}" * 150)},
        {**CHECK, "input": "{{sample.output_text}}" * 20_000},
        {"type": "multi", "calculate_output": "a", "graders": json.loads('{"a":' * 300 + "1" + "}" * 300)},
    ],
    ids=["a deep schema", "a template that multiplies", "deep graders"],
)
def test_a_declaration_that_would_break_the_server_is_refused(grader: dict[str, Any]) -> None:
    status, code = ask(json.dumps({"grader": grader, "model_sample": "{}"}).encode())
    assert (status, code) in [(400, "invalid_grader"), (200, "")]
