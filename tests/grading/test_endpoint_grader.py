"""The body that a grader receives, and the rule that no failure is a score."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from agentrl.config import GradingConfig
from agentrl.endpoint import endpoint
from agentrl.grading import build_grader
from agentrl.types import Grade, Rollout, StopReason
from tests.factories import make_rollout, make_task

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "FIRST_BACKOFF_SECONDS", 0.0)


def grade(answer: Answer, rollout: Rollout | None = None, **fields: Any) -> Grade:
    async def run() -> Grade:
        config = GradingConfig(name="finqa", url="http://localhost/grade", **({"retries": 2} | fields))
        grader = build_grader(config, transport=httpx.MockTransport(answer))
        try:
            return await grader.grade(rollout or make_rollout(score=None))
        finally:
            await grader.aclose()

    return asyncio.run(run())


def scoring(score: Any) -> Answer:
    return lambda _: httpx.Response(200, json={"score": score})


def sent(rollout: Rollout) -> dict[str, Any]:
    """The body of the request."""
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"score": 1})

    grade(answer, rollout)
    assert requests[0].headers["X-Rollout-Id"] == rollout.id
    body: dict[str, Any] = json.loads(requests[0].content)
    return body


def test_a_request_has_the_wire_format_of_agent_rft() -> None:
    rollout = make_rollout("t1", answer="it is 42", tools=("search", "cat"), score=None)
    body = sent(replace(rollout, task=make_task("t1", reference_answer=42)))
    assert body.keys() == {"sample", "item", "trace_id"}
    assert body["trace_id"] == rollout.id
    assert body["item"] == {"reference_answer": 42, "messages": [{"role": "user", "content": "What is t1?"}]}
    sample = body["sample"]
    assert (sample["output_text"], sample["output_json"], sample["output_reasoning_summary"]) == (
        "it is 42",
        None,
        None,
    )
    message = {"role": "assistant", "content": "it is 42"}
    assert sample["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]


def test_output_tools_holds_all_calls_of_the_episode() -> None:
    calls = sent(make_rollout(tools=("search", "cat", "search"), score=None))["sample"]["output_tools"]
    assert [call["function"]["name"] for call in calls] == ["search", "cat", "search"]
    arguments = '{"query": "item 0"}'
    assert calls[0] == {"id": "call_0", "type": "function", "function": {"name": "search", "arguments": arguments}}


@pytest.mark.parametrize(("answer", "parsed"), [('{"a": 1}', {"a": 1}), ("42", 42), ("NaN", None), ("", None)])
def test_output_json_is_the_parsed_answer_or_null(answer: str, parsed: Any) -> None:
    assert sent(make_rollout(answer=answer, score=None))["sample"]["output_json"] == parsed


def test_the_finish_reason_says_how_the_last_turn_ended() -> None:
    rollout = make_rollout(score=None)
    cut = replace(rollout, turns=rollout.turns[:1], answer="")
    choice = sent(replace(cut, stop_reason=StopReason.TOOL_BUDGET))["sample"]["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "search"
    choice = sent(replace(cut, stop_reason=StopReason.TOKEN_BUDGET))["sample"]["choices"][0]
    assert choice["finish_reason"] == "length"
    assert sent(replace(cut, turns=()))["sample"]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("score", [0, 0.5, 1, 1.0])
def test_a_number_in_range_is_the_score(score: float) -> None:
    found = grade(scoring(score))
    assert (found.score, found.reason, found.is_graded) == (score, "", True)
    assert isinstance(found.score, float)


@pytest.mark.parametrize("score", ["high", "1", None, True, False, [1], {}, 1.01, -0.01, 1e308, 10**400])
def test_an_unusable_score_is_ungraded_with_a_reason(score: Any) -> None:
    found = grade(scoring(score))
    assert found.score is None
    assert found.reason.startswith("grader finqa at http://localhost/grade: found score ")
    assert found.errors == ("other_error",)


@pytest.mark.parametrize(
    "response",
    [
        httpx.Response(500, json={"score": 0}),
        httpx.Response(429),
        httpx.Response(400, json={"score": 0}),
        httpx.Response(401),
        httpx.Response(302),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"reward": 1}),
        httpx.Response(200, json=[1]),
        httpx.Response(200, text='{"score": NaN}'),
        httpx.Response(200, text='{"score": Infinity}'),
        httpx.Response(200, text='{"score": 1e400}'),
        httpx.Response(200, text="0.5"),
        httpx.Response(200, json={"score": 1, "padding": "x" * 2**20}),
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
    ],
)
def test_no_failure_is_a_score(response: httpx.Response | Exception) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        if isinstance(response, Exception):
            raise response
        return httpx.Response(response.status_code, content=response.content)

    found = grade(answer)
    assert found.score is None
    assert found.reason.startswith("grader finqa at http://localhost/grade: ")


def test_a_failed_grader_is_tried_again() -> None:
    answers = iter([500, 503, 200])
    assert grade(lambda _: httpx.Response(next(answers), json={"score": 0.5})).score == 0.5


def test_max_score_widens_the_range() -> None:
    assert grade(scoring(8), max_score=10.0).score == 8.0


def test_what_infrastructure_ended_is_not_sent_to_the_grader() -> None:
    def refuse(_: httpx.Request) -> httpx.Response:
        raise AssertionError("no request is made")

    rollout = make_rollout(score=None, stop_reason=StopReason.INFRASTRUCTURE, error="tool search: down")
    assert "tool search: down" in grade(refuse, rollout).reason


def test_an_item_that_is_no_json_leaves_the_rollout_ungraded() -> None:
    rollout = replace(make_rollout(score=None), task=make_task(reference_answer=float("nan")))
    assert "no JSON" in grade(scoring(1), rollout).reason


def test_200_concurrent_rollouts_get_their_own_score() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert body["trace_id"] == request.headers["X-Rollout-Id"]
        return httpx.Response(200, json={"score": int(body["trace_id"].rpartition("-")[2]) / 200})

    async def run() -> list[Grade]:
        config = GradingConfig(name="finqa", url="http://localhost/grade")
        grader = build_grader(config, transport=httpx.MockTransport(answer))
        rollouts = [make_rollout("t", index, score=None) for index in range(200)]
        grades = await asyncio.gather(*map(grader.grade, rollouts))
        await grader.aclose()
        return grades

    assert [found.score for found in asyncio.run(run())] == [index / 200 for index in range(200)]


def test_a_grader_is_built_by_its_type() -> None:
    config = GradingConfig(name="finqa", url="{serve}/grade")
    assert "http://127.0.0.1:8000/grade" in repr(build_grader(config, "http://127.0.0.1:8000"))


def test_a_grader_that_scores_turns_is_sent_them_and_answers_a_number_for_each() -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={"score": 1, "turn_scores": [0, 0.5, 1]})

    rollout = make_rollout(tools=("search", "cat"), score=None, output="found it")
    assert grade(answer, rollout, turn_scores=True).turn_scores == (0.0, 0.5, 1.0)
    turns = bodies[0]["sample"]["turns"]
    assert [turn["text"] for turn in turns] == [turn.text for turn in rollout.turns]
    assert [[call["function"]["name"] for call in turn["tool_calls"]] for turn in turns] == [["search"], ["cat"], []]
    assert turns[0]["tool_results"] == [{"call_id": turns[0]["tool_calls"][0]["id"], "output": "found it"}]
    assert grade(answer, rollout).turn_scores == ()
    assert "turns" not in bodies[1]["sample"]


@pytest.mark.parametrize("turn_scores", [None, [1.0], [1.0, 1.0, 1.5], [1.0, 1.0, "1"], [1.0, 1.0, True], 1.0])
def test_unusable_turn_scores_leave_the_rollout_ungraded(turn_scores: Any) -> None:
    reply = {"score": 1.0} if turn_scores is None else {"score": 1.0, "turn_scores": turn_scores}
    found = grade(lambda _: httpx.Response(200, json=reply), make_rollout(score=None), turn_scores=True)
    assert found.score is None
    assert "allowed: a list of 3 numbers from 0 to 1, one a turn" in found.reason
