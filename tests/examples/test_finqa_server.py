"""The server speaks the wire format, answers mistakes with text, and never falls over."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from examples.finqa.corpus import Corpus, Page
from examples.finqa.server import create_app, main
from examples.finqa.tools import CUT, FinqaTools
from examples.finqa.traces import TraceLog

ROOT = Path(__file__).parents[2]
TABLE = [["", "2014"], ["inventories", "482.3"]]
CORPUS = Corpus(
    (
        Page("northern-steel/2014/page_37", "northern steel 2014 annual report balance sheets", TABLE, "see notes ."),
        Page("northern-steel/2014/page_9", "northern steel 2014 annual report note on leases", TABLE, ""),
        Page("MRO/2007/page_134.pdf", " ".join(f"marathon{i}" for i in range(3000)), [], ""),
    ),
    (),
)
AUTHORIZED = {"Authorization": "Bearer secret"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(create_app(CORPUS, "secret"), headers=AUTHORIZED)


def call(client: TestClient, tool: str, arguments: Any, **more: Any) -> Any:
    body = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool, "arguments": arguments, **more}
    return client.post(f"/tools/{tool}", content=json.dumps(body))


def output(client: TestClient, tool: str, **arguments: Any) -> str:
    response = call(client, tool, json.dumps(arguments))
    assert response.status_code == 200
    return str(response.json()["output"])


def test_a_function_call_gets_its_function_call_output(client: TestClient) -> None:
    assert call(client, "calculate", '{"expression": "( 9 - 6 ) / 6"}', item={}, trace_id="trace_1").json() == {
        "type": "function_call_output",
        "call_id": "call_1",
        "id": "fc_1",
        "output": "0.5",
    }


def test_arguments_may_be_an_object_and_ids_may_be_missing(client: TestClient) -> None:
    reply = client.post("/tools/calculate", json={"arguments": {"expression": "1+1"}}).json()
    assert reply == {"type": "function_call_output", "call_id": "", "id": "", "output": "2"}


@pytest.mark.parametrize("arguments", [None, 3, [], "", "{", "[1]", "null", "3", "[" * 50_000])
def test_unreadable_arguments_are_400(client: TestClient, arguments: Any) -> None:
    response = call(client, "search", arguments)
    assert response.status_code == 400
    assert "arguments" in response.json()["error"]["message"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\x00", b"3"])
@pytest.mark.parametrize("url", ["/tools/cat", "/grade"])
def test_an_unreadable_body_is_400(client: TestClient, url: str, content: bytes) -> None:
    assert client.post(url, content=content).status_code == 400


def test_a_body_over_one_megabyte_is_413_and_an_unknown_tool_404(client: TestClient) -> None:
    assert client.post("/tools/cat", content=b" " * 1_000_001).status_code == 413
    assert call(client, "delete", "{}").status_code == 404


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "secret"}])
@pytest.mark.parametrize("url", ["/tools/search", "/tools/nothing", "/grade"])
def test_a_missing_or_wrong_token_is_401(url: str, headers: dict[str, str]) -> None:
    stranger = TestClient(create_app(CORPUS, "secret"), headers=headers)
    assert stranger.post(url, json={}).status_code == 401
    assert stranger.get("/traces/x").status_code == 401
    assert stranger.get("/health").status_code == 200


def test_a_server_without_a_token_answers_500() -> None:
    app = TestClient(create_app(CORPUS, None), headers={"Authorization": "Bearer "})
    response = app.post("/tools/search", json={"arguments": {"query": "x"}})
    assert response.status_code == 500
    assert "FINQA_TOKEN" in response.json()["error"]["message"]


def test_search_prints_path_and_title_best_first(client: TestClient) -> None:
    lines = output(client, "search", query="leases of northern steel").split("\n")
    assert lines[0] == "northern-steel/2014/page_9: northern steel 2014 annual report note on leases"
    assert len(lines) == 2
    assert output(client, "search", query="zzz") == "no page found"


def test_list_walks_from_companies_to_pages(client: TestClient) -> None:
    assert output(client, "list", path="") == "MRO\nnorthern-steel"
    assert output(client, "list", path="/Northern-Steel/") == "northern-steel/2014"
    assert output(client, "list", path="northern-steel/2014").split("\n")[0] == "northern-steel/2014/page_37"
    many = Corpus(tuple(Page(f"c{i:03d}/2014/page_1", f"c{i}", [], "") for i in range(60)), ())
    assert FinqaTools(many).call("list", {"path": ""}).endswith("c049\n... 10 more")


@pytest.mark.parametrize(
    "path", ["northern-steel/2014/page_37", " NORTHERN-steel/2014/page_37.pdf", "/northern-steel/2014/PAGE_37"]
)
def test_cat_forgives_case_slashes_and_pdf(client: TestClient, path: str) -> None:
    assert "inventories 2014 482.3" in output(client, "cat", path=path)


def test_the_missing_pdf_of_a_real_path_is_forgiven_and_a_long_page_is_cut_between_words(client: TestClient) -> None:
    text = output(client, "cat", path="mro/2007/page_134")
    assert text.endswith(f"\n{CUT}")
    assert len(text) <= 10_000 + len(CUT) + 1
    assert text.split()[-3].startswith("marathon")
    short = FinqaTools(CORPUS, max_output_chars={"cat": 50})
    assert short.call("cat", {"path": "northern-steel/2014/page_37"}) == f"{CORPUS.pages[0].pre_text}\n{CUT}"


@pytest.mark.parametrize(
    ("tool", "arguments", "message"),
    [
        ("cat", {"path": "../../etc/passwd"}, "no page '../../etc/passwd'"),
        ("cat", {"path": "northern-steel/2014/../2014/page_37"}, "no page"),
        ("cat", {"path": "/etc/passwd\x00"}, "no page"),
        ("cat", {"path": "northern-steel"}, "is a folder"),
        ("cat", {"path": ""}, "is a folder"),
        ("list", {"path": "northern-steel/2014/page_37"}, "is a page"),
        ("list", {"path": "nobody"}, "no folder 'nobody'"),
        ("list", {}, "list needs the text argument 'path'"),
        ("cat", {"page": "x"}, "cat needs the text argument 'path'"),
        ("search", {"query": ["x"]}, "search needs the text argument 'query'"),
        ("search", {"query": " "}, "empty query"),
        ("calculate", {"expression": "1/0"}, "division by zero"),
        ("calculate", {"expression": True}, "needs the text argument"),
        ("cat", {"path": "\ud800"}, "no page"),
    ],
)
def test_the_agents_mistakes_are_answered_with_200_and_a_short_text(
    client: TestClient, tool: str, arguments: dict[str, Any], message: str
) -> None:
    text = output(client, tool, **arguments)
    assert text.startswith("error: ")
    assert message in text
    assert len(text) < 200


def grade(client: TestClient, sample: Any, item: Any) -> Any:
    return client.post("/grade", content=json.dumps({"sample": sample, "item": item, "trace_id": "trace_g"}))


@pytest.mark.parametrize(
    ("text", "item", "score"),
    [
        ("the answer is 13.2%", {"answer": 0.132}, 1.0),
        ("the answer is 13.2%", {"reference_answer": 0.1324, "answer_text": "13.2%"}, 1.0),
        ("13.24%", {"reference_answer": "0.1324"}, 1.0),
        ("0.132", {"reference_answer": "13.24%"}, 0.5),
        ("13", {"answer": 0.13}, 0.0),
        ("", {"answer": 1}, 0.0),
        (None, {"answer": 1}, 0.0),
    ],
)
def test_a_grade_is_a_score(client: TestClient, text: str | None, item: dict[str, Any], score: float) -> None:
    response = grade(client, {"output_text": text, "choices": []}, item)
    assert (response.status_code, response.json()) == (200, {"score": score})


@pytest.mark.parametrize(
    ("sample", "item"),
    [
        (None, {"answer": 1}),
        ({}, {"answer": 1}),
        ({"output_text": 5}, {"answer": 1}),
        ({"output_text": "5"}, None),
        ({"output_text": "5"}, {}),
        ({"output_text": "5"}, {"answer": "yes"}),
        ({"output_text": "5"}, {"answer": True}),
        ({"output_text": "5"}, {"answer": float("nan")}),
        ({"output_text": "5"}, {"answer": 10**400}),
    ],
)
def test_a_bad_grade_request_is_400(client: TestClient, sample: Any, item: Any) -> None:
    assert grade(client, sample, item).status_code == 400


def test_a_trace_joins_calls_and_grade(client: TestClient) -> None:
    for tool, arguments in (("search", {"query": "x"}), ("cat", {"path": "x"}), ("cat", {"path": "y"})):
        call(client, tool, json.dumps(arguments), trace_id="trace_j")
    client.post("/grade", json={"sample": {"output_text": "5"}, "item": {"answer": 5}, "trace_id": "trace_j"})
    assert client.get("/traces/trace_j").json() == {
        "trace_id": "trace_j",
        "tool_calls": {"search": 1, "cat": 2},
        "scores": [1.0],
    }
    assert client.get("/traces/unknown").status_code == 404


def test_only_the_last_traces_are_kept() -> None:
    traces = TraceLog(capacity=2)
    for trace_id in ("a", "b", "a", "c", "", None, 5):
        traces.count_call(trace_id, "cat")
    assert [traces.get(trace_id) is not None for trace_id in ("a", "b", "c", "")] == [True, False, True, False]


def test_slow_calls_do_not_wait_for_each_other() -> None:
    async def run() -> float:
        transport = httpx.ASGITransport(create_app(CORPUS, "secret", latency_seconds=0.2))
        async with httpx.AsyncClient(transport=transport, base_url="http://x", headers=AUTHORIZED) as client:
            start = time.perf_counter()
            calls = [client.post("/tools/search", json={"arguments": {"query": "steel"}}) for _ in range(100)]
            assert {response.status_code for response in await asyncio.gather(*calls)} == {200}
            return time.perf_counter() - start

    assert asyncio.run(run()) < 5  # one after the other would be 20


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--data", "nowhere"], "nowhere: no such file"), (["--max-output-chars", "grep=5"], "expected TOOL=CHARS")],
)
def test_bad_options_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    (tmp_path / "reports.jsonl").write_text('{"path": "a/2014/page_1", "pre_text": "b"}\n')
    assert main(["--data", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_the_command_prints_its_port_serves_and_leaves_at_sigterm(tmp_path: Path) -> None:
    (tmp_path / "reports.jsonl").write_text('{"path": "a/2014/page_1", "pre_text": "b steel"}\n')
    command = [sys.executable, "-m", "examples.finqa.server", "--data", str(tmp_path), "--latency-ms", "20000"]
    environment = {**os.environ, "FINQA_TOKEN": "secret", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            line = server.stdout.readline()
            assert line.startswith("listening on http://127.0.0.1:")
            url = line.split()[-1]
            assert httpx.get(f"{url}/health").json()["pages"] == 1
            with pytest.raises(httpx.TimeoutException):  # still waiting in the server when the signal comes
                httpx.post(f"{url}/tools/list", json={"arguments": {"path": ""}}, headers=AUTHORIZED, timeout=0.3)
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=3) in (0, -signal.SIGTERM)
        finally:
            server.kill()
