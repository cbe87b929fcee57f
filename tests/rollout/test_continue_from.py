"""Episodes that go on from the first turns of another: kept token by token, counted by every limit, under new ids."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from agentrl.chat import BUDGET_SPENT
from agentrl.config import PricesConfig
from agentrl.errors import SandboxError, ToolError
from agentrl.inference.in_process import InProcessEngine
from agentrl.rollout.beginning import Beginning
from agentrl.rollout.engine import RolloutEngine
from agentrl.types import Rollout, StopReason
from tests.engine_fixtures import FakeTool, chance_policy
from tests.factories import make_task
from tests.rollout.test_engine import CHAT, TOKENIZER, Script, call, make_engine, text, write


def first(script: Any, *tools: Any, **limits: Any) -> Rollout:
    [rollout] = asyncio.run(make_engine(script, *tools, **limits).run([make_task()]))
    return rollout


def begun(rollout: Rollout, n_turns: int, **changed: Any) -> Beginning:
    return replace(Beginning(rollout.task, rollout.prompt_ids, rollout.turns[:n_turns], 0, rollout.seed), **changed)


def go_on(engine: RolloutEngine, *beginnings: Beginning, **options: Any) -> list[Rollout]:
    rollouts = asyncio.run(engine.continue_from(beginnings, **options))
    assert engine.inference.open_sessions == set()  # type: ignore[union-attr]
    return rollouts


def test_what_went_before_is_read_token_by_token_and_the_rest_is_new() -> None:
    recorded = first(Script("so" + call(key="a"), call(key="b"), "42"))
    read: list[list[int]] = []

    def script(ids: list[int], _: str) -> list[int]:
        read.append(ids)
        return write("43")

    [found] = go_on(make_engine(script), begun(recorded, 2))
    kept = [*recorded.prompt_ids, *(i for turn in recorded.turns[:2] for i in (*turn.token_ids, *turn.observation_ids))]
    assert read == [kept]
    assert (found.prompt_ids, found.turns[:2], found.answer) == (recorded.prompt_ids, recorded.turns[:2], "43")
    assert found.id != recorded.id
    assert found.is_valid


def test_a_begun_episode_draws_what_the_whole_one_drew() -> None:
    class Drawn:
        """Whether it calls again or answers is up to the context alone."""

        def __call__(self, ids: list[int], _: str) -> list[int]:
            return write(call(key=str(len(ids))) if len(ids) < 400 else "done")

    recorded = first(Drawn(), max_context_tokens=2000)
    assert len(recorded.turns) > 3
    for n_turns in range(1, len(recorded.turns)):
        [found] = go_on(make_engine(Drawn(), max_context_tokens=2000), begun(recorded, n_turns))
        assert [turn.token_ids for turn in found.turns] == [turn.token_ids for turn in recorded.turns]
        assert found.stop_reason == recorded.stop_reason


def test_with_the_seed_that_an_episode_had_the_rest_of_it_comes_again_bit_for_bit() -> None:
    engine = make_engine(lambda *_: (), max_turn_tokens=12, max_context_tokens=600, max_tool_calls=4)
    engine.inference = InProcessEngine(
        chance_policy(TOKENIZER), stop_ids=[CHAT.stop_id], temperature=1.0, max_batch=8, max_context_tokens=600,
        deterministic=True,
    )  # fmt: skip

    async def work() -> None:
        recorded = await engine.run([make_task(f"t{n}") for n in range(6)], seed=4)
        cut = [(each, n) for each in recorded for n in range(1, len(each.turns))]
        assert len(cut) > 5
        found = await engine.continue_from([begun(each, n) for each, n in cut])
        for (each, _), again in zip(cut, found, strict=True):
            assert [turn.token_ids for turn in again.turns] == [turn.token_ids for turn in each.turns]
            assert [turn.engine_logprobs for turn in again.turns] == [turn.engine_logprobs for turn in each.turns]
            assert (again.stop_reason, again.answer) == (each.stop_reason, each.answer)
        await engine.aclose()

    asyncio.run(work())


def test_calls_of_the_beginning_count_against_the_budget() -> None:
    recorded = first(Script(call(key="a"), call(key="b"), call(key="c"), "42"), max_tool_calls=4)
    [found] = go_on(make_engine(Script(call(key="d"), call(key="e")), max_tool_calls=4), begun(recorded, 3))
    assert found.stop_reason is StopReason.TOOL_BUDGET
    assert BUDGET_SPENT in text(found.turns[3].observation_ids)
    assert len(found.turns) == 5


def test_one_that_was_told_that_the_budget_is_spent_may_not_call_again() -> None:
    recorded = first(Script(call(key="a"), "42"), max_tool_calls=1)
    [found] = go_on(make_engine(Script(call(key="b")), max_tool_calls=1), begun(recorded, 1))
    assert (found.stop_reason, len(found.turns)) == (StopReason.TOOL_BUDGET, 2)


@pytest.mark.parametrize(
    ("limits", "stop"),
    [
        ({"max_turns": 2}, StopReason.TURN_LIMIT),
        ({"max_output_tokens": 4}, StopReason.TOKEN_BUDGET),
        ({"max_turn_tokens": 150, "max_context_tokens": 150}, StopReason.TOKEN_BUDGET),
        ({"max_cost_usd": 0.01, "prices": PricesConfig(usd_per_tool_call=0.005)}, StopReason.COST_BUDGET),
        ({"max_repeated_calls": 1}, StopReason.STUCK),
    ],
    ids=["turns", "output", "context", "cost", "stuck"],
)
def test_every_limit_counts_the_beginning(limits: dict[str, Any], stop: StopReason) -> None:
    recorded = first(Script(call(key="a"), call(key="a"), "42"))
    [found] = go_on(make_engine(Script(call(key="a")), **limits), begun(recorded, 2))
    assert found.stop_reason is stop
    assert found.grade.score is not None


def test_tools_that_keep_nothing_are_not_called_again() -> None:
    recorded = first(Script(call(key="a"), call(key="b"), "42"))
    tool = FakeTool()
    go_on(make_engine(Script("43"), tool), begun(recorded, 2))
    assert tool.seen == []


@pytest.mark.parametrize("why", ["asked", "session", "sandbox"])
def test_what_tools_keep_is_made_again_by_the_same_calls_under_new_ids(why: str) -> None:
    class Keeping(FakeTool):
        async def end_rollout(self, rollout_id: str) -> None:
            del rollout_id

    class Sandboxes:
        async def open(self, rollout_id: str, item: dict[str, Any]) -> None:
            del rollout_id, item

        async def close(self, rollout_id: str) -> str:
            del rollout_id
            return ""

        async def close_leftovers(self) -> None:
            pass

    recorded = first(Script(call(key="a") + call(key="b"), call(key="c"), call(key="d"), "42"), max_tool_calls=3)
    tool = Keeping() if why == "session" else FakeTool()
    engine = make_engine(Script("43"), tool, max_tool_calls=3)
    if why == "sandbox":
        engine._lifecycle = Sandboxes()  # type: ignore[assignment]
    [found] = go_on(engine, begun(recorded, 3), replays=why == "asked")
    made = [each.arguments for _, each in tool.seen]
    assert made == ['{"key": "a"}', '{"key": "b"}', '{"key": "c"}']  # the fourth was refused then, and is now
    assert {rollout_id for rollout_id, _ in tool.seen} == {found.id}
    assert not {each.id for _, each in tool.seen} & {each.id for each in recorded.tool_calls}
    assert found.turns[:3] == recorded.turns[:3]


@pytest.mark.parametrize("error", [ToolError("gone"), SandboxError("gone")])
def test_a_tool_that_breaks_in_the_replay_leaves_no_grade(error: Exception) -> None:
    def broken(_: Any) -> str:
        raise error

    recorded = first(Script(call(key="a"), "42"))
    [found] = go_on(make_engine(Script("43"), FakeTool(answer=broken)), begun(recorded, 1), replays=True)
    assert (found.stop_reason, found.grade.score) == (StopReason.INFRASTRUCTURE, None)
