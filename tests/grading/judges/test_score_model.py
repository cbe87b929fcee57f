"""A judge's number: what it is asked, what counts as a number, and that trouble is never a score."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.endpoint import endpoint
from agentrl.errors import ConfigError
from agentrl.grading.build import build_declared, build_grader
from agentrl.grading.submission import Submission
from tests.scripted_judge import QUESTION, ScriptedJudge, completion, grade_all, grade_text

GOOD = {"steps": [{"description": "compare", "conclusion": "equal"}], "result": 0.75}


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)


def test_the_result_is_the_score_and_the_steps_explain_it() -> None:
    grade = grade_text(ScriptedJudge(completion(GOOD)))
    assert (grade.score, grade.explanation, grade.errors) == (0.75, "compare: equal", ())
    assert grade.version.startswith("sha256:")
    assert grade.seconds > 0


def test_a_question_is_a_chat_completion_with_the_schema_of_its_verdict() -> None:
    judge = ScriptedJudge(completion(GOOD))
    grade_text(judge, sampling_params={"seed": 1, "temperature": 0, "top_p": 0.5, "max_completions_tokens": 9})
    (body,) = judge.bodies
    assert judge.requests[0].url == "http://localhost:1/v1/chat/completions"
    assert {key: body[key] for key in ("model", "seed", "temperature", "top_p", "max_completion_tokens")} == {
        "model": "judge",
        "seed": 1,
        "temperature": 0,
        "top_p": 0.5,
        "max_completion_tokens": 9,
    }
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert schema["schema"]["required"] == ["steps", "result"]
    assert "Reference: 42" in judge.asked


@pytest.mark.parametrize(
    ("result", "bounds", "score"),
    [(7, [0, 10], 7.0), (11, [0, 10], 10.0), (-3, [0, 10], 0.0), (1e300, [0, 1], 1.0), (0, [1, 5], 1.0)],
)
def test_a_result_outside_the_range_is_the_nearer_end(result: float, bounds: list[float], score: float) -> None:
    grade = grade_text(ScriptedJudge(completion({"steps": [], "result": result})), range=bounds)
    assert grade.score == score
    assert ("outside" in grade.explanation) == (result != score)


NO_VERDICTS = [
    "",
    "I would say 0.9",
    "1.0",
    '"1.0"',
    "null",
    "[]",
    '{"steps": []}',
    '{"result": "1.0"}',
    '{"result": true}',
    '{"result": null}',
    '{"result": NaN}',
    '{"result": Infinity}',
    '{"result": 1e999}',
    '{"result": %s}' % ("9" * 400),
    '{"result": [1]}',
    '{"result": 0.1, "result": 1.0}',
    '{"result": 1.0} and {"result": 0.0}',
    '{"result": 1.0',
    "[" * 5000,
    '{"a":' * 5000,
    "\ufeff",
    '<think>{"result": 1}</think>',
]


@pytest.mark.parametrize("content", NO_VERDICTS)
def test_what_is_no_verdict_is_asked_for_again_and_then_leaves_it_ungraded(content: str) -> None:
    judge = ScriptedJudge(completion(content))
    grade = grade_text(judge)
    assert (grade.score, grade.errors) == (None, ("model_grader_parse_error",))
    assert "judge" in grade.reason or "reply" in grade.reason or "found" in grade.reason
    assert len(judge.requests) == 3


def test_a_second_reply_may_be_a_verdict() -> None:
    grade = grade_text(ScriptedJudge(completion("hm"), completion("hm"), completion(GOOD)), judge={"parse_retries": 1})
    assert grade.score is None
    judge = ScriptedJudge(completion(None), completion(GOOD))
    assert grade_text(judge, sampling_params={"seed": 5}).score == 0.75
    assert [body["seed"] for body in judge.bodies] == [5, 6]


@pytest.mark.parametrize(
    "reply",
    [
        completion(None, message={"refusal": "I cannot help with that."}),
        completion("half a", finish_reason="content_filter"),
    ],
)
def test_a_refusal_is_not_a_score(reply: Any) -> None:
    grade = grade_text(ScriptedJudge(reply))
    assert (grade.score, grade.errors) == (None, ("model_grader_refusal_error",))


def test_a_reply_cut_at_its_limit_is_not_read() -> None:
    grade = grade_text(ScriptedJudge(completion(GOOD, finish_reason="length")))
    assert grade.score is None
    assert "max_completions_tokens" in grade.reason


@pytest.mark.parametrize("reply", [completion("hm"), completion(None, message={"refusal": "no"})])
def test_zero_for_a_parse_error_has_to_be_asked_for(reply: Any) -> None:
    grade = grade_text(ScriptedJudge(reply), judge={"on_parse_error": "zero"})
    assert grade.score == 0.0
    assert grade.errors[0].startswith("model_grader_")
    assert grade_text(ScriptedJudge(reply), judge={"on_parse_error": "zero"}, range=[1, 5]).score == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        httpx.Response(500, text="down"),
        httpx.Response(400, text="no such model"),
        httpx.Response(401, text="who are you"),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, text=""),
        httpx.Response(200, text='{"choices": [{"message": {"content"'),
        httpx.Response(200, content=b'{"a": "\xff"}'),
        {"error": {"message": "overloaded"}},
        {"choices": []},
        {"choices": [7]},
        {"choices": [{"message": "text"}]},
        {"choices": {"0": {}}},
    ],
)
def test_a_server_that_fails_is_not_a_score(reply: Any) -> None:
    grade = grade_text(ScriptedJudge(reply), judge={"retries": 1, "on_parse_error": "zero"})
    assert (grade.score, grade.errors) == (None, ("model_grader_server_error",))


def test_a_server_that_refuses_schemas_is_asked_in_words_from_then_on() -> None:
    def say(body: dict[str, Any]) -> Any:
        if "response_format" in body:
            return httpx.Response(400, text="response_format of type json_schema is not supported")
        verdict_id = body["messages"][-1]["content"].split('has the value "')[1][:16]
        return completion(f'Well.\n{{"verdict_id": "{verdict_id}", "steps": [], "result": 0.5}}\nThat is it.')

    judge = ScriptedJudge(say=say)
    texts = [Submission.of_text(text, {"reference": "1"}) for text in "ab"]
    assert [grade.score for grade in grade_all(judge, texts)] == [0.5, 0.5]
    assert ["response_format" in body for body in judge.bodies] == [True, False, False]


def test_a_server_that_takes_no_notice_of_schemas_is_found_out() -> None:
    def say(body: dict[str, Any]) -> Any:
        if "response_format" in body:
            return completion("I'd say it is fine: 0.5")
        verdict_id = body["messages"][-1]["content"].split('has the value "')[1][:16]
        return completion({"verdict_id": verdict_id, "result": 0.5})

    judge = ScriptedJudge(say=say)
    texts = [Submission.of_text(text, {"reference": "1"}) for text in "abcde"]
    assert [grade.score for grade in grade_all(judge, texts)] == [0.5] * 5
    assert len(judge.bodies) == 3 * 2 + 2


def test_tokens_and_dollars_are_those_of_all_replies() -> None:
    usage = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 400}}
    prices = {
        "usd_per_million_prompt_tokens": 2.0,
        "usd_per_million_cached_tokens": 0.5,
        "usd_per_million_completion_tokens": 8.0,
    }
    replies = completion(GOOD, usage=usage, finish_reason="length"), completion(GOOD, usage=usage)
    grade = grade_text(ScriptedJudge(*replies), judge={"prices": {"judge": prices}})
    assert grade.tokens == {"judge": {"prompt": 2000, "completion": 200, "cached": 800}}
    assert grade.cost_usd == pytest.approx(2 * (600 * 2 + 400 * 0.5 + 100 * 8) / 1e6)
    ungraded = grade_text(ScriptedJudge(completion("hm", usage=usage)), judge={"prices": {"judge": prices}})
    assert ungraded.score is None
    assert ungraded.tokens["judge"]["prompt"] == 3000


def test_tokens_without_a_price_are_said_to_be_unpriced() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 1}
    prices = {"usd_per_million_prompt_tokens": 2.0, "usd_per_million_completion_tokens": 8.0}
    grade = grade_text(ScriptedJudge(completion(GOOD, usage=usage)), judge={"prices": {"another": prices}})
    assert grade.tokens == {"judge": {"prompt": 10, "completion": 1, "cached": 0, "unpriced": 11}}


@pytest.mark.parametrize("usage", [{"prompt_tokens": True, "completion_tokens": -4}, [1], {"prompt_tokens": 10**400}])
def test_impossible_token_counts_are_no_tokens(usage: Any) -> None:
    grade = grade_text(ScriptedJudge(completion(GOOD, usage=usage)))
    assert (grade.score, grade.tokens) == (0.75, {})


def test_what_the_row_lacks_is_an_invalid_variable_and_nobody_is_asked() -> None:
    judge = ScriptedJudge(completion(GOOD))
    (grade,) = grade_all(judge, [Submission.of_text("42", {})])
    assert (grade.score, grade.errors) == (None, ("invalid_variable_error",))
    assert not judge.requests


def test_what_the_answer_lacks_is_the_answers_fault() -> None:
    judge = ScriptedJudge(completion(GOOD))
    asked = [{"role": "user", "content": "{{ sample.output_json.total }}"}]
    grade = grade_text(judge, "no JSON", input=asked, range=[1, 5])
    assert (grade.score, grade.errors) == (1.0, ("sample_parse_error",))


def test_blocks_become_those_of_chat_completions() -> None:
    blocks: list[Any] = [
        "plain",
        {"type": "input_text", "text": "Is this {{ item.reference }}?"},
        {"type": "input_image", "image_url": "https://example.com/{{ item.reference }}.png", "detail": "low"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
    ]
    one = {"type": "output_text", "text": "{{ sample.output_text }}"}
    judge = ScriptedJudge(completion(GOOD))
    messages = [
        {"type": "message", "role": "developer", "content": "Judge."},
        {"role": "user", "content": blocks},
        {"role": "assistant", "content": one},
    ]
    grade_text(judge, input=messages, judge={"delimit": False})
    assert judge.bodies[0]["messages"] == [
        {"role": "system", "content": "Judge."},  # other servers' templates know no developer
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "plain"},
                {"type": "text", "text": "Is this 42?"},
                {"type": "image_url", "image_url": {"url": "https://example.com/42.png", "detail": "low"}},
                {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            ],
        },
        {"role": "assistant", "content": "42"},
    ]


def test_what_a_client_wrote_as_null_was_left_out() -> None:
    image = {"type": "input_image", "image_url": "https://example.com/a.png", "detail": None}
    message = {"role": "user", "content": [image, {"type": "input_text", "text": "?"}], "type": None}
    judge = ScriptedJudge(completion(GOOD))
    sampling = dict.fromkeys(("seed", "temperature", "top_p", "max_completions_tokens", "reasoning_effort"))
    grade = grade_text(judge, input=[message], range=None, sampling_params=sampling, pass_threshold=0.5)
    assert grade.score == 0.75
    assert set(judge.bodies[0]) == {"model", "messages", "response_format"}


@pytest.mark.parametrize("trace_id", ["", "trace_1", "a\r\nX-Evil: 1", "ключ", "\ud800", "x" * 10_000])
def test_any_id_may_stand_behind_a_question(trace_id: str) -> None:
    judge = ScriptedJudge(completion(GOOD))
    (grade,) = grade_all(judge, [Submission.of_text("a", {"reference": ""}, trace_id)])
    assert grade.score == 0.75
    assert "X-Evil" not in judge.requests[0].headers
    assert len(judge.requests[0].headers["X-Rollout-Id"]) <= 200


def test_an_image_address_leads_to_the_web_only() -> None:
    image = [{"role": "user", "content": {"type": "input_image", "image_url": "{{ sample.output_text }}"}}]
    judge = ScriptedJudge(completion(GOOD))
    for address in ("file:///etc/passwd", "http://169.254.169.254/latest", ""):
        assert grade_text(judge, address, input=image).score is None
    assert not judge.requests


def test_the_model_that_answered_is_part_of_the_version() -> None:
    plain = grade_text(ScriptedJudge(completion(GOOD, model="judge")))
    dated = grade_text(ScriptedJudge(completion(GOOD, model="judge-2026-01-01")))
    assert dated.version == f"{plain.version} model=judge-2026-01-01"


def version(**fields: Any) -> str:
    judge = {"base_url": "http://localhost:1/v1", **fields.pop("judge", {})}
    declared = {"type": "score_model", "model": "m", "input": QUESTION, **fields, "judge": judge}
    return build_declared(GradingConfig(grader=declared).grader).version


@pytest.mark.parametrize(
    "change",
    [
        {"model": "n"},
        {"input": [{"role": "user", "content": "other"}]},
        {"range": [0, 2]},
        {"sampling_params": {"temperature": 0}},
        {"judge": {"base_url": "http://localhost:2/v1"}},
        {"judge": {"model": "n"}},
        {"judge": {"delimit": False}},
        {"judge": {"on_parse_error": "zero"}},
    ],
)
def test_what_decides_a_score_is_in_the_version(change: dict[str, Any]) -> None:
    assert version(**change) != version()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "quality"},
        {"pass_threshold": 0.5},
        {"judge": {"timeout_seconds": 1.0}},
        {"judge": {"cache": False}},
        {"judge": {"headers": {"X-Team": "a"}}},
    ],
)
def test_what_decides_no_score_is_not(change: dict[str, Any]) -> None:
    assert version(**change) == version()


def test_a_grader_written_for_openai_is_read_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """The JSON of a hosted job, pointed elsewhere by the environment alone."""
    job = """{
      "type": "score_model", "name": "quality", "model": "o3-mini", "pass_threshold": 8,
      "input": [
        {"type": "message", "role": "developer", "content": {"type": "input_text", "text": "Score from 0 to 10."}},
        {"role": "user", "content": [{"type": "input_text", "text": "{{item.reference}} / {{ sample.output_text }}"}]}
      ],
      "range": [0, 10],
      "sampling_params": {"max_completions_tokens": 4096, "reasoning_effort": "low", "seed": 42}
    }"""
    declared = json.loads(job)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"OPENAI_API_KEY.*AGENTRL_JUDGE_BASE_URL"):
        build_declared(GradingConfig(**declared).grader)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-for-openai-only")
    hosted = ScriptedJudge(completion({"steps": [], "result": 9}))
    (grade,) = _grade(declared, hosted)
    assert grade.score == 9.0
    assert hosted.requests[0].url == "https://api.openai.com/v1/chat/completions"
    assert hosted.requests[0].headers["Authorization"] == "Bearer sk-for-openai-only"
    assert [message["role"] for message in hosted.bodies[0]["messages"]] == ["developer", "user"]

    monkeypatch.setenv("AGENTRL_JUDGE_BASE_URL", "http://10.1.2.3:8000/v1/")
    monkeypatch.setenv("AGENTRL_JUDGE_MODEL", "Qwen/Qwen3-8B")
    local = ScriptedJudge(completion({"steps": [], "result": 9}))
    (grade,) = _grade(declared, local)
    assert grade.score == 9.0
    assert local.requests[0].url == "http://10.1.2.3:8000/v1/chat/completions"
    assert "Authorization" not in local.requests[0].headers
    assert local.bodies[0]["model"] == "Qwen/Qwen3-8B"


def _grade(declared: dict[str, Any], judge: ScriptedJudge) -> list[Any]:
    async def run() -> list[Any]:
        grader = build_grader(GradingConfig(**declared), transport=httpx.MockTransport(judge))
        try:
            return [await grader.grade_submission(Submission.of_text("42", {"reference": "42"}))]
        finally:
            await grader.aclose()

    return asyncio.run(run())
