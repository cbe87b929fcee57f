"""Tools in shadow: recorded results in order, nothing executed, and where the candidate left the baseline's way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.gateway.shadow.conversation import NotCopied, read_reply, user_turn
from agentrl.gateway.shadow.copies import CopiedTurn, copied_turn
from agentrl.gateway.shadow.replay import DRY_RUN, Call, RecordedCall, Replay
from agentrl.gateway.turns import FinishedTurn
from agentrl.gateway.upstream import UpstreamFailure
from tests.gateway.shadow.turns import Candidate, call, finished, in_loop, says, used


async def copy(turn: FinishedTurn, candidate: Candidate, **options: Any) -> CopiedTurn:
    asked = user_turn(turn)
    assert asked is not None
    fixed: dict[str, Any] = {"prices": candidate.config.prices, "max_requests": 5, "timeout_seconds": 30.0}
    return await copied_turn(asked, candidate.ask_json, model="candidate-model", at=turn.at, **{**fixed, **options})


def recorded(name: str, output: str, arguments: str = "{}") -> RecordedCall:
    return RecordedCall(Call(name, arguments), output)


def test_equal_calls_are_answered_by_their_results_in_order_and_each_once() -> None:
    replay = Replay([recorded("look", "first"), recorded("list", "other"), recorded("look", "second")])
    look = Call("look", "")
    assert [replay.answer(look) for _ in range(3)] == ["first", "second", DRY_RUN]
    assert (len(replay.made), replay.unmatched) == (3, 1)


def test_the_order_of_keys_blanks_and_escapes_are_no_difference_and_values_are() -> None:
    key = Call("pay", '{"to": "é", "amount": 1}').key
    assert Call("pay", '{ "amount":1,"to":"\\u00e9" }').key == key
    assert Call("pay", '{"amount": 1.5, "to": "é"}').key != key
    assert Call("pay", '{"amount": "1", "to": "é"}').key != key
    assert Call("refund", '{"to": "é", "amount": 1}').key != key
    assert Call("pay", '{"amount": NaN}').key == 'pay ? {"amount": NaN}'


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abcd"), max_size=8))
def test_a_result_is_given_at_most_as_often_as_it_was_recorded(trace: list[str], made: list[str]) -> None:
    replay = Replay([recorded(name, f"{index}") for index, name in enumerate(trace)])
    answers = [replay.answer(Call(name, "{}")) for name in made]
    given_out = [each for each in answers if each != DRY_RUN]
    assert len(set(given_out)) == len(given_out)
    assert replay.unmatched == sum(max(0, made.count(name) - trace.count(name)) for name in set(made))
    assert (replay.first_divergence() is None) == (trace == made)


@pytest.mark.parametrize(
    ("made", "kind", "step", "candidate"),
    [
        ((), "answered_early", 0, "answer"),
        ((("look", '{"a":1}'), ("pay", "{}")), "other_tool", 1, "pay"),
        ((("look", '{"a":2}'),), "other_arguments", 0, "look"),
        ((("look", '{"a":1}'), ("list", "{}"), ("list", "{}")), "called_on", 2, "list"),
    ],
)
def test_the_first_divergence_says_where_and_how(
    made: tuple[tuple[str, str], ...], kind: str, step: int, candidate: str
) -> None:
    replay = Replay([recorded("look", "1", '{"a":1}'), recorded("list", "2")])
    for name, arguments in made:
        replay.answer(Call(name, arguments))
    found = replay.first_divergence()
    assert found is not None
    assert (found.kind, found.step, found.candidate) == (kind, step, candidate)


@in_loop
async def test_the_candidate_is_shown_the_recorded_results_and_nothing_that_the_baseline_said_in_this_turn() -> None:
    turn = finished((call("search", q="x"), "page 7"), (call("cat", "c2", path="7"), "it says 42"))
    candidate = Candidate(
        says(None, call("search", "mine", q="x")), says(None, call("cat", "mine2", path="7")), says("42, I think")
    )
    copied = await copy(turn, candidate)
    first, second, last = candidate.bodies
    assert first["messages"] == [{"role": "user", "content": "how much?"}]
    assert second["messages"][-1] == {"role": "tool", "tool_call_id": "mine", "content": "page 7"}
    assert last["messages"][-1]["content"] == "it says 42"
    assert all(body["model"] == "candidate-model" and "stream" not in body for body in candidate.bodies)
    assert (copied.calls, copied.unmatched, copied.divergence, copied.failure) == (2, 0, None, "")
    assert (copied.is_same_answer, copied.tokens_in, copied.tokens_out, copied.requests) == (False, 30, 15, 3)


@in_loop
async def test_nothing_is_executed_a_call_without_a_recorded_result_is_a_dry_run_and_counted() -> None:
    candidate = Candidate(says(None, call("delete_all", "x1")), says("done"))
    copied = await copy(finished((call("search", q="x"), "page 7")), candidate)
    assert candidate.bodies[1]["messages"][-1] == {"role": "tool", "tool_call_id": "x1", "content": DRY_RUN}
    assert copied.unmatched == 1
    assert copied.divergence is not None
    assert copied.divergence.as_dict() == {
        "step": 0, "kind": "other_tool", "baseline": "search", "candidate": "delete_all",
    }  # fmt: skip


@in_loop
async def test_tools_of_the_server_itself_are_taken_out_and_a_last_requests_tool_choice_too() -> None:
    tools = [{"type": "function", "function": {"name": "look"}}, {"type": "web_search"}]
    turn = finished(request={"tools": tools, "tool_choice": "none", "web_search_options": {}, "temperature": 0.3})
    candidate = Candidate(says("42"))
    await copy(turn, candidate)
    [body] = candidate.bodies
    assert body["tools"] == tools[:1]
    assert "tool_choice" not in body
    assert "web_search_options" not in body
    assert body["temperature"] == 0.3
    alone = Candidate(says("42"))
    await copy(finished(request={"tools": tools[1:], "parallel_tool_calls": True}), alone)
    assert not {"tools", "parallel_tool_calls"} & alone.bodies[0].keys()


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (UpstreamFailure("connect", "refused"), "connect"),
        (UpstreamFailure("status", "status 500", status=500), "status 500"),
        (RuntimeError("boom"), "answer that cannot be read (RuntimeError)"),
        ({}, "answer that cannot be read (ValueError)"),
        ({"choices": "x"}, "answer that cannot be read (ValueError)"),
        ({"choices": [{"message": {"content": None, "tool_calls": 3}}]}, "empty answer"),
        (says("  "), "empty answer"),
        (says(None, *[call("look", f"c{i}") for i in range(65)]), "more than 64 calls in one answer"),
        (says(None, call("look")), "no answer after 5 requests"),
    ],
    ids=["refused", "500", "raises", "nothing", "garbage", "no-text", "blanks", "too-many-calls", "never-answers"],
)
@in_loop
async def test_whatever_a_candidate_does_is_its_result(answer: Any, failure: str) -> None:
    copied = await copy(finished(), Candidate(answer))
    assert copied.failure == failure
    assert (copied.seconds, copied.divergence, copied.is_same_answer, copied.answer) == (None, None, None, "")


@in_loop
async def test_a_candidate_that_hangs_is_given_up() -> None:
    import asyncio

    copied = await copy(finished(), Candidate(says("late"), hold=asyncio.Event()), timeout_seconds=0.01)
    assert copied.failure == "no answer within 0.01 seconds"


@in_loop
async def test_tokens_that_one_answer_does_not_tell_are_not_known_and_neither_is_the_cost() -> None:
    from agentrl.config.rollout import PricesConfig

    prices = PricesConfig(usd_per_million_prompt_tokens=1e6, usd_per_million_sampled_tokens=2e6)
    whole = await copy(finished(), Candidate(says("42"), prices=prices))
    assert whole.cost_usd == 10 + 2 * 5
    silent = {**says(None, call("look")), "usage": None}
    part = await copy(finished(), Candidate(silent, says("42"), prices=prices))
    assert (part.tokens_in, part.cost_usd, part.failure) == (None, None, "")


def test_a_turn_ends_with_an_answer_and_begins_with_the_users_last_message() -> None:
    assert user_turn(finished(reply={"role": "assistant", "content": None, "tool_calls": [call("look")]})) is None
    earlier = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "before?"},
        *used((call("look", "c0"), "old")),
        {"role": "assistant", "content": "yes"},
    ]
    asked = user_turn(finished((call("search"), "new"), earlier=earlier))
    assert asked is not None
    assert (asked.number, len(asked.before), [each.output for each in asked.trace]) == (2, 6, ["new"])


RESPONSE = {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "42"}]}]}


@in_loop
async def test_responses_are_copied_as_responses() -> None:
    made = {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"a": 1}'}
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "how much?"}]},
        made,
        {"type": "function_call_output", "call_id": "c1", "output": "found"},
    ]
    turn = finished(
        path="responses",
        request={"messages": None, "input": items, "instructions": "be brief", "store": True},
        reply={**RESPONSE, "status": "completed"},
    )
    usage = {"input_tokens": 3, "output_tokens": 2}
    candidate = Candidate({"output": [{**made, "call_id": "m1"}], "usage": usage}, {**RESPONSE, "usage": usage})
    copied = await copy(turn, candidate)
    assert candidate.paths == ["responses", "responses"]
    assert candidate.bodies[1]["input"][-1] == {"type": "function_call_output", "call_id": "m1", "output": "found"}
    assert candidate.bodies[1]["store"] is False
    assert candidate.bodies[1]["instructions"] == "be brief"
    assert (copied.is_same_answer, copied.unmatched, copied.tokens_in) == (True, 0, 6)
    asked = user_turn(turn)
    assert asked is not None
    assert asked.messages == [{"role": "system", "content": "be brief"}, {"role": "user", "content": "how much?"}]


@pytest.mark.parametrize(
    ("turn", "reason"),
    [
        (finished(request={"messages": [{"role": "system", "content": "x"}]}), "no message of a user"),
        (finished(path="models"), "other path"),
        (
            finished(path="responses", request={"input": "hi", "previous_response_id": "r1"}, reply=RESPONSE),
            "conversation kept by the server",
        ),
    ],
    ids=["no-user", "path", "previous-response"],
)
def test_what_cannot_be_reconstructed_is_named(turn: FinishedTurn, reason: str) -> None:
    with pytest.raises(NotCopied, match=reason):
        user_turn(turn)


def test_an_answer_of_the_other_protocol_is_none() -> None:
    with pytest.raises(ValueError, match="no `output`"):
        read_reply("responses", says("42"))
