from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from agentrl.chat import BUDGET_SPENT, MALFORMED, ChatFormat
from agentrl.config import PricesConfig, RolloutConfig, RunConfig
from agentrl.errors import ConfigError, EngineError, GraderError, ToolError
from agentrl.inference.scripted import ScriptedEngine
from agentrl.ppo.batch import fresh_enough
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.sampled_turns import ENGINE_ATTEMPTS
from agentrl.rollout.trajectory import to_trajectories
from agentrl.rollout.turns import derive_seed
from agentrl.tools.toolbox import Toolbox
from agentrl.types import FailureClass, Outcome, Rollout, StopReason, Task, ToolCall, ToolResult
from tests.engine_fixtures import CALL, FakeGrader, FakeTool, chance_policy, make_tokenizer
from tests.factories import make_task

TOKENIZER = make_tokenizer()
CHAT = ChatFormat(TOKENIZER)


def call(name: str = "look", **arguments: Any) -> str:
    return f'<tool_call>{{"name": "{name}", "arguments": {json.dumps(arguments)}}}</tool_call>'


def write(text: str) -> list[int]:
    return [*TOKENIZER.encode(text, add_special_tokens=False), CHAT.stop_id]


class Script:
    """Says the turns in order, in every session; the last one again and again."""

    def __init__(self, *turns: str) -> None:
        self.turns, self.said = turns, dict[str, int]()

    def __call__(self, _: list[int], session: str) -> list[int]:
        turn = self.said.get(session, 0)
        self.said[session] = turn + 1
        return write(self.turns[min(turn, len(self.turns) - 1)])


def make_engine(
    script: Callable[[list[int], str], Sequence[int]],
    *tools: Any,
    grader: FakeGrader | None = None,
    **limits: Any,
) -> RolloutEngine:
    config = RolloutConfig(**{"max_turn_tokens": 400, **limits})
    return RolloutEngine(ScriptedEngine(script), CHAT, Toolbox(tools or [FakeTool()]), grader or FakeGrader(), config)


def run(engine: RolloutEngine, *tasks: Task, **options: Any) -> list[Rollout]:
    rollouts = asyncio.run(engine.run(tasks or (make_task(),), **options))
    assert engine.inference.open_sessions == set()  # type: ignore[attr-defined]
    return rollouts


def text(ids: Sequence[int]) -> str:
    return str(TOKENIZER.decode(list(ids)))


def test_an_episode_from_prompt_to_grade() -> None:
    tool, grader = FakeTool(answer=lambda c: f"page {c.arguments}"), FakeGrader()
    engine = make_engine(Script("I look" + call(key="b"), " 42 "), tool, grader=grader)
    [rollout] = run(engine, seed="s")
    assert (rollout.stop_reason, rollout.answer, rollout.grade.score) == (StopReason.FINAL, "42", 1.0)
    first, last = rollout.turns
    assert text(rollout.prompt_ids) == (
        "<|im_start|>system\nYou may make at most 10 tool calls.<|im_end|>\n"
        "<|im_start|>user\nWhat is t1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert text(first.token_ids) == "I look" + call(key="b") + "<|im_end|>"
    assert text(first.observation_ids) == '\n<|im_start|>tool\npage {"key": "b"}<|im_end|>\n<|im_start|>assistant\n'
    assert (text(last.token_ids), last.observation_ids, last.tool_calls) == (" 42 <|im_end|>", (), ())
    assert len(first.engine_logprobs) == len(first.token_ids)
    assert rollout.seed == derive_seed("s", "t1", 0)
    [graded] = grader.seen
    assert graded.id == rollout.id
    assert [seen[0] for seen in tool.seen] == [rollout.id]


def test_every_request_carries_its_rollouts_id_and_none_is_shared() -> None:
    def script(ids: list[int], session: str) -> list[int]:
        rng = random.Random(f"{session}/{len(ids)}")
        return write("".join(CALL for _ in range(rng.randrange(4))) or "done")

    tool, grader = FakeTool(seconds=0.001), FakeGrader()
    tasks = [make_task(f"t{n}") for n in range(50)]
    rollouts = run(make_engine(script, tool, grader=grader, max_concurrent=200), *tasks, samples_per_task=4)
    ids = {rollout.id for rollout in rollouts}
    assert len(ids) == 200
    assert all(rollout.id.startswith("trace_") for rollout in rollouts)
    calls = {each.id: rollout.id for rollout in rollouts for turn in rollout.turns for each in turn.tool_calls}
    assert len(tool.seen) > 200
    assert all(calls[each.id] == rollout_id for rollout_id, each in tool.seen)
    assert len({each.id for _, each in tool.seen}) == len(tool.seen)
    assert sorted(graded.id for graded in grader.seen) == sorted(ids)
    assert tool.most_running > 50
    assert [(r.task.id, r.sample_index) for r in rollouts] == [(task.id, i) for task in tasks for i in range(4)]


def test_results_stand_in_the_order_of_tasks_whatever_ends_first() -> None:
    class Uneven(FakeTool):
        async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
            await asyncio.sleep(item["seconds"])
            return await super().call(call, rollout_id=rollout_id, item=item)

    done: list[str] = []
    tasks = [make_task("slow", seconds=0.05), make_task("fast", seconds=0.0)]
    engine = make_engine(Script(CALL, "x"), Uneven())
    rollouts = run(engine, *tasks, on_done=lambda rollout: done.append(rollout.task.id))
    assert ([rollout.task.id for rollout in rollouts], done) == (["slow", "fast"], ["fast", "slow"])


def test_the_same_seed_gives_the_same_episodes() -> None:
    def say(seeds: list[int]) -> RolloutEngine:
        class Seeded(ScriptedEngine):
            async def generate(self, token_ids: Any, *, session: str, seed: int, max_tokens: int) -> Any:
                seeds.append(seed)
                chance = CALL if seed % 2 else "x"
                self._script = lambda *_: write(chance)
                return await super().generate(token_ids, session=session, seed=seed, max_tokens=max_tokens)

        engine = make_engine(Script("x"))
        engine.inference = Seeded(Script("x"))
        return engine

    def traces(seed: object) -> list[Any]:
        rollouts = run(say([]), *[make_task(f"t{n}") for n in range(5)], samples_per_task=3, seed=seed)
        return [(r.seed, r.stop_reason, [turn.token_ids for turn in r.turns]) for r in rollouts]

    assert traces("a") == traces("a") != traces("b")
    seeds: list[int] = []
    run(say(seeds), *[make_task(f"t{n}") for n in range(5)], samples_per_task=3)
    assert len(set(seeds)) == len(seeds)  # tasks, samples and turns draw numbers of their own


@pytest.mark.parametrize(("budget", "a_turn"), [(1, 1), (3, 1), (3, 2), (4, 7), (0, 1)])
def test_the_tool_budget_is_hard_and_leaves_one_turn(budget: int, a_turn: int) -> None:
    tool = FakeTool()
    [rollout] = run(make_engine(Script(CALL * a_turn), tool, max_tool_calls=budget, max_turns=30))
    assert len(tool.seen) == budget
    assert rollout.stop_reason is StopReason.TOOL_BUDGET
    assert rollout.grade.score == 1.0  # its own doing: graded
    told = [BUDGET_SPENT in text(turn.observation_ids) for turn in rollout.turns]
    assert told == [False] * (len(told) - 2) + [True, False]  # announced once, then exactly one turn
    last = [result.output for result in rollout.turns[-2].tool_results]
    assert (len(last), last.count(BUDGET_SPENT)) == (a_turn, max(0, a_turn - (budget % a_turn or min(a_turn, budget))))
    shown = text(rollout.turns[-2].observation_ids)
    assert shown.count(BUDGET_SPENT) == max(1, last.count(BUDGET_SPENT))


def test_the_last_turn_may_answer() -> None:
    [rollout] = run(make_engine(Script(CALL, CALL, "42"), max_tool_calls=2))
    assert (rollout.stop_reason, rollout.answer, len(rollout.tool_calls)) == (StopReason.FINAL, "42", 2)
    assert text(rollout.turns[1].observation_ids).count(f"found\n{BUDGET_SPENT}") == 1


def test_the_budget_need_not_be_announced() -> None:
    [rollout] = run(make_engine(Script("x"), announce_budget=False))
    assert text(rollout.prompt_ids).startswith("<|im_start|>user\n")


def test_calls_of_a_turn_are_made_in_parallel_and_answered_in_order() -> None:
    tool = FakeTool(answer=lambda c: c.arguments, seconds=0.01)
    [rollout] = run(make_engine(Script(call(n=1) + call(n=2) + call("nothing") + call(n=3), "x"), tool))
    outputs = [result.output for result in rollout.turns[0].tool_results]
    assert outputs[0::3] == ['{"n": 1}', '{"n": 3}']
    assert outputs[2].startswith("Unknown tool 'nothing'")
    assert tool.most_running == 3
    assert text(rollout.turns[0].observation_ids).count("<|im_start|>tool") == 4


def test_a_malformed_call_is_answered_and_counts() -> None:
    bad = "<tool_call>look!</tool_call>"
    tool = FakeTool()
    [rollout] = run(make_engine(Script(bad + CALL, bad, CALL), tool, max_tool_calls=3))
    first, second, _ = rollout.turns
    assert [(result.output, result.is_error) for result in first.tool_results] == [("found", False), (MALFORMED, True)]
    assert [result.output for result in second.tool_results] == [MALFORMED]
    assert f"{MALFORMED}\n{BUDGET_SPENT}" in text(second.observation_ids)
    assert (rollout.stop_reason, len(tool.seen)) == (StopReason.TOOL_BUDGET, 1)


def test_the_turn_limit() -> None:
    [rollout] = run(make_engine(Script(CALL), max_turns=3))
    assert (rollout.stop_reason, len(rollout.turns), rollout.answer) == (StopReason.TURN_LIMIT, 3, "")
    assert rollout.is_valid


@pytest.mark.parametrize(
    "limits",
    [{"max_turn_tokens": 5}, {"max_context_tokens": 220}, {"max_context_tokens": 170, "max_turn_tokens": 60}],
    ids=["turn", "context", "context after an observation"],
)
def test_the_token_limits(limits: dict[str, int]) -> None:
    [rollout] = run(make_engine(Script("x" * 50 + CALL), **{"max_turn_tokens": 100, **limits}))
    assert (rollout.stop_reason, rollout.answer) == (StopReason.TOKEN_BUDGET, "")
    assert len(rollout.prompt_ids) + rollout.output_tokens <= limits.get("max_context_tokens", 10_000)
    assert rollout.is_valid
    assert rollout.turns


def test_a_prompt_without_room_for_an_answer_is_nobodys_doing() -> None:
    [rollout] = run(make_engine(Script("x"), max_context_tokens=20, max_turn_tokens=10))
    assert (rollout.stop_reason, rollout.turns, rollout.is_valid) == (StopReason.INFRASTRUCTURE, (), False)
    assert "the prompt leaves no room in 20 tokens" in rollout.grade.reason


def test_prompts_are_checked_before_anything_runs() -> None:
    engine = make_engine(Script("x"), max_context_tokens=150, max_turn_tokens=10)
    engine.check_prompts([make_task("short")])
    with pytest.raises(ConfigError, match=r"task 'x+': found a prompt of \d+ tokens; allowed: fewer than .* \(150\)"):
        engine.check_prompts([make_task("short"), make_task(100 * "x")])
    odd = Task("odd", ({"role": "assistant", "content": "", "tool_calls": [{"function": {}}]},))
    with pytest.raises(ConfigError, match="task 'odd': the chat template refuses its messages"):
        engine.check_prompts([odd])


def test_the_time_limit_keeps_what_was_done_and_is_not_graded() -> None:
    class Once(FakeTool):
        async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
            self.seconds = 0.0 if not self.seen else 10.0
            return await super().call(call, rollout_id=rollout_id, item=item)

    tool, grader = Once(), FakeGrader()
    [rollout] = run(make_engine(Script(CALL), tool, grader=grader, max_seconds=0.1))
    assert (rollout.stop_reason, len(rollout.turns), rollout.is_valid) == (StopReason.TIME_LIMIT, 2, False)
    assert (rollout.turns[0].tool_results[0].output, rollout.turns[1].tool_results) == ("found", ())
    assert rollout.grade.reason == rollout.error == "not finished after 0.1 s"
    assert (grader.seen, tool.running) == ([], 0)


def test_the_tools_of_one_turn_have_a_limit_of_their_own() -> None:
    tool, grader = FakeTool(seconds=10.0), FakeGrader()
    [rollout] = run(make_engine(Script("x" + CALL), tool, grader=grader, max_turn_seconds=0.05))
    assert (rollout.stop_reason, rollout.failure_class) == (StopReason.INFRASTRUCTURE, FailureClass.TOOL)
    assert rollout.error == "ToolError: tool look: no answer within 0.05 s (rollout.max_turn_seconds)"
    assert (len(rollout.turns), grader.seen, tool.running) == (1, [], 0)


def test_a_grader_that_hangs_or_breaks_leaves_its_rollout_ungraded() -> None:
    class Bad(FakeGrader):
        async def grade(self, rollout: Rollout) -> Any:
            if rollout.task.item.get("hangs"):
                await asyncio.sleep(10.0)
            raise GraderError("no score")

    hung, broken = run(
        make_engine(Script("x"), grader=Bad(), max_grading_seconds=0.05), make_task("a", hangs=True), make_task("b")
    )
    assert hung.grade.reason == "grader: no answer within 0.05 s (rollout.max_grading_seconds)"
    assert broken.grade.reason == "GraderError: no score"
    for rollout in (hung, broken):
        assert (rollout.stop_reason, rollout.outcome) == (StopReason.FINAL, Outcome.INFRA_FAILED)
        assert rollout.failure_class is FailureClass.GRADER


def test_a_tools_own_timeout_error_is_a_bug_not_a_limit() -> None:
    def sloppy(_: ToolCall) -> str:
        raise TimeoutError("should have been a ToolError")

    with pytest.raises(TimeoutError, match="should have been a ToolError"):
        run(make_engine(Script(CALL), FakeTool(answer=sloppy)))


def test_an_identical_call_is_repeated_so_often_and_no_more() -> None:
    tool = FakeTool()
    again = call(key="a")
    script = Script(again, again, again + again, again, "x")
    [rollout] = run(make_engine(script, tool, max_repeated_calls=3, max_tool_calls=50, max_turns=50))
    assert (rollout.stop_reason, rollout.outcome) == (StopReason.STUCK, Outcome.POLICY_FAILED)
    assert len(tool.seen) == 4  # one, and three repeats; the fifth is not made
    assert rollout.grade.score == 1.0
    [rollout] = run(make_engine(script, FakeTool(), max_repeated_calls=4, max_tool_calls=50, max_turns=50))
    assert rollout.stop_reason is StopReason.FINAL


@pytest.mark.parametrize("limit", [0, None])
def test_another_call_in_between_is_no_repetition(limit: int | None) -> None:
    turns = [call(key="a"), call(key="b"), call(key="a"), call("other", key="a")] * 3
    [rollout] = run(make_engine(Script(*turns, "x"), max_repeated_calls=limit, max_tool_calls=50, max_turns=50))
    assert rollout.stop_reason is StopReason.FINAL


def test_the_default_repeats_end_no_episode_of_the_default_tool_budget() -> None:
    [rollout] = run(make_engine(Script(*[CALL] * 10, "42")))
    assert (rollout.stop_reason, len(rollout.tool_calls)) == (StopReason.FINAL, 10)


def test_the_episodes_output_has_a_limit() -> None:
    turn = "x" * 30 + CALL
    size = len(write(turn))
    [rollout] = run(make_engine(Script(turn), max_output_tokens=3 * size - 5, max_tool_calls=50, max_turns=50))
    assert (rollout.stop_reason, rollout.outcome) == (StopReason.TOKEN_BUDGET, Outcome.POLICY_FAILED)
    assert (len(rollout.turns), rollout.output_tokens) == (3, 3 * size - 5)
    [rollout] = run(make_engine(Script(turn), max_output_tokens=2 * size, max_tool_calls=50, max_turns=50))
    assert (rollout.stop_reason, len(rollout.turns)) == (StopReason.TOKEN_BUDGET, 2)


def test_the_cost_is_counted_and_ends_the_episode() -> None:
    prices = {"usd_per_million_prompt_tokens": 1.0, "usd_per_million_sampled_tokens": 10.0, "usd_per_tool_call": 0.5}
    limits = {"prices": PricesConfig(**prices), "max_tool_calls": 50, "max_turns": 50}
    [rollout] = run(make_engine(Script(CALL + CALL), max_cost_usd=1.5, **limits))
    assert (rollout.stop_reason, rollout.outcome) == (StopReason.COST_BUDGET, Outcome.POLICY_FAILED)
    assert len(rollout.turns) == 2  # the first cost 1 and a bit
    read = len(rollout.prompt_ids) + sum(len(turn.observation_ids) for turn in rollout.turns)
    assert rollout.cost_usd == pytest.approx(4 * 0.5 + read * 1e-6 + rollout.output_tokens * 1e-5)
    [rollout] = run(make_engine(Script("x")))
    assert rollout.cost_usd == 0.0


def test_the_clock_of_an_episode_starts_when_it_does() -> None:
    engine = make_engine(Script(CALL, "x"), FakeTool(seconds=0.05), max_concurrent=1, max_seconds=0.15)
    rollouts = run(engine, *[make_task(f"t{n}") for n in range(5)])
    assert [rollout.stop_reason for rollout in rollouts] == [StopReason.FINAL] * 5
    assert all(rollout.seconds < 0.15 for rollout in rollouts)


def test_a_place_is_given_on_while_the_grader_thinks() -> None:
    order: list[str] = []

    class Slow(FakeGrader):
        async def grade(self, rollout: Rollout) -> Any:
            await asyncio.sleep(0.05)
            order.append(f"graded {rollout.task.id}")
            return await super().grade(rollout)

    def script(ids: list[int], session: str) -> list[int]:
        order.append("said")
        return write("x")

    run(make_engine(script, grader=Slow(), max_concurrent=1), make_task("a"), make_task("b"))
    assert order == ["said", "said", "graded a", "graded b"]


def test_a_broken_tool_leaves_its_rollout_ungraded_and_the_others_alone() -> None:
    class Broken(FakeTool):
        async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
            if item.get("breaks"):
                raise ToolError("tool look: answered 503", rollout_id=rollout_id)
            return await super().call(call, rollout_id=rollout_id, item=item)

    grader = FakeGrader(is_right=lambda _: False)
    tasks = [make_task("a"), make_task("b", breaks=True), make_task("c")]
    a, b, c = run(make_engine(Script(CALL, "x"), Broken(), grader=grader), *tasks)
    assert (b.stop_reason, b.grade.score, b.is_valid) == (StopReason.INFRASTRUCTURE, None, False)
    assert b.grade.reason == b.error == "ToolError: tool look: answered 503"
    assert (b.outcome, b.failure_class) == (Outcome.INFRA_FAILED, FailureClass.TOOL)
    assert len(b.turns) == 1
    assert [(r.stop_reason, r.grade.score) for r in (a, c)] == [(StopReason.FINAL, 0.0)] * 2
    assert {graded.task.id for graded in grader.seen} == {"a", "c"}


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrl.rollout.sampled_turns.ENGINE_PAUSE_SECONDS", 0.0)


class Flaky(ScriptedEngine):
    """Fails some generations; remembers what each was asked with, and may be restarted with other weights."""

    def __init__(self, script: Callable[[list[int], str], Sequence[int]], *failing: int, versions: Sequence[int] = ()):
        super().__init__(script)
        self.failing, self.versions = failing, list(versions)
        self.asked: list[tuple[list[int], int, int]] = []

    async def generate(self, token_ids: Any, *, session: str, seed: int, max_tokens: int) -> Any:
        self.asked.append((list(token_ids), seed, max_tokens))
        if len(self.asked) - 1 in self.failing:
            raise EngineError("the server went away", rollout_id=session)
        if self.versions:
            self.policy_version = self.versions.pop(0)
        return await super().generate(token_ids, session=session, seed=seed, max_tokens=max_tokens)


@pytest.mark.usefixtures("no_pauses")
def test_a_turn_is_asked_for_again_with_the_same_context_and_seed() -> None:
    engine = make_engine(Script(CALL, "42"))
    flaky = engine.inference = Flaky(Script(CALL, "42"), 1, 2)
    [rollout] = run(engine)
    assert (rollout.stop_reason, rollout.answer) == (StopReason.FINAL, "42")
    assert [turn.attempts for turn in rollout.turns] == [1, 3]
    assert rollout.retries == 2
    assert flaky.asked[1] == flaky.asked[2] == flaky.asked[3] != flaky.asked[0]


@pytest.mark.usefixtures("no_pauses")
def test_an_engine_that_stays_broken_loses_the_rollout() -> None:
    engine = make_engine(Script("42"))
    flaky = engine.inference = Flaky(Script("42"), *range(9))
    [rollout] = run(engine)
    assert (rollout.stop_reason, rollout.error) == (StopReason.INFRASTRUCTURE, "EngineError: the server went away")
    assert (rollout.outcome, rollout.failure_class) == (Outcome.INFRA_FAILED, FailureClass.ENGINE)
    assert len(flaky.asked) == ENGINE_ATTEMPTS


@pytest.mark.usefixtures("no_pauses")
def test_a_rollout_of_two_versions_is_tagged_by_token_and_too_old_for_the_newer() -> None:
    """The inference server was restarted with other weights between two turns."""
    engine = make_engine(Script(CALL, "42"))
    engine.inference = Flaky(Script(CALL, "42"), 1, versions=[3, 4])
    [rollout] = run(engine)
    assert rollout.policy_versions == (3, 4)
    [trajectory] = to_trajectories([rollout])
    stamps = [v for v, is_action in zip(trajectory.policy_versions, trajectory.action_mask, strict=True) if is_action]
    assert stamps == [3] * len(rollout.turns[0].token_ids) + [4] * len(rollout.turns[1].token_ids)
    assert fresh_enough([trajectory], policy_version=4, max_staleness=0) == []
    assert fresh_enough([trajectory], policy_version=4, max_staleness=1) == [trajectory]


def test_a_bug_is_raised_and_stops_the_others() -> None:
    class Buggy(FakeTool):
        async def call(self, call: ToolCall, *, rollout_id: str, item: dict[str, Any]) -> ToolResult:
            if item:
                raise ZeroDivisionError
            return await super().call(call, rollout_id=rollout_id, item=item)

    tool, grader = Buggy(seconds=0.05), FakeGrader()
    engine = make_engine(Script(CALL, "x"), tool, grader=grader)
    with pytest.raises(ZeroDivisionError):
        run(engine, make_task("fine"), make_task("bug", x=1))
    assert (tool.running, grader.seen, engine.inference.open_sessions) == (0, [], set())  # type: ignore[attr-defined]


class Remembering(FakeTool):
    """Keeps something for each rollout until it is told that the rollout is over."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.ended: list[str] = []

    async def end_rollout(self, rollout_id: str) -> None:
        self.ended.append(rollout_id)
        if len(self.ended) == 1:
            raise OSError("the session was gone already")


def test_tools_are_told_once_when_a_rollout_is_over_and_graded() -> None:
    tool = Remembering()

    class Watching(FakeGrader):
        async def grade(self, rollout: Rollout) -> Any:
            assert rollout.id not in tool.ended
            return await super().grade(rollout)

    rollouts = run(make_engine(Script(CALL, "x"), tool, FakeTool("other"), grader=Watching()), samples_per_task=3)
    assert sorted(tool.ended) == sorted(rollout.id for rollout in rollouts)
    assert all(rollout.is_valid for rollout in rollouts)


def test_tools_are_told_when_a_run_is_cancelled() -> None:
    tool = Remembering(seconds=10.0)
    engine = make_engine(Script(CALL), tool)

    async def story() -> None:
        task = asyncio.create_task(engine.run([make_task("a"), make_task("b")]))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert sorted(tool.ended) == sorted({rollout_id for rollout_id, _ in tool.seen})
    assert len(tool.ended) == 2


def test_a_prompt_is_encoded_once_for_all_samples_of_a_task() -> None:
    engine = make_engine(Script("x"))
    plain, seen = engine.prompt_ids, list[str]()
    engine.prompt_ids = lambda task: seen.append(task.id) or plain(task)  # type: ignore[method-assign,func-returns-value]
    rollouts = run(engine, make_task("a"), make_task("b"), samples_per_task=4)
    assert sorted(seen) == ["a", "b"]
    assert len({rollout.prompt_ids for rollout in rollouts}) == 2


def test_a_cancelled_run_ends_every_session() -> None:
    tool = FakeTool(seconds=10.0)
    engine = make_engine(Script(CALL), tool, max_concurrent=3)

    async def story() -> None:
        task = asyncio.create_task(engine.run([make_task(f"t{n}") for n in range(5)]))
        await asyncio.sleep(0.05)
        assert tool.running == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())
    assert (tool.running, engine.inference.open_sessions) == (0, set())  # type: ignore[attr-defined]


def test_the_engine_of_a_config_samples_the_policy() -> None:
    from agentrl.config import PolicyConfig
    from agentrl.policy.policy import Policy

    config = RunConfig.model_validate(
        {
            "workflow": {"target": "t", "baseline": "b"},
            "data": {"train": "a", "validation": "b"},
            "tools": {"endpoints": [{"name": "look", "server_url": "{serve}/look"}], "serve": [{"command": ["x"]}]},
            "grading": {"name": "g", "url": "{serve}/grade"},
            "rollout": {"max_context_tokens": 400, "max_turn_tokens": 12},
            "inference": {"max_batch": 3},
        }
    )
    policy = Policy(chance_policy(TOKENIZER), TOKENIZER, PolicyConfig())
    engine = RolloutEngine.from_config(config, policy, "http://127.0.0.1:9")
    assert engine._config.max_concurrent == 3
    assert engine._toolbox.names == ("look",)
    policy.version = 5

    async def story() -> int:
        await engine.sync(policy)
        sample = await engine.inference.generate([1, 2], session="a", seed=1, max_tokens=12)
        await engine.inference.end_session("a")
        await engine.aclose()
        return len(sample.token_ids)

    assert asyncio.run(story()) > 0
    assert engine.inference.policy_version == 5
    with pytest.raises(ConfigError, match="still needs data, tools and grading"):
        RolloutEngine.from_config(config.model_copy(update={"data": None, "tools": None, "grading": None}), policy)
