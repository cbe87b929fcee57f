from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentrl.config import PotentialConfig, PPOConfig, ProcessRewardsConfig, TurnScoreConfig
from agentrl.errors import ConfigError
from agentrl.rollout import facts
from agentrl.rollout.process_rewards import Signal, after, build_signals, shaping
from agentrl.rollout.trajectory import to_trajectory
from agentrl.types import Rollout, StopReason
from tests.factories import make_rollout


def signals(*potentials: dict[str, Any], turn_scores: tuple[dict[str, Any], ...] = ()) -> list[Signal]:
    config = ProcessRewardsConfig(
        report="unread.json",
        potentials=tuple(PotentialConfig(**{"name": f"p{i}", **each}) for i, each in enumerate(potentials)),
        turn_scores=tuple(TurnScoreConfig(**{"name": f"s{i}", **each}) for i, each in enumerate(turn_scores)),
    )
    return build_signals(config, "grader")


@pytest.fixture
def user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Writes a function of the user's into the working directory; returns the name of its module."""
    monkeypatch.chdir(tmp_path)

    def write(body: str) -> str:
        name = f"signals_{random.SystemRandom().randrange(10**12)}"
        (tmp_path / f"{name}.py").write_text(f"def read(rollout):\n    {body}\n")
        return name

    return write


def test_shaping_is_the_change_of_the_potential_and_is_paid_back_at_the_end() -> None:
    assert shaping((0.3, 0.7, 0.2), gamma=1.0) == pytest.approx([0.4, -0.5, -0.2])


def test_shaping_sums_to_the_negative_potential_of_the_start_for_every_episode() -> None:
    draw = random.Random(0)
    for _ in range(100):
        potentials, gamma = [draw.random() for _ in range(draw.randint(1, 9))], draw.choice((1.0, 0.97, 0.5))
        discounted = sum(gamma**k * f for k, f in enumerate(shaping(potentials, gamma)))
        assert discounted == pytest.approx(-potentials[0])


def test_whatever_the_policy_did_a_potential_adds_the_same_to_its_episode() -> None:
    shaped = signals({"tool_called": "cat", "weight": 0.3}, {"no_malformed_calls": True, "weight": 0.2})
    for tools in ((), ("cat",), ("search", "cat", "cat"), ("search",)):
        rollout = make_rollout(tools=tools)
        clumsy = replace(rollout, turns=(replace(rollout.turns[0], malformed_calls=1), *rollout.turns[1:]))
        for each in (rollout, clumsy):
            trajectory = to_trajectory(each, PPOConfig(), shaped)
            assert sum(trajectory.turn_rewards) == pytest.approx(-0.2)  # no call was malformed before the first turn
            assert len(trajectory.turn_rewards) == len(each.turns)


def test_a_potential_pays_the_turn_that_makes_it_true() -> None:
    [signal] = signals({"tool_called": "cat", "weight": 0.3})
    assert signal.rewards(make_rollout(tools=("search", "cat", "search")), 1.0) == pytest.approx([0, 0.3, 0, -0.3])


def failed(rollout: Rollout, turn: int) -> Rollout:
    turns = list(rollout.turns)
    results = tuple(replace(result, is_error=True) for result in turns[turn].tool_results)
    turns[turn] = replace(turns[turn], tool_results=results)
    return replace(rollout, turns=tuple(turns))


def test_a_call_that_was_answered_by_an_error_is_no_fact() -> None:
    assert facts.tool_called("cat")(make_rollout(tools=("cat",))) == 1
    assert facts.tool_called("cat")(failed(make_rollout(tools=("cat",)), 0)) == 0
    assert facts.tool_called("cat")(make_rollout(tools=("search",))) == 0


@pytest.mark.parametrize(
    ("tools", "expected"),
    [
        (("schema", "query"), 1),
        (("schema", "search", "query", "query"), 1),
        (("query", "schema", "query"), 0),  # too late
        (("schema",), 0),
        (("query",), 0),
        ((), 0),
    ],
)
def test_one_tool_before_another(tools: tuple[str, ...], expected: float) -> None:
    assert facts.tool_called_before("schema", "query")(make_rollout(tools=tools)) == expected


def test_a_failed_look_at_the_schema_does_not_count_as_one() -> None:
    rollout = make_rollout(tools=("schema", "query"))
    assert facts.tool_called_before("schema", "query")(failed(rollout, 0)) == 0
    assert facts.tool_called_before("schema", "query")(failed(rollout, 1)) == 0


def test_a_signal_sees_neither_what_comes_later_nor_the_grade() -> None:
    rollout = make_rollout(tools=("search", "cat"))
    seen = after(rollout, 1)
    assert seen.turns == rollout.turns[:1]
    assert (seen.answer, seen.stop_reason, seen.seconds) == ("", StopReason.TURN_LIMIT, 0.0)
    assert not seen.grade.is_graded
    assert seen.task == rollout.task
    other = make_rollout(tools=("search",), score=0.0, answer="no", seconds=9.0, stop_reason=StopReason.STUCK)
    assert replace(after(other, 1), turns=()) == replace(seen, turns=())


def test_a_function_of_the_users_reads_the_rollout_so_far(user_module: Callable[[str], str]) -> None:
    name = user_module("return len(rollout.turns) / 4")
    [potential] = signals({"function": f"{name}:read", "weight": 1.0})
    assert potential.values(make_rollout(tools=("a", "b"))) == [0.0, 0.25, 0.5]
    [score] = signals(turn_scores=({"function": f"{name}:read", "weight": 0.2},))
    assert score.values(make_rollout(tools=("a", "b"))) == [0.25, 0.5, 0.75]  # the turn itself included
    assert sum(score.rewards(make_rollout(tools=("a", "b")), 1.0)) == pytest.approx(0.2 * 0.5)  # weight times mean


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return 1.5", "p0: found 1.5 of rollout trace_t1-0; allowed: a number from 0 to 1"),
        ("return float('nan')", "found nan"),
        ("return 'good'", "found 'good'"),
        ("return rollout.turns[0].nothing", r"it raised (IndexError|AttributeError)"),
    ],
)
def test_a_function_that_fails_is_named(body: str, message: str, user_module: Callable[[str], str]) -> None:
    [signal] = signals({"function": f"{user_module(body)}:read"})
    with pytest.raises(ConfigError, match=message):
        signal.values(make_rollout())


def test_the_graders_turn_scores_are_spread_over_the_turns() -> None:
    [signal] = signals(turn_scores=({"weight": 0.2},))
    rollout = make_rollout(tools=("a", "b"))
    graded = replace(rollout, grade=replace(rollout.grade, turn_scores=(1.0, 0.0, 0.5)))
    assert signal.rewards(graded, 1.0) == pytest.approx([0.2 / 3, 0.0, 0.1 / 3])
    with pytest.raises(ConfigError, match=r"found 0 turn_scores of 3 turns; grading.turn_scores: true asks"):
        signal.rewards(rollout, 1.0)


def test_signals_add_up() -> None:
    rollout = make_rollout(tools=("cat",))
    rollout = replace(rollout, grade=replace(rollout.grade, turn_scores=(1.0, 1.0)))
    both = signals({"tool_called": "cat", "weight": 0.3}, turn_scores=({"weight": 0.1},))
    trajectory = to_trajectory(rollout, PPOConfig(), both)
    assert trajectory.turn_rewards == pytest.approx((0.35, -0.25))
    assert trajectory.reward == to_trajectory(rollout, PPOConfig()).reward


def test_a_digest_is_of_the_definition_and_not_of_name_or_weight(user_module: Callable[[str], str]) -> None:
    [first] = signals({"tool_called": "cat", "name": "a", "weight": 0.1})
    [same] = signals({"tool_called": "cat", "name": "b", "weight": 0.2})
    [other] = signals({"tool_called": "search"})
    assert first.digest == same.digest != other.digest
    one, two = user_module("return 1"), user_module("return 0")
    [potential], [score] = signals({"function": f"{one}:read"}), signals(turn_scores=({"function": f"{one}:read"},))
    [changed] = signals({"function": f"{two}:read"})
    assert len({potential.digest, score.digest, changed.digest}) == 3


@pytest.mark.parametrize(
    ("potential", "message"),
    [
        ({}, "found none; allowed: exactly one of tool_called, "),
        ({"tool_called": "a", "function": "a:b"}, "found tool_called and function"),
    ],
)
def test_a_potential_is_exactly_one_fact(potential: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        signals(potential)


def test_two_signals_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="found the name 'a' twice"):
        signals({"name": "a", "tool_called": "x"}, turn_scores=({"name": "a"},))
    with pytest.raises(ValueError, match="found no signal"):
        ProcessRewardsConfig(report="r.json")
