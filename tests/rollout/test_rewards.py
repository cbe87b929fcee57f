from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentrl.config import PPOConfig, TokenPenaltyConfig, ToolEfficiencyConfig
from agentrl.rollout.rewards import outcome_reward, token_penalty, tool_efficiency
from agentrl.types import Rollout
from tests.factories import make_rollout

LIGHT = PPOConfig()
EFFICIENT = PPOConfig(token_penalty=TokenPenaltyConfig(per_1000_tokens=0.0), tool_efficiency=ToolEfficiencyConfig())


def group_advantages(rollouts: Sequence[Rollout], config: PPOConfig) -> list[float]:
    """Each reward against the mean of the others (RLOO)."""
    rewards = [outcome_reward(rollout, config) for rollout in rollouts]
    n = len(rewards)
    return [(reward - sum(rewards) / n) * n / (n - 1) for reward in rewards]


@pytest.mark.parametrize(
    ("score", "tokens", "expected"),
    [
        (1.0, 1000, 0.01),
        (1.0, 250, 0.0025),
        (0.5, 1000, 0.01),
        (0.49, 1000, 0.0),  # failed: the penalty would teach to give up
        (0.0, 100_000, 0.0),
        (1.0, 10_000, 0.1),
        (1.0, 1_000_000, 0.1),  # capped
        (1.0, 0, 0.0),
    ],
)
def test_the_token_penalty_is_gated_on_success_and_capped(score: float, tokens: int, expected: float) -> None:
    assert token_penalty(score, tokens, TokenPenaltyConfig()) == pytest.approx(expected)


def test_the_reward_is_the_score_less_the_penalty() -> None:
    assert outcome_reward(make_rollout(tokens=500), LIGHT) == pytest.approx(0.995)


def test_where_every_sample_failed_a_gated_penalty_gives_no_advantage() -> None:
    rollouts = [make_rollout("t", i, score=0.0, tokens=10 * (i + 1)) for i in range(4)]
    assert group_advantages(rollouts, LIGHT) == [0.0] * 4
    ungated = PPOConfig(token_penalty=TokenPenaltyConfig(gate=0.0))
    assert group_advantages(rollouts, ungated) != [0.0] * 4


@pytest.mark.parametrize(("is_counted", "expected"), [(False, 0.99970), (True, 0.98970)])
def test_tool_output_costs_something_only_where_it_is_counted(is_counted: bool, expected: float) -> None:
    short = make_rollout(tokens=30)
    first, *others = short.turns
    long = replace(short, turns=(replace(first, observation_ids=(7,) * 996), *others))  # 4 more in the others
    config = PPOConfig(token_penalty=TokenPenaltyConfig(count_tool_output=is_counted))
    assert outcome_reward(long, config) == pytest.approx(expected, abs=3e-5)
    assert (outcome_reward(long, config) == outcome_reward(short, config)) is not is_counted


def test_each_malformed_call_costs_what_the_config_says() -> None:
    rollout = make_rollout(tokens=500, score=0.25)
    clumsy = replace(rollout, turns=(replace(rollout.turns[0], malformed_calls=2), *rollout.turns[1:]))
    assert outcome_reward(clumsy, PPOConfig(malformed_call_penalty=0.1)) == pytest.approx(0.05)
    assert outcome_reward(clumsy, LIGHT) == 0.25


@pytest.mark.parametrize(
    ("calls", "factor"), [(0, 1.0), (1, 0.866025), (2, 0.707107), (4, 0.5), (8, 0.309017), (10, 0.258819)]
)
def test_tool_efficiency_is_the_cosine_of_otc(calls: int, factor: float) -> None:
    assert tool_efficiency(calls, ToolEfficiencyConfig(smoothing=4.0)) == pytest.approx(factor, abs=1e-6)
    rollout = make_rollout(score=0.5, tools=("search",) * calls, tokens=20)
    assert outcome_reward(rollout, EFFICIENT) == pytest.approx(0.5 * factor, abs=1e-6)


def test_no_number_of_calls_makes_a_right_answer_worth_less_than_a_wrong_one() -> None:
    many = make_rollout(score=0.1, tools=("search",) * 99, tokens=200)
    assert outcome_reward(many, EFFICIENT) > outcome_reward(make_rollout(score=0.0, tools=()), EFFICIENT) == 0.0


def test_parallel_calls_cost_as_calls_and_not_as_turns() -> None:
    one_a_turn = make_rollout(tools=("search", "search"))
    first, second, last = one_a_turn.turns
    calls, results = first.tool_calls + second.tool_calls, first.tool_results + second.tool_results
    at_once = replace(one_a_turn, turns=(replace(first, tool_calls=calls, tool_results=results), last))
    assert outcome_reward(at_once, EFFICIENT) == outcome_reward(one_a_turn, EFFICIENT)


def test_a_rollout_without_a_grade_earns_nothing_it_could_be_given() -> None:
    with pytest.raises(ValueError, match="has no grade: grader refused"):
        outcome_reward(make_rollout(score=None), LIGHT)
