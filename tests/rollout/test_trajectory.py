from __future__ import annotations

from dataclasses import replace

import pytest

from agentrl.config import PPOConfig, TokenPenaltyConfig
from agentrl.ppo.batch import check_trajectory, make_batch
from agentrl.rollout.trajectory import to_trajectories, to_trajectory
from agentrl.types import Grade, Rollout, StopReason
from tests.factories import make_rollout

LIGHT = PPOConfig()
FREE = PPOConfig(token_penalty=TokenPenaltyConfig(per_1000_tokens=0.0))


def test_a_trajectory_is_the_prompt_and_then_each_turn_with_what_it_was_answered() -> None:
    rollout = make_rollout(tools=("search",), tokens=4, policy_version=3)
    trajectory = to_trajectory(rollout, FREE)
    first, second = rollout.turns
    assert trajectory.token_ids == (*rollout.prompt_ids, *first.token_ids, *first.observation_ids, *second.token_ids)
    assert trajectory.action_mask == (*(False,) * 3, True, True, False, False, True, True)
    assert trajectory.engine_logprobs == (0, 0, 0, *first.engine_logprobs, 0, 0, *second.engine_logprobs)
    assert trajectory.turn_ids == (-1, -1, -1, 0, 0, -1, -1, 1, 1)
    assert trajectory.policy_versions == (-1, -1, -1, 3, 3, -1, -1, 3, 3)
    assert (trajectory.rollout_id, trajectory.task_id) == (rollout.id, "t1")
    check_trajectory(trajectory)


def test_as_many_tokens_are_trained_on_as_were_sampled() -> None:
    for tokens in (3, 10, 57):
        rollout = make_rollout(tokens=tokens)
        assert sum(to_trajectory(rollout, FREE).action_mask) == rollout.output_tokens == tokens


def test_a_rollout_that_ends_on_tool_output_is_trained_on_to_its_end() -> None:
    rollout = make_rollout(stop_reason=StopReason.TURN_LIMIT)
    rollout = replace(rollout, turns=rollout.turns[:-1], answer="")
    trajectory = to_trajectory(rollout, FREE)
    assert trajectory.action_mask[-2:] == (False, False)
    assert make_batch([trajectory], pad_id=0).rewards.tolist() == [1.0]


@pytest.mark.parametrize(
    "reason", [reason for reason in StopReason if reason not in (StopReason.TIME_LIMIT, StopReason.INFRASTRUCTURE)]
)
def test_an_end_of_the_policys_own_doing_is_learned_from(reason: StopReason) -> None:
    assert len(to_trajectories([make_rollout(stop_reason=reason, score=0.0)])) == 1


def no_answer_from_the_grader() -> Rollout:
    return make_rollout(score=None)


def infrastructure() -> Rollout:
    return make_rollout(stop_reason=StopReason.INFRASTRUCTURE, error="tool search: refused")


def out_of_time() -> Rollout:
    return replace(make_rollout(stop_reason=StopReason.TIME_LIMIT), grade=Grade(None, "not finished after 300 s"))


def nothing_sampled() -> Rollout:
    return replace(make_rollout(stop_reason=StopReason.TOKEN_BUDGET), turns=(), answer="")


@pytest.mark.parametrize("make", [no_answer_from_the_grader, infrastructure, out_of_time, nothing_sampled])
def test_what_cannot_be_learned_from_is_left_out_and_its_siblings_stay(make: object) -> None:
    lost = make()  # type: ignore[operator]
    trajectories = to_trajectories([make_rollout("a"), lost, make_rollout("b", score=0.0)])
    assert [trajectory.task_id for trajectory in trajectories] == ["a", "b"]
    assert [trajectory.reward for trajectory in trajectories] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("make", "reason"), [(no_answer_from_the_grader, "grader refused"), (infrastructure, "tool search: refused")]
)
def test_asking_for_the_trajectory_of_a_failed_rollout_says_why_there_is_none(make: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        to_trajectory(make(), FREE)  # type: ignore[operator]


def test_the_score_is_kept_beside_the_reward() -> None:
    trajectory = to_trajectory(make_rollout(tokens=500), LIGHT)
    assert (trajectory.score, trajectory.reward) == (1.0, pytest.approx(0.995))
    assert to_trajectories([make_rollout(tokens=500)])[0].reward == 1.0  # no penalty unless asked for


def test_turns_that_saw_the_same_before_them_have_the_same_state_key() -> None:
    rollout = make_rollout(tools=("search", "cat"))
    keys = to_trajectory(rollout).state_keys
    assert len(keys) == 3
    assert keys[0] != keys[1] == keys[2]  # the prompt, and twice the same tool output
    assert to_trajectory(make_rollout(sample_index=1, tools=("cat", "search"))).state_keys == keys
    other = replace(rollout, turns=(replace(rollout.turns[0], observation_ids=(7, 9)), *rollout.turns[1:]))
    assert to_trajectory(other).state_keys == (keys[0], to_trajectory(other).state_keys[1], keys[2])
    assert to_trajectory(other).state_keys[1] != keys[1]


def test_without_process_rewards_no_turn_earns_anything_by_itself() -> None:
    assert to_trajectory(make_rollout(), LIGHT).turn_rewards == ()
