"""A judge's key: named, never written, sent to whom it is for, and shown nowhere."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.config.loading import to_yaml
from agentrl.endpoint import endpoint
from agentrl.errors import ConfigError
from agentrl.grading.build import build_declared
from agentrl.runs.traces import to_trace
from tests.factories import make_rollout
from tests.scripted_judge import ScriptedJudge, completion, declared, grade_text

CANARY = "sk-canary-0123456789/abc"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)
    for name in ("OPENAI_API_KEY", "AGENTRL_JUDGE_API_KEY", "AGENTRL_JUDGE_BASE_URL", "AGENTRL_JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JUDGE_KEY", CANARY)


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(401, text=f"bad key {CANARY}"),
        httpx.Response(500, text=json.dumps({"headers": {"authorization": f"Bearer {CANARY}"}})),
        httpx.Response(200, text=f"<html>{CANARY}"),
        completion(f"your key is {CANARY}"),
        completion(None, message={"refusal": f"not with {CANARY}"}),
        completion({"steps": [{"description": CANARY, "conclusion": CANARY}], "result": 0.5}, model=CANARY),
        completion({"steps": [], "result": CANARY}),
    ],
)
def test_a_key_that_a_server_sends_back_is_in_no_artefact(reply: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        grade = grade_text(ScriptedJudge(reply), judge={"api_key_env": "JUDGE_KEY", "retries": 0})
    config = GradingConfig(**declared(judge={"api_key_env": "JUDGE_KEY"}))
    grader = build_declared(config.grader)
    trace = json.dumps(to_trace(replace(make_rollout(), grade=grade)))
    shown = [repr(grade), str(asdict(grade)), trace, caplog.text, to_yaml(config), repr(grader), grader.version]
    assert not [text for text in shown if "canary" in text]


def test_the_key_is_sent_as_a_bearer_token() -> None:
    judge = ScriptedJudge(completion({"result": 1}))
    grade_text(judge, judge={"api_key_env": "JUDGE_KEY"})
    assert judge.requests[0].headers["Authorization"] == f"Bearer {CANARY}"


def test_headers_of_ones_own_take_its_place() -> None:
    judge = ScriptedJudge(completion({"result": 1}))
    grade_text(judge, judge={"headers": {"api-key": "${JUDGE_KEY}"}})
    assert judge.requests[0].headers["api-key"] == CANARY
    assert "Authorization" not in judge.requests[0].headers


def test_openais_key_goes_to_openai_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    judge = ScriptedJudge(completion({"result": 1}))
    for url in (
        "http://localhost:1/v1",
        "https://api.openai.com.evil.example/v1",
        "https://evil.example/?api.openai.com",
    ):
        if "?" not in url:
            grade_text(judge, judge={"base_url": url})
    assert [request for request in judge.requests if "Authorization" in request.headers] == []
    monkeypatch.setenv("AGENTRL_JUDGE_API_KEY", "another-key")
    grade_text(judge, judge={"base_url": "https://judges.example/v1"})
    assert judge.requests[-1].headers["Authorization"] == "Bearer another-key"


@pytest.mark.parametrize(
    ("judge", "message"),
    [
        (
            {"api_key_env": CANARY},
            r"api_key_env: found another text \(not shown\); allowed: the name of an environment",
        ),
        ({"api_key_env": "AKIAIOSFODNN7EXAMPLE"}, "never the key itself"),
        ({"headers": {"Authorization": f"Bearer {CANARY}"}}, "found a secret that is written out"),
        ({"base_url": f"https://judges.example/v1?key={CANARY}"}, r"with a query \(not shown\)"),
        ({"base_url": "https://me:canary@judges.example/v1"}, "user name or password"),
    ],
)
def test_a_key_that_is_written_out_is_refused_and_not_shown(judge: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        GradingConfig(**declared(judge=judge))
    told = raised.value.errors(include_input=False)  # type: ignore[attr-defined]
    assert "canary" not in str([each["msg"] for each in told])


def test_a_key_is_not_sent_in_clear_text() -> None:
    with pytest.raises(ConfigError, match="clear text"):
        grade_text(ScriptedJudge({}), judge={"api_key_env": "JUDGE_KEY", "base_url": "http://judges.example/v1"})


def test_a_variable_that_is_not_set_is_named() -> None:
    with pytest.raises(ConfigError, match="'NO_SUCH_KEY' is not set"):
        grade_text(ScriptedJudge({}), judge={"api_key_env": "NO_SUCH_KEY"})


@pytest.mark.parametrize("url", ["http://10.0.0.1/v1", "http://169.254.169.254/v1", "http://2130706433/v1"])
def test_a_declaration_reaches_no_private_network_unasked(url: str) -> None:
    with pytest.raises(ValueError, match="found"):
        GradingConfig(**declared(judge={"base_url": url}))


def test_an_environment_that_names_a_metadata_service_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTRL_JUDGE_BASE_URL", "http://169.254.169.254/v1")
    with pytest.raises(ConfigError, match="metadata service"):
        build_declared(GradingConfig(**declared(judge={"base_url": None})).grader)
