"""The hosted routes on this machine: shapes of requests and replies, refusals, and who may ask for what."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="the extra agentrl[serve] is not installed")

from agentrl.config.graders import KINDS
from agentrl.routes.app import Rules, create_app
from agentrl.routes.foreign import ALLOWED, HARMLESS
from agentrl.strict_json import strict_json
from tests.config.grader_mutations import CHECK, GOOD, ODD, mutated
from tests.grader_server import grader_server

PREFIX = "/v1/fine_tuning/alpha"


def ask(path: str, body: Any, rules: Rules | None = None, *, base_url: str = "http://127.0.0.1", **headers: str) -> Any:
    """Status and body of the reply."""

    async def work() -> tuple[int, Any]:
        transport = httpx.ASGITransport(create_app(rules or Rules()))
        async with httpx.AsyncClient(transport=transport, base_url=base_url) as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            given = {"Content-Type": "application/json"} | {
                key.replace("_", "-"): each for key, each in headers.items()
            }
            reply = await client.post(f"{PREFIX}/{path}", content=content, headers=given)
            return reply.status_code, reply.json()

    return asyncio.run(work())


@pytest.fixture
def server() -> Iterator[dict[str, Any]]:
    """An endpoint grader that scores the length of the text; `asked` holds what it was sent."""
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body)
        return {"score": len(body["sample"]["output_text"]) / 10}

    with grader_server(answer) as url:
        yield {"grader": {"type": "endpoint", "name": "length", "url": url, "retries": 0}, "asked": asked}


def test_graders_run_answers_as_the_hosted_route(server: dict[str, Any]) -> None:
    body = {"grader": server["grader"], "model_sample": '"seven"', "item": {"a": 1}, "trace_id": "trace_1"}
    status, reply = ask("graders/run", body)
    assert status == 200
    assert list(reply) == ["reward", "sub_rewards", "model_grader_token_usage_per_model", "metadata", "agentrl"]
    assert (reply["reward"], reply["sub_rewards"]) == (0.7, {})
    assert (reply["metadata"]["name"], reply["metadata"]["type"]) == ("length", "endpoint")
    assert not any(reply["metadata"]["errors"].values())
    (asked,) = server["asked"]
    assert (asked["item"], asked["trace_id"], asked["sample"]["output_json"]) == ({"a": 1}, "trace_1", "seven")


def test_a_grader_of_the_hosted_service_runs_as_it_is() -> None:
    right = {"grader": CHECK, "model_sample": "42", "item": {"reference_answer": "42"}}
    assert ask("graders/run", right)[1]["reward"] == 1.0
    assert ask("graders/run", right | {"model_sample": "43"})[1]["reward"] == 0.0


def test_scores_of_a_hosted_grader_have_no_range(server: dict[str, Any]) -> None:
    body = {"grader": server["grader"] | {"pass_threshold": 8}, "model_sample": "x" * 90}
    assert ask("graders/run", body)[1]["reward"] == 9.0


def test_what_has_no_score_is_null_and_flagged() -> None:
    body = {"grader": CHECK, "model_sample": "42", "item": {}}
    status, reply = ask("graders/run", body)
    assert (status, reply["reward"], reply["agentrl"]["is_graded"]) == (200, None, False)
    assert {key for key, raised in reply["metadata"]["errors"].items() if raised} == {"invalid_variable_error"}
    assert "item.reference_answer" in reply["agentrl"]["reason"]
    assert ask("graders/run", body, Rules(ungraded_reward=0.0))[1]["reward"] == 0.0


def test_graders_validate_answers_with_the_long_form() -> None:
    status, reply = ask("graders/validate", {"grader": CHECK | {"pass_threshold": 0.0}})
    assert (status, list(reply)) == (200, ["grader", "warnings"])
    assert reply["grader"] == CHECK | {"pass_threshold": 0.0}
    assert reply["warnings"] == [
        "pass_threshold: found 0, the worst score or less: every graded answer counts as a success"
    ]


def test_what_validate_answers_can_be_run(server: dict[str, Any]) -> None:
    normal = ask("graders/validate", {"grader": server["grader"]})[1]["grader"]
    assert ask("graders/run", {"grader": normal, "model_sample": "abc"})[1]["reward"] == 0.3


def test_tool_run_calls_the_tool_as_a_run_would() -> None:
    asked: list[dict[str, Any]] = []

    def answer(body: dict[str, Any]) -> dict[str, Any]:
        asked.append(body)
        return {"output": "3 results", "call_id": body["call_id"]}

    with grader_server(answer) as url:
        body = {
            "type": "function_call",
            "name": "search",
            "server_url": url,
            "headers": {"X-Team": "a"},
            "arguments": '{"query": "revenue"}',
            "item": {"year": 2014},
            "trace_id": "trace_1",
            "id": "fc_9",
            "call_id": "call_9",
        }
        status, reply = ask("tool/run", body)
    assert status == 200
    assert {key: reply[key] for key in ("type", "id", "call_id", "output")} == {
        "type": "function_call_output",
        "id": "fc_9",
        "call_id": "call_9",
        "output": "3 results",
    }
    assert asked == [
        {
            "type": "function_call",
            "id": "fc_9",
            "call_id": "call_9",
            "name": "search",
            "arguments": '{"query": "revenue"}',
            "item": {"year": 2014},
            "trace_id": "trace_1",
        }
    ]


def test_a_tool_that_fails_is_an_error_that_no_client_repeats() -> None:
    with grader_server(lambda _: 404) as url:
        status, reply = ask("tool/run", {"name": "search", "server_url": url, "arguments": "{}"})
    assert (status, reply["error"]["type"], reply["error"]["code"]) == (424, "tool_error", "tool_failed")
    assert "answered 404" in reply["error"]["message"]


RUN = {"grader": CHECK, "model_sample": "x", "item": {}}
TOOL = {"name": "search", "server_url": "http://127.0.0.1:1/x", "arguments": "{}"}
REFUSED: list[tuple[str, Any, int, str | None, str, str]] = [
    ("graders/run", b"{", 400, None, "invalid_json", "The request is not JSON"),
    ("graders/run", b'{"a": NaN}', 400, None, "invalid_json", "NaN is no JSON number"),
    ("graders/run", b"[]", 400, None, "invalid_json", "no object"),
    ("graders/run", b"\xff", 400, None, "invalid_json", "not JSON"),
    ("graders/run", b'{"model_sample": "' + b"x" * 2**20 + b'"}', 413, None, "request_too_large", "1,048,576"),
    ("graders/run", {"grader": CHECK}, 400, "model_sample", "missing_required_parameter", "'model_sample'"),
    ("graders/run", {"model_sample": "x"}, 400, "grader", "missing_required_parameter", "'grader'"),
    ("graders/run", RUN | {"model_sample": 3}, 400, "model_sample", "invalid_type", "expected a string, but got an in"),
    ("graders/run", RUN | {"item": "x"}, 400, "item", "invalid_type", "expected an object, but got a string"),
    ("graders/run", RUN | {"sample": "x"}, 400, "sample", "unknown_parameter", "Unknown parameter: 'sample'"),
    (
        "graders/run",
        RUN | {"grader": CHECK | {"operation": "is"}},
        400,
        "grader.operation",
        "invalid_grader",
        "operation: found the text 'is'; allowed: eq, ne",
    ),
    (
        "graders/validate",
        {"grader": {"type": "string_chek"}},
        400,
        "grader.type",
        "invalid_grader",
        "did you mean 'string_check'?",
    ),
    ("graders/validate", {"grader": []}, 400, "grader", "invalid_type", "expected an object, but got an array"),
    ("tool/run", {"name": "x"}, 400, "server_url", "missing_required_parameter", "'server_url'"),
    ("tool/run", TOOL | {"name": "a b"}, 400, "name", "invalid_tool", "name: "),
    ("tool/run", TOOL | {"headers": {"a": 1}}, 400, "headers", "invalid_type", "headers.a"),
    ("tool/run", TOOL | {"server_url": "file:///etc/passwd"}, 400, "server_url", "invalid_tool", "server_url"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "body", "status", "param", "code", "message"), REFUSED)
def test_a_wrong_request_is_answered_as_clients_read_it(
    path: str, body: Any, status: int, param: str | None, code: str, message: str
) -> None:
    found, reply = ask(path, body)
    assert (found, list(reply), list(reply["error"])) == (status, ["error"], ["message", "type", "param", "code"])
    assert (reply["error"]["type"], reply["error"]["param"], reply["error"]["code"]) == (
        "invalid_request_error",
        param,
        code,
    )
    assert message in reply["error"]["message"]


def test_an_unknown_route_has_an_error_too() -> None:
    status, reply = ask("graders/walk", {})
    assert (status, reply["error"]["code"]) == (404, "unknown_url")


METADATA = "http://169.254.169.254/latest/meta-data"
SPOOFED: list[tuple[dict[str, Any], str]] = [
    ({"url": METADATA}, "grader.url"),
    ({"url": "http://10.0.0.7/grade"}, "grader.url"),
    ({"url": "http://2130706433/grade"}, "grader.url"),
    ({"url": "http://[::ffff:127.0.0.1]/grade"}, "grader.url"),
    ({"url": "http://user:pw@example.com/"}, "grader.url"),
    ({"url": "ftp://example.com/"}, "grader.url"),
    ({"url": "{serve}/grade"}, "grader.url"),
    ({"url": "http://10.0.0.7/grade", "allow_private": True}, "grader.allow_private"),
    ({"url": "https://example.com/", "headers": {"X-A": "${HOME}"}}, "grader.headers.X-A"),
]


@pytest.mark.parametrize(("declared", "param"), SPOOFED)
def test_t5_a_request_cannot_make_the_server_call_where_it_should_not(declared: dict[str, Any], param: str) -> None:
    body = {"grader": {"type": "endpoint", **declared}, "model_sample": "x"}
    status, reply = ask("graders/run", body)
    assert (status, reply["error"]["param"]) == (400, param)
    part = {"type": "multi", "graders": {"a": {"type": "endpoint", **declared}}, "calculate_output": "a"}
    status, reply = ask("graders/run", body | {"grader": part})
    assert (status, reply["error"]["param"]) == (400, param.replace("grader.", "grader.graders.a."))


@pytest.mark.parametrize("url", [METADATA, "http://10.0.0.7/x", "http://0x7f.1/x", "gopher://example.com/"])
def test_t5_nor_a_tool(url: str) -> None:
    status, reply = ask("tool/run", TOOL | {"server_url": url})
    assert (status, reply["error"]["param"]) == (400, "server_url")
    status, reply = ask("tool/run", TOOL | {"headers": {"X-A": "${HOME}"}})
    assert (status, reply["error"]["param"]) == (400, "headers.X-A")


def test_a_public_server_is_no_way_to_its_own_machine() -> None:
    rules = Rules(api_key="secret-key", is_public=True)
    key = {"Authorization": "Bearer secret-key"}
    for url in ("http://127.0.0.1:9/grade", "http://localhost:9/grade", "http://[::1]:9/grade"):
        body = {"grader": {"type": "endpoint", "url": url}, "model_sample": "x"}
        status, reply = ask("graders/run", body, rules, base_url="http://grader.example", **key)
        assert (status, reply["error"]["param"]) == (400, "grader.url")


CODE = {"type": "python", "source": "def grade(sample, item):\n    return 0.5"}
JUDGE = {"type": "score_model", "name": "j", "model": "m", "input": [{"role": "user", "content": "x"}]}


@pytest.mark.parametrize(
    ("declared", "param"),
    [
        (JUDGE | {"judge": {"base_url": "https://evil.example/v1"}}, "grader.judge.base_url"),
        (JUDGE | {"judge": {"api_key_env": "AWS_SECRET_ACCESS_KEY"}}, "grader.judge.api_key_env"),
        (JUDGE | {"judge": {"headers": {"X-A": "${HOME}"}}}, "grader.judge.headers"),
        (JUDGE | {"judge": {"cache_path": "/etc"}}, "grader.judge.cache_path"),
        (JUDGE | {"judge": {"parse_retries": 1000}}, "grader.judge.parse_retries"),
        ({"type": "rubric", "model": "m", "rubric": "/etc/passwd"}, "grader.rubric"),
        (CODE | {"sandbox": "unisolated"}, "grader.sandbox"),
        (CODE | {"workers": 1000}, "grader.workers"),
        (CODE | {"memory_mb": 1_000_000}, "grader.memory_mb"),
        ({"type": "reward_model", "path": "/etc"}, "grader.path"),
    ],
)
def test_a_request_names_no_key_file_or_judge_of_the_server(declared: dict[str, Any], param: str) -> None:
    status, reply = ask("graders/validate", {"grader": declared})
    assert (status, reply["error"]["param"]) == (400, param)
    assert "--trust-requests" in reply["error"]["message"]


def test_what_a_request_may_say_of_each_kind_is_decided_key_by_key() -> None:
    """A new kind, or a new key of a kind that asks, runs or reads, is its server's until somebody says otherwise."""
    decided = {kind: set(KINDS[kind].model_fields) & ALLOWED[kind] for kind in ALLOWED}
    assert decided == {kind: set(keys) for kind, keys in ALLOWED.items()}
    assert KINDS.keys() - HARMLESS - ALLOWED.keys() == {"reward_model"}
    risky = ("path", "url", "file", "env", "dir", "allow", "sandbox", "base", "key")
    suspicious = {(kind, key) for kind in HARMLESS for key in KINDS[kind].model_fields if key.startswith(risky)}
    assert suspicious <= {("policy_check", "allowed_pii")}


def test_requests_can_be_trusted() -> None:
    declared = JUDGE | {"judge": {"base_url": "http://127.0.0.1:9/v1"}}
    assert ask("graders/validate", {"grader": declared}, Rules(trusts_requests=True))[0] == 200


def test_the_key_is_asked_for_where_there_is_one() -> None:
    rules = Rules(api_key="secret-key")
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Bearer "}):
        status, reply = ask("graders/validate", {"grader": CHECK}, rules, **headers)
        assert (status, reply["error"]["code"]) == (401, "invalid_api_key")
        assert "secret-key" not in json.dumps(reply)
    assert ask("graders/validate", {"grader": CHECK}, rules, Authorization="Bearer secret-key")[0] == 200


def test_a_web_page_cannot_ask_in_a_browsers_name() -> None:
    """Neither under a name that leads here, nor with a body that needs no permission to be sent elsewhere."""
    status, reply = ask("graders/validate", {"grader": CHECK}, base_url="http://evil.example")
    assert (status, reply["error"]["code"]) == (403, "unknown_host")
    status, reply = ask("graders/validate", {"grader": CHECK}, Content_Type="text/plain")
    assert (status, reply["error"]["code"]) == (415, "unsupported_media_type")
    for host in ("http://localhost:8000", "http://[::1]:8000", "http://127.0.0.1:8000"):
        assert ask("graders/validate", {"grader": CHECK}, base_url=host)[0] == 200


LOCAL = tuple(each for each in GOOD if each["type"] in HARMLESS)
SAMPLES = ("", "42", "{}", "[[[[", "NaN", "1e999", "\ud800", "\x00\x1b[2J", "9" * 5000, "{{ item.a }}", '{"a": null}')


def test_no_request_is_answered_with_anything_but_a_grade_or_a_refusal() -> None:
    """Of graders that ask nobody, with something wrong in declaration, sample or item."""

    async def work() -> Counter[int]:
        statuses: Counter[int] = Counter()
        transport = httpx.ASGITransport(create_app(Rules()))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            for number, declared in enumerate(mutated(600, among=LOCAL)):
                item = {"a": ODD[number % len(ODD)]}
                body = {"grader": declared, "model_sample": SAMPLES[number % len(SAMPLES)], "item": item}
                content = json.dumps(body).encode()
                headers = {"Content-Type": "application/json"}
                reply = await client.post(f"{PREFIX}/graders/run", content=content, headers=headers)
                statuses[reply.status_code] += 1
                if reply.status_code == 200:
                    found = strict_json(reply.text)
                    assert found["agentrl"]["is_graded"] == (found["reward"] is not None)
                    assert found["reward"] is not None or any(found["metadata"]["errors"].values())
        return statuses

    found = asyncio.run(work())
    assert found.keys() == {200, 400}
    assert found[200] > 50
