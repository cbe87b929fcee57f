"""A model behind an API takes the turns: through the same loop, tools, limits and grader as a policy of ours."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from agentrl.chat import BUDGET_SPENT, MALFORMED, parse_turn
from agentrl.config import InferenceConfig, PricesConfig, RolloutConfig
from agentrl.errors import ConfigError
from agentrl.inference.scripted import ScriptedEngine
from agentrl.rollout import api_address
from agentrl.rollout.api_address import ApiAddress
from agentrl.rollout.api_model import ApiModel
from agentrl.rollout.engine import REFUSED, RolloutEngine
from agentrl.rollout.outage import OutageGuard
from agentrl.rollout.trajectory import to_trajectories
from agentrl.runs.traces import from_trace, to_trace
from agentrl.tools.toolbox import Toolbox
from agentrl.types import FailureClass, Outcome, Rollout, StopReason, Task
from tests.engine_fixtures import FakeGrader, FakeTool
from tests.factories import make_task
from tests.rollout.test_engine import CHAT, Script, call, write
from tests.scripted_api import Answer, Say, ScriptedApi, completion, in_turns, turn_of

LOOK = ("look", {"key": "a"})
Serve = Callable[..., ScriptedApi]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts scripted servers; failures are tried twice."""
    monkeypatch.setattr(api_address, "RETRIES", 1)
    opened: list[ScriptedApi] = []

    def start(say: Say | Answer, **options: Any) -> ScriptedApi:
        opened.append(ScriptedApi(say if callable(say) else lambda _: say, **options))
        return opened[-1]

    yield start
    for api in opened:
        api.close()


def roll_out(
    api: ScriptedApi,
    *tasks: Task,
    tools: Sequence[Any] = (),
    grader: FakeGrader | None = None,
    key_env: str | None = None,
    samples: int = 1,
    sampling: dict[str, Any] | None = None,
    **limits: Any,
) -> list[Rollout]:
    inference = InferenceConfig(retries=0, **(sampling or {}))

    async def run() -> list[Rollout]:
        model = ApiModel(ApiAddress.read("scripted", api.url, key_env), inference)
        config = RolloutConfig(**limits)
        engine = RolloutEngine(model, None, Toolbox(tools or [FakeTool()]), grader or FakeGrader(), config)
        try:
            engine.check_prompts(tasks)
            return await engine.run(tasks or (make_task(),), samples_per_task=samples)
        finally:
            await engine.aclose()

    return asyncio.run(run())


def one(api: ScriptedApi, **options: Any) -> Rollout:
    (rollout,) = roll_out(api, **options)
    return rollout


def test_an_episode_from_messages_to_grade(serve: Serve) -> None:
    tool, grader = FakeTool(answer=lambda c: f"page {c.arguments}"), FakeGrader()
    first = completion("I look", LOOK, prompt=20, output=9, thought=4, reasoning_content="hm")
    api = serve(in_turns(first, completion(" 42 ", prompt=31, output=3)))
    rollout = one(api, tools=[tool], grader=grader)
    assert (rollout.stop_reason, rollout.answer, rollout.grade.score) == (StopReason.FINAL, "42", 1.0)
    assert rollout.turns[0].text == (
        '<think>\nhm\n</think>\nI look\n<tool_call>{"name": "look", "arguments": {"key": "a"}}</tool_call>'
    )
    assert [each.output for each in rollout.turns[0].tool_results] == ['page {"key": "a"}']
    assert (rollout.output_tokens, rollout.reasoning_tokens, rollout.prompt_ids) == (12, 4, ())
    [(seen_id, seen)] = tool.seen
    assert seen_id == rollout.id == grader.seen[0].id
    assert all(headers["x-rollout-id"] == rollout.id for headers in api.headers)
    asked, again = api.bodies
    assert asked["messages"][0] == {"role": "system", "content": "You may make at most 10 tool calls."}
    assert [each["function"]["name"] for each in asked["tools"]] == ["look"]
    assert (asked["temperature"], asked["max_tokens"], asked["model"]) == (1.0, 256, "scripted")
    said, answered = again["messages"][-2:]
    assert (said["reasoning_content"], said["content"]) == ("hm", "I look")  # as the server wrote it
    assert answered == {"role": "tool", "tool_call_id": "id0", "content": 'page {"key": "a"}'}
    assert said["tool_calls"][0]["id"] == "id0" != seen.id


def test_such_a_rollout_is_kept_and_never_trained_on(serve: Serve) -> None:
    rollout = one(serve(in_turns(completion("", LOOK), completion("x"))))
    again = from_trace(json.loads(json.dumps(to_trace(rollout))))
    assert (again.output_tokens, again.turns[0].unseen_tokens) == (10, 5)
    trace = to_trace(rollout)
    for turn in trace["turns"]:
        del turn["unseen_tokens"]  # of a trace from before there were any
    assert from_trace(trace).output_tokens == 0
    with pytest.raises(ValueError, match="tells no tokens"):
        to_trajectories([again])


def test_parallel_calls_are_answered_in_their_order_and_ids_that_repeat_are_replaced(serve: Serve) -> None:
    twice = completion(None, ("look", {"key": "a"}), ("look", {"key": "b"}))
    for each in twice["choices"][0]["message"]["tool_calls"]:
        each["id"] = "same"
    api = serve(in_turns(twice, completion("x")))
    rollout = one(api, tools=[FakeTool(answer=lambda c: json.loads(c.arguments)["key"])])
    said, *answers = api.bodies[-1]["messages"][-3:]
    ids = [each["id"] for each in said["tool_calls"]]
    assert len(set(ids)) == 2
    assert [(each["tool_call_id"], each["content"]) for each in answers] == list(zip(ids, "ab", strict=True))
    assert len(rollout.tool_calls) == 2


@pytest.mark.parametrize("arguments", ['{"key": ', "[1]", '"a"', "nonsense"])
def test_calls_that_cannot_be_read_are_answered_by_text_and_cost_a_call(serve: Serve, arguments: str) -> None:
    api = serve(in_turns(completion(None, ("look", arguments), LOOK), completion("x")))
    tool = FakeTool()
    rollout = one(api, tools=[tool], max_tool_calls=3)
    assert (rollout.malformed_calls, len(tool.seen), rollout.stop_reason) == (1, 1, StopReason.FINAL)
    said, *answers = api.bodies[-1]["messages"][-3:]
    # the call that can be read stands first, and none has arguments that a template would fail at
    assert [json.loads(each["function"]["arguments"]) for each in said["tool_calls"]] == [{"key": "a"}, {}]
    assert [each["content"] for each in answers] == ["found", MALFORMED]
    assert [each["tool_call_id"] for each in answers] == ["id1", "id0"]
    assert arguments in rollout.turns[0].text


def test_an_unknown_tool_is_answered_with_those_that_there_are(serve: Serve) -> None:
    rollout = one(serve(in_turns(completion(None, ("loook", {})), completion("x"))))
    assert "did you mean 'look'" in rollout.turns[0].tool_results[0].output
    assert rollout.outcome is Outcome.COMPLETED


def test_a_call_without_arguments_is_a_call(serve: Serve) -> None:
    rollout = one(serve(in_turns(completion(None, ("look", "")), completion("x"))))
    assert [each.arguments for each in rollout.tool_calls] == ["{}"]


def test_a_spent_budget_is_told_and_leaves_one_turn(serve: Serve) -> None:
    api = serve(completion(None, LOOK, LOOK))
    rollout = one(api, max_tool_calls=3, max_repeated_calls=None)
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.TOOL_BUDGET, 3)
    assert api.bodies[-1]["messages"][-2]["content"] == "found"
    assert api.bodies[-1]["messages"][-1]["content"] == BUDGET_SPENT


def test_limits_end_as_they_do_for_a_policy_of_ours(serve: Serve) -> None:
    looking = serve(lambda body: completion(None, ("look", {"n": turn_of(body)}), prompt=100, output=50))
    prices = PricesConfig(usd_per_million_prompt_tokens=1000, usd_per_million_sampled_tokens=2000)
    assert one(looking, max_turns=2).stop_reason is StopReason.TURN_LIMIT
    assert one(looking, max_output_tokens=90).stop_reason is StopReason.TOKEN_BUDGET
    assert [body["max_tokens"] for body in looking.bodies[-2:]] == [90, 40]
    costly = one(looking, max_cost_usd=0.2, prices=prices)
    assert (costly.stop_reason, costly.cost_usd) == (StopReason.COST_BUDGET, pytest.approx(0.2))
    stuck = serve(completion(None, LOOK))
    assert one(stuck, max_repeated_calls=1).stop_reason is StopReason.STUCK
    cut = one(serve(completion("I am n", finish_reason="length")))
    assert (cut.stop_reason, cut.answer, cut.outcome) == (StopReason.TOKEN_BUDGET, "", Outcome.POLICY_FAILED)
    slow = one(looking, max_seconds=1e-6)
    assert (slow.stop_reason, slow.failure_class) == (StopReason.TIME_LIMIT, FailureClass.TIME)


def test_every_token_of_the_conversation_is_paid_once_and_thoughts_are_not_read_again(serve: Serve) -> None:
    # prompt 100; turn 1 writes 40, 30 of them thoughts; 25 tokens of tool output; turn 2 writes 5
    api = serve(
        in_turns(completion(None, LOOK, prompt=100, output=40, thought=30), completion("x", prompt=135, output=5))
    )
    prices = PricesConfig(usd_per_million_prompt_tokens=1, usd_per_million_sampled_tokens=10, usd_per_tool_call=1e-3)
    rollout = one(api, prices=prices)
    assert rollout.cost_usd == pytest.approx((125 * 1 + 45 * 10) / 1e6 + 1e-3)


def test_thoughts_that_a_server_leaves_out_of_its_count_are_counted(serve: Serve) -> None:
    reply = completion("x", prompt=10, output=5, thought=20)
    reply["usage"]["total_tokens"] = 35
    assert one(serve(reply)).output_tokens == 25


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        (completion(None, refusal="I cannot help"), "I cannot help"),
        (completion("<think>so</think> 7"), "7"),
        (completion([{"type": "text", "text": "7"}]), "7"),
        (completion(None), ""),
        (completion("half", finish_reason="content_filter"), "half"),
        ((400, {"error": {"code": "content_filter", "message": "the prompt was filtered"}}), ""),
    ],
)
def test_refusals_and_filters_are_answers_and_are_graded(serve: Serve, reply: Answer, answer: str) -> None:
    grader = FakeGrader()
    rollout = one(serve(reply), grader=grader)
    assert (rollout.answer, rollout.stop_reason) == (answer, StopReason.FINAL)
    assert len(grader.seen) == 1


@pytest.mark.parametrize(
    "failure",
    [(500, {"error": "out of order"}), (429, {"error": "slow down"}), (200, b"<html>"), (200, {"choices": []})],
)
def test_a_dead_api_leaves_an_episode_ungraded(serve: Serve, failure: Answer) -> None:
    grader = FakeGrader()
    api = serve(in_turns(completion(None, LOOK), failure))
    rollout = one(api, grader=grader)
    assert (rollout.failure_class, rollout.outcome) == (FailureClass.ENGINE, Outcome.INFRA_FAILED)
    assert rollout.grade.score is None
    assert len(rollout.turns) == 1  # what went before is kept
    assert not grader.seen
    assert len(api.bodies) == 3


def test_what_a_wait_mends_is_asked_again_under_the_same_id(serve: Serve) -> None:
    answers: Iterator[Answer] = iter([(429, {"error": "slow down"}, {"Retry-After": "0.01"}), completion("x")])
    api = serve(lambda _: next(answers))
    rollout = one(api)
    assert (rollout.outcome, rollout.turns[0].attempts) == (Outcome.COMPLETED, 2)
    assert len({headers["idempotency-key"] for headers in api.headers}) == 1
    assert api.bodies[0] == api.bodies[1]


def test_after_an_outage_the_lost_episodes_are_rolled_out_again(serve: Serve) -> None:
    down = [True]

    def say(_: dict[str, Any]) -> Answer:
        return (503, {}) if down else completion("x")

    api, told = serve(say), list[str]()

    async def run() -> list[Rollout]:
        model = ApiModel(ApiAddress.read("scripted", api.url), InferenceConfig(retries=0))
        engine = RolloutEngine(model, None, Toolbox([FakeTool()]), FakeGrader(), RolloutConfig())
        guard = OutageGuard(
            engine,
            max_lost_fraction=0.5,
            max_outage_seconds=30,
            tell=lambda text: (told.append(text), down.clear())[0],
        )
        try:
            return await guard.run([make_task("t1"), make_task("t2")])
        finally:
            await engine.aclose()

    assert [rollout.is_valid for rollout in asyncio.run(run())] == [True, True]
    assert "answered 503" in told[0]


def test_a_full_context_is_a_token_budget_and_a_prompt_that_fills_it_is_nobodys_fault(serve: Serve) -> None:
    full = (400, {"error": {"message": "This model's maximum context length is 10 tokens.", "code": "x"}})
    assert one(serve(in_turns(completion(None, LOOK), full))).stop_reason is StopReason.TOKEN_BUDGET
    assert one(serve(full)).failure_class is FailureClass.ENGINE


@pytest.mark.parametrize(
    ("failure", "hint"),
    [
        ((403, {"error": "no"}), "name the variable"),
        ((404, {"error": "no model scripted"}), "the name of the model"),
        ((400, {"error": "temperature must be 1"}), "temperature must be 1"),
        ((402, {"error": "pay"}), "402"),
        ((429, {"error": {"code": "insufficient_quota"}}), "no wait mends that"),
    ],
)
def test_what_never_works_ends_the_measurement(serve: Serve, failure: Answer, hint: str) -> None:
    with pytest.raises(ConfigError, match=hint):
        roll_out(serve(failure), *[make_task(f"t{n}") for n in range(5)])


def test_a_bad_request_later_on_is_about_its_episode(serve: Serve) -> None:
    api = serve(in_turns(completion(None, LOOK), (400, {"error": "no such tool"})))
    rollout = one(api)
    assert (rollout.failure_class, rollout.grade.errors) == (FailureClass.ENGINE, (REFUSED,))


def test_a_key_is_sent_and_shown_nowhere(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCRIPTED_KEY", "sk-very-secret")
    api = serve(completion("the key is sk-very-secret"), key="sk-very-secret")
    rollout = one(api, key_env="SCRIPTED_KEY")
    assert "sk-very-secret" not in json.dumps(to_trace(rollout))
    monkeypatch.setenv("SCRIPTED_KEY", "sk-other-secret")
    with pytest.raises(ConfigError, match=r"401.*check the key in \$SCRIPTED_KEY") as caught:
        one(api, key_env="SCRIPTED_KEY")
    assert "secret" not in str(caught.value).replace("[secret]", "")


def test_addresses_and_keys_that_cannot_be_used_are_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for model, url, key_env, found in [
        ("m", "http://127.0.0.1:1/v1", "NO_SUCH_KEY", "'NO_SUCH_KEY' is not set"),
        ("m", "https://api.openai.com/v1", None, "'OPENAI_API_KEY' is not set"),
        ("m", "127.0.0.1:1", None, "allowed: http://host or https://host"),
        ("m", "http://user:pw@127.0.0.1:1", None, "user name or password"),
        ("m", "http://127.0.0.1:1/v1?key=abc", None, "a query"),
        ("m", "http://127.0.0.1:1/v1", "sk-abc", "another text"),
        (" ", "http://127.0.0.1:1/v1", None, "empty name"),
    ]:
        with pytest.raises(ConfigError, match=found) as caught:
            ApiAddress.read(model, url, key_env)
        assert "abc" not in str(caught.value)
        assert "pw" not in str(caught.value)
    assert ApiAddress.read("m", "http://127.0.0.1:1/v1/chat/completions/").url == "http://127.0.0.1:1/v1"


def test_a_server_is_asked_as_it_likes(serve: Serve) -> None:
    def picky(body: dict[str, Any]) -> Answer:
        if "max_tokens" in body:
            message = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
            return 400, {"error": {"message": message}}
        return (400, {"error": {"message": "Unknown parameter: 'seed'."}}) if "seed" in body else completion("x")

    api = serve(picky)
    rollouts = roll_out(api, *[make_task(f"t{n}") for n in range(4)], samples=2)
    assert all(rollout.is_valid for rollout in rollouts)
    assert "max_completion_tokens" in api.bodies[-1]
    never = serve((400, {"error": {"message": "max_tokens must be even"}}))
    with pytest.raises(ConfigError, match="must be even"):
        one(never)


def test_sampling_is_the_configs(serve: Serve) -> None:
    api = serve(completion("x"))
    roll_out(api, samples=3, sampling={"temperature": 0.7, "top_p": 0.9, "top_k": 20}, max_turn_tokens=17)
    assert {(body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) for body in api.bodies} == {
        (0.7, 0.9, 20, 17)
    }
    seeds = [body["seed"] for body in api.bodies]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**31 for seed in seeds)
    roll_out(api, samples=3)
    assert sorted(body["seed"] for body in api.bodies[3:]) == sorted(seeds)


def as_api(script: Sequence[str]) -> Say:
    """An API that says what a policy of ours would write, with as many tokens."""

    def say(body: dict[str, Any]) -> Answer:
        text = script[min(turn_of(body), len(script) - 1)]
        parsed, tokens = parse_turn(text, call_id_prefix="x"), len(write(text))
        if tokens > body["max_tokens"]:
            return completion(text, finish_reason="length", output=body["max_tokens"])
        calls = [(each.name, each.arguments) for each in parsed.calls] + [("look", each) for each in parsed.malformed]
        return completion(parsed.text, *calls, output=tokens)

    return say


def test_the_same_behaviour_ends_the_same_way_through_tokens_and_through_an_api(serve: Serve) -> None:
    rng = random.Random(4)
    pieces = [call(key="a"), call(key="b"), "<tool_call>{]</tool_call>", call("lok"), "words "]
    api, ends = serve(completion("x")), set[StopReason]()
    for _ in range(50):
        script = ["".join(rng.choices(pieces, k=rng.randrange(1, 4))) for _ in range(rng.randrange(1, 5))]
        limits: dict[str, Any] = {
            "max_tool_calls": rng.randrange(5),
            "max_turns": rng.randrange(1, 6),
            "max_turn_tokens": rng.choice([60, 400]),
            "max_output_tokens": rng.choice([None, 150]),
            "max_repeated_calls": rng.choice([None, 0]),
        }
        api.say = as_api(script)
        found = one(api, **limits)
        tokens = RolloutEngine(
            ScriptedEngine(Script(*script)),
            CHAT,
            Toolbox([FakeTool()]),
            FakeGrader(),
            RolloutConfig(**limits, max_context_tokens=100_000),
        )
        (ours,) = asyncio.run(tokens.run([make_task()]))
        assert conduct(found) == conduct(ours), (script, limits)
        ends.add(found.stop_reason)
    assert len(ends) == 5


def conduct(rollout: Rollout) -> Any:
    """What both ways must share; of a turn that was cut off, its length alone."""
    turns: list[Any] = [
        (
            [(each.name, each.arguments) for each in turn.tool_calls],
            [replace(each, call_id="", seconds=0.0) for each in turn.tool_results],
            turn.malformed_calls,
            turn.output_tokens,
        )
        for turn in rollout.turns
    ]
    if rollout.stop_reason is StopReason.TOKEN_BUDGET:
        turns[-1] = rollout.turns[-1].output_tokens
    return rollout.stop_reason, rollout.answer.strip(), rollout.output_tokens, turns


@pytest.mark.parametrize("key", ["content", "details", "tool_calls"])
def test_a_bottomless_reply_costs_one_episode_and_not_the_measurement(serve: Serve, key: str) -> None:
    body = completion("x")
    body["choices"][0]["message"][key] = "@"
    deep = json.dumps(body).replace('"@"', "[" * 600 + "]" * 600).encode()
    rollout = one(serve(lambda _: (200, deep)))
    assert (rollout.outcome, rollout.failure_class) == (Outcome.INFRA_FAILED, FailureClass.ENGINE)
    assert "100 deep" in rollout.error


def test_a_server_that_makes_up_models_fills_neither_log_nor_file(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[ApiModel] = []
    made = ApiModel.__init__

    def keeping(self: ApiModel, *given: Any) -> None:
        made(self, *given)
        kept.append(self)

    monkeypatch.setattr(ApiModel, "__init__", keeping)
    numbers = iter(range(1000))
    roll_out(serve(lambda _: completion("x", model=f"\x1b[2J\n{next(numbers)}" + "y" * 100_000)), samples=40)
    assert len(kept[0].served) == 20
    assert "\x1b" not in caplog.text
    assert len(caplog.text) < 100_000
