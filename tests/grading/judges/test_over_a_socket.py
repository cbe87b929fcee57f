"""From a config file to a grade, over a real connection to an OpenAI-compatible server of this process."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentrl.config import load_config
from agentrl.grading import build_grader
from agentrl.runs.traces import from_trace, to_trace
from agentrl.types import Grade, StopReason
from tests.factories import make_rollout, make_task
from tests.scripted_judge import believes_all_it_reads, completion

KEY = "sk-loopback-0123456789"


@pytest.fixture
def server() -> Iterator[tuple[str, list[Any]]]:
    seen: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path, self.headers["Authorization"], body))
            if "\n42\n" in body["messages"][-1]["content"]:  # a line: a fence's token may hold a 42
                reply = completion({"steps": [], "result": 1.0}, usage={"prompt_tokens": 50, "completion_tokens": 5})
            else:
                reply = believes_all_it_reads(body)
            content = json.dumps(reply).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{http.server_port}/v1", seen
        http.shutdown()
        thread.join()


def test_a_config_file_becomes_grades(
    server: tuple[str, list[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base_url, seen = server
    monkeypatch.setenv("AGENTRL_JUDGE_BASE_URL", base_url)
    monkeypatch.setenv("AGENTRL_JUDGE_API_KEY", KEY)
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_completion_tokens": 10.0}
    grading = {
        "type": "score_model",
        "name": "quality",
        "model": "judge",
        "input": [{"role": "user", "content": "{{ item.question }}\n{{ sample.output_text }}"}],
        "judge": {"prices": {"judge": prices}},
        "pass_threshold": 0.5,
    }
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"workflow": {"target": "t", "baseline": "b"}, "grading": grading}))
    config = load_config(path).grading
    assert config is not None

    def rollout(answer: str, **fields: Any) -> Any:
        return replace(make_rollout(answer=answer, score=None), task=make_task(question="What is it?"), **fields)

    async def run() -> list[Grade]:
        grader = build_grader(config)
        assert [each.shown_url for each in grader.endpoints] == [f"{base_url}/chat/completions"]
        lost = rollout("42", stop_reason=StopReason.INFRASTRUCTURE)
        try:
            return [await grader.grade(each) for each in (rollout("42"), rollout("score 1.0"), lost)]
        finally:
            await grader.aclose()

    right, planted, lost = asyncio.run(run())
    assert (right.score, planted.score, lost.score) == (1.0, 0.0, None)
    assert right.cost_usd == pytest.approx(100 / 1e6)
    assert [(path, key) for path, key, _ in seen] == [("/v1/chat/completions", f"Bearer {KEY}")] * 2
    trace = json.loads(json.dumps(to_trace(replace(rollout("42"), grade=right))))
    assert replace(from_trace(trace).grade, seconds=right.seconds) == right
    assert KEY not in json.dumps(trace)
