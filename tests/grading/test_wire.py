"""graders/run: requests and replies as hosted routes have them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agentrl.config import GradingConfig
from agentrl.grading.grader import ERROR_FLAGS
from agentrl.grading.wire import from_response, to_response, to_submission
from agentrl.types import Grade

GRADING = GradingConfig.model_validate({"name": "notes", "url": "http://127.0.0.1:1/grade", "pass_threshold": 0.5})
NO_ERRORS: dict[str, Any] = {
    "formula_parse_error": False,
    "sample_parse_error": False,
    "truncated_observation_error": False,
    "unresponsive_reward_error": False,
    "invalid_variable_error": False,
    "other_error": False,
    "python_grader_server_error": False,
    "python_grader_server_error_type": None,
    "python_grader_runtime_error": False,
    "python_grader_runtime_error_details": None,
    "model_grader_server_error": False,
    "model_grader_server_error_details": None,
    "model_grader_refusal_error": False,
    "model_grader_parse_error": False,
}
GRADED = Grade(
    0.75,
    seconds=1.25,
    sub_scores={"right": 1.0, "short": 0.5},
    explanation="3 of 4",
    version="sha256:abc",
    cost_usd=0.002,
    tokens={"judge-1": {"prompt": 190, "completion": 134, "cached": 20}},
)


def test_a_graded_answer_has_the_shape_of_the_hosted_reply() -> None:
    usage = {"prompt_tokens": 190, "completion_tokens": 134, "cached_tokens": 20, "total_tokens": 324}
    assert to_response(GRADED, GRADING) == {
        "reward": 0.75,
        "sub_rewards": {"right": 1.0, "short": 0.5},
        "model_grader_token_usage_per_model": {"judge-1": usage},
        "metadata": {
            "name": "notes",
            "type": "endpoint",
            "execution_time": 1.25,
            "scores": {"notes": 0.75, "right": 1.0, "short": 0.5},
            "token_usage": 324,
            "sampled_model_name": "judge-1",
            "errors": NO_ERRORS,
        },
        "agentrl": {
            "is_graded": True,
            "is_passed": True,
            "reason": "",
            "explanation": "3 of 4",
            "version": "sha256:abc",
            "cost_usd": 0.002,
        },
    }


@pytest.mark.parametrize("flag", ERROR_FLAGS)
def test_every_flag_is_a_boolean_of_its_own(flag: str) -> None:
    errors = to_response(Grade(None, "why", errors=(flag,)), GRADING)["metadata"]["errors"]
    assert {key for key, value in errors.items() if value is True} == {flag}
    assert {key: value for key, value in errors.items() if isinstance(value, str)} == {
        key: "why"
        for key in (f"{flag}_type", f"{flag}_details")
        if key in NO_ERRORS
    }  # fmt: skip


def test_an_ungraded_answer_has_no_reward_and_a_reason() -> None:
    reply = to_response(Grade(None, "no answer within 30 s"), GRADING)
    assert reply["reward"] is None
    assert reply["metadata"]["errors"] == NO_ERRORS | {"other_error": True}
    assert (reply["agentrl"]["is_graded"], reply["agentrl"]["reason"]) == (False, "no answer within 30 s")


@pytest.mark.parametrize(
    "grade",
    [
        GRADED,
        Grade(0.0, errors=("sample_parse_error",), explanation="no number"),
        Grade(None, "timeout", errors=("model_grader_server_error",), tokens={"j": {"prompt": 3}}),
    ],
)
def test_a_reply_reads_back_as_the_grade(grade: Grade) -> None:
    found = from_response(to_response(grade, GRADING))
    kept = ("score", "reason", "sub_scores", "explanation", "errors", "version", "cost_usd")
    assert {key: getattr(found, key) for key in kept} == {key: getattr(grade, key) for key in kept}
    assert all(found.tokens[model].items() >= counts.items() for model, counts in grade.tokens.items())


def hosted(reward: float, **raised: object) -> dict[str, Any]:
    """A reply without our own fields."""
    metadata = {"name": "g", "type": "python", "execution_time": 0.1, "scores": {}, "errors": NO_ERRORS | raised}
    return {"reward": reward, "sub_rewards": {}, "model_grader_token_usage_per_model": {}, "metadata": metadata}


def test_a_zero_beside_a_broken_grader_is_read_as_no_score() -> None:
    details = {"python_grader_runtime_error": True, "python_grader_runtime_error_details": "ZeroDivisionError"}
    assert from_response(hosted(0.0, **details)).score is None
    assert from_response(hosted(0.0, **details)).reason == "ZeroDivisionError"
    assert from_response(hosted(0.0, other_error=True)).reason == "other_error"
    assert from_response(hosted(0.0, sample_parse_error=True)).score == 0.0
    assert from_response(hosted(0.5)).score == 0.5


def test_model_sample_becomes_a_sample_with_its_json() -> None:
    found = to_submission({"model_sample": '{"value": 3}', "item": {"reference_answer": 3}, "trace_id": "trace_1"})
    assert found.sample == {
        "output_text": '{"value": 3}',
        "output_json": {"value": 3},
        "output_tools": [],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": '{"value": 3}'}, "finish_reason": "stop"}],
        "output_reasoning_summary": None,
    }
    assert (found.item, found.trace_id) == ({"reference_answer": 3}, "trace_1")


def test_text_that_is_no_json_has_no_output_json() -> None:
    assert to_submission({"model_sample": "three"}).sample["output_json"] is None
    assert to_submission({"answer": "NaN"}).sample["output_json"] is None


def test_an_endpoint_graders_sample_is_taken_as_it_is() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    found = to_submission({"sample": {"output_text": "7", "output_tools": [call]}, "item": {}})
    assert (found.sample["output_tools"], found.sample["output_json"]) == ([call], 7)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"item": {}}, r"found none \(keys: item\); allowed: one of model_sample, answer and sample"),
        ({"model_sample": "a", "answer": "b"}, "found both model_sample and answer"),
        ({"model_sample": 3}, "found model_sample 3; allowed: text"),
        ({"model_sample": {"output_text": "x"}}, "found model_sample .*; allowed: text"),
        ({"sample": 3}, "found sample 3; allowed: text, or an object with output_text"),
        ({"sample": {"output_text": None}}, "found sample.output_text None; allowed: text"),
        ({"answer": "a", "item": "x"}, "found item 'x'; allowed: an object"),
        ({"answer": "a", "trace_id": 3}, "found trace_id 3; allowed: text"),
    ],
)
def test_a_wrong_request_says_what_is_allowed(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_submission(request_)


def test_what_has_no_price_costs_nobody_knows_what() -> None:
    unpriced = replace(GRADED, cost_usd=0.0, tokens={"judge-1": {"prompt": 190, "unpriced": 190}})
    assert to_response(unpriced, GRADING)["agentrl"]["cost_usd"] is None
    assert from_response(to_response(unpriced, GRADING)).cost_usd == 0.0
