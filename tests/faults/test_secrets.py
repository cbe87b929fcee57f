"""A server that sends our own headers back in every way it can: they stand in nothing that is kept or shown."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from agentrl.chat import ChatFormat
from agentrl.config import GradingConfig, RolloutConfig, ToolEndpointConfig
from agentrl.endpoint import endpoint
from agentrl.grading import build_grader
from agentrl.inference.scripted import ScriptedEngine
from agentrl.rollout.engine import RolloutEngine
from agentrl.runs import RunDirectory
from agentrl.tools import EndpointTool, Toolbox
from agentrl.types import Rollout
from tests.engine_fixtures import CALL, make_tokenizer
from tests.factories import make_task

TOKEN, KEY = "canary/to+ken==", 'literal-"canary"'
ALL_ESCAPED = "".join(f"\\u{ord(char):04x}" for char in f"Bearer {TOKEN} {KEY}")
QUOTED = json.dumps(f"Bearer {TOKEN} {KEY}")

ANSWERS: dict[str, tuple[str, str]] = {
    "output": ("200 OK", f'{{"output": {QUOTED}, "score": 1}}'),
    "escaped": ("200 OK", f'{{"output": "{ALL_ESCAPED}", "score": 0.5}}'),
    "slashes": ("200 OK", f'{{"output": {QUOTED}, "score": 0}}'.replace("/", "\\/")),
    "broken-slashes": ("500 Oops", QUOTED.replace("/", "\\/")),
    "nested": ("200 OK", f'{{"output": {{"{ALL_ESCAPED}": [{QUOTED}]}}, "score": {QUOTED}}}'),
    "wrong-id": ("200 OK", f'{{"output": "", "call_id": {QUOTED}, "trace_id": "trace_{ALL_ESCAPED}"}}'),
    "no-key": ("200 OK", f'{{"{ALL_ESCAPED}": 1}}'),
    "html": ("200 OK", f"<html>Bearer {TOKEN} {KEY}</html>"),
    "bad-request": ("400 Bad Request", f'{{"error": "{ALL_ESCAPED}"}}'),
    "plain-400": ("400 Bad Request", f"Bearer {TOKEN} {KEY}"),
    "refused": ("401 Unauthorized", f"Bearer {TOKEN} {KEY}"),
    "broken": ("500 Oops", f'{{"error": {QUOTED}}}'),
    "elsewhere": (f"302 Bearer {TOKEN}\r\nLocation: http://127.0.0.1/?{TOKEN}", f"{TOKEN}"),
}


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            assert TOKEN.encode() in head
            status, body = ANSWERS[head.split(b" ")[1].decode().partition("?")[0].strip("/")]
            raw = body.encode()
            writer.write(f"HTTP/1.1 {status}\r\nX-Echo: {TOKEN}\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def policy() -> tuple[ChatFormat, Callable[[list[int], str], list[int]]]:
    tokenizer = make_tokenizer()
    chat, called = ChatFormat(tokenizer), set[str]()

    def script(_: list[int], session: str) -> list[int]:
        text = "yes" if session in called else CALL
        called.add(session)
        return [*tokenizer.encode(text, add_special_tokens=False), chat.stop_id]

    return chat, script


def test_t8_no_secret_is_kept_or_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="agentrl")
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)
    monkeypatch.setenv("TOOL_TOKEN", TOKEN)
    headers = {"Authorization": "Bearer ${TOOL_TOKEN}", "X-Functions-Key": KEY}
    options = {"headers": headers, "retries": 1, "breaker_failures": 3, "breaker_seconds": 0.01}
    shown: list[str] = []

    async def run() -> list[Rollout]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        chat, script = policy()
        rollouts: list[Rollout] = []
        for tool_fault, grader_fault in [*((name, "output") for name in ANSWERS), *(("output", n) for n in ANSWERS)]:
            tool = EndpointTool(
                ToolEndpointConfig(name="look", server_url=f"{base}/{tool_fault}?code={TOKEN}", **options)
            )
            grader = build_grader(GradingConfig(name="g", url=f"{base}/{grader_fault}?code={TOKEN}", **options))
            config = RolloutConfig(max_turn_tokens=400, max_context_tokens=4000)
            engine = RolloutEngine(ScriptedEngine(script), chat, Toolbox([tool]), grader, config)
            rollouts += await engine.run([make_task(f"{tool_fault}-{grader_fault}")], samples_per_task=3)
            for each in (tool.endpoint, *grader.endpoints):
                shown.extend([repr(tool), repr(grader), repr(each), repr(each.health), str(each.stats)])
            await engine.aclose()
        server.close()
        return rollouts

    rollouts = asyncio.run(run())
    assert len(rollouts) == 2 * 3 * len(ANSWERS)
    with RunDirectory.create(tmp_path / "run", config_yaml=json.dumps(options), manifest={}) as directory:
        directory.write_rollouts("step-1", rollouts)
        directory.write_json("stats.json", [dataclasses.asdict(rollout.grade) for rollout in rollouts])
    texts = [*shown, caplog.text, *map(repr, rollouts)]
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    for path in files:
        # The config holds what the user wrote: a literal header is refused there by the rules of a whole run.
        if "config" not in path.name:
            texts.append(path.read_text(errors="replace"))
    assert len(files) >= 3
    for text in texts:
        assert "canary" not in text
    assert any("[secret]" in text for text in texts)
