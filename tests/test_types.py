from __future__ import annotations

from dataclasses import replace

import pytest

from agentrl.types import FailureClass, Outcome, StopReason
from tests.factories import make_rollout

OWN_DOING = [reason for reason in StopReason if reason not in (StopReason.TIME_LIMIT, StopReason.INFRASTRUCTURE)]


@pytest.mark.parametrize("reason", OWN_DOING)
def test_a_graded_rollout_is_completed_or_failed_by_the_policy(reason: StopReason) -> None:
    rollout = make_rollout(stop_reason=reason, score=0.0)
    expected = Outcome.COMPLETED if reason is StopReason.FINAL else Outcome.POLICY_FAILED
    assert (rollout.outcome, rollout.is_valid, rollout.failure_class) == (expected, True, None)


@pytest.mark.parametrize("reason", OWN_DOING)
def test_without_a_grade_there_is_nothing_to_learn_from(reason: StopReason) -> None:
    rollout = make_rollout(stop_reason=reason, score=None)
    assert (rollout.outcome, rollout.is_valid) == (Outcome.INFRA_FAILED, False)
    assert rollout.failure_class is FailureClass.GRADER


@pytest.mark.parametrize("score", [None, 0.0, 1.0])
def test_what_was_cut_off_is_not_valid_even_with_a_grade(score: float | None) -> None:
    late = make_rollout(stop_reason=StopReason.TIME_LIMIT, score=score)
    broken = make_rollout(stop_reason=StopReason.INFRASTRUCTURE, score=score, broken_by=FailureClass.TOOL)
    assert [rollout.outcome for rollout in (late, broken)] == [Outcome.INFRA_FAILED] * 2
    assert [rollout.failure_class for rollout in (late, broken)] == [FailureClass.TIME, FailureClass.TOOL]


def test_a_rollout_counts_what_happened_in_its_turns() -> None:
    first, second, last = make_rollout().turns
    [result] = first.tool_results
    first = replace(first, tool_results=(replace(result, attempts=3, is_cut=True),), malformed_calls=2)
    second = replace(second, attempts=2, reasoning_tokens=3, policy_version=1)
    rollout = make_rollout(turns=(first, second, replace(last, reasoning_tokens=1, policy_version=1)))
    assert (rollout.malformed_calls, rollout.cut_outputs, rollout.retries) == (2, 1, 3)
    assert (rollout.reasoning_tokens, rollout.policy_versions) == (4, (0, 1))
