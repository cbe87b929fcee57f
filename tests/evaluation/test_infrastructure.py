from __future__ import annotations

from dataclasses import replace

import pytest

from agentrl.evaluation.infrastructure import conduct_metrics, infrastructure_metrics, repeated_ngram_fraction
from agentrl.types import FailureClass, Grade, Rollout, StopReason
from tests.factories import make_rollout

LATE = Grade(None, "not finished after 300 s")


def lost(task_id: str, sample: int, by: FailureClass = FailureClass.TOOL) -> Rollout:
    """Long, expensive, full of retries: wherever it voted it would show."""
    rollout = make_rollout(task_id, sample, 1.0, ("search",) * 9, 9000, seconds=999.0, cost_usd=7.0)
    turns = tuple(replace(turn, attempts=5, malformed_calls=3, reasoning_tokens=90) for turn in rollout.turns)
    return replace(rollout, turns=turns, stop_reason=StopReason.INFRASTRUCTURE, broken_by=by)


def test_losses_are_counted_by_what_broke_them() -> None:
    rollouts = [
        make_rollout("a", 0, 1.0),
        lost("a", 1),
        lost("b", 0, FailureClass.SANDBOX),
        replace(make_rollout("b", 1), stop_reason=StopReason.TIME_LIMIT, grade=LATE),
        make_rollout("c", 0, 0.0),
        make_rollout("c", 1, None),
        make_rollout("d", 0, 0.5),
        make_rollout("d", 1, 0.0),
    ]
    assert infrastructure_metrics(rollouts) == {
        "infra_failed_fraction": 0.5,
        "infra_failed_grader": 0.125,
        "infra_failed_sandbox": 0.125,
        "infra_failed_time": 0.125,
        "infra_failed_tool": 0.125,
        "items_hit": 3.0,
        "items_lost": 1.0,
        "score_of_hit_items": 0.5,
    }


def test_the_score_of_retried_episodes_is_compared_with_the_others() -> None:
    easy, hard = make_rollout("a", 0, 1.0), make_rollout("b", 0, 0.0)
    retried = replace(hard, turns=(replace(hard.turns[0], attempts=2), *hard.turns[1:]))
    assert infrastructure_metrics([easy, retried])["score_of_retried"] == 0.0
    assert "score_of_retried" not in infrastructure_metrics([easy, hard])


def test_an_infra_failed_rollout_has_no_vote_in_how_the_policy_behaves() -> None:
    valid = [make_rollout("a", 0), make_rollout("b", 0, 0.0, stop_reason=StopReason.STUCK)]
    found = conduct_metrics([valid[0], lost("a", 1), valid[1], make_rollout("b", 1, None)])
    assert found == conduct_metrics(valid)
    assert found["policy_failed_fraction"] == 0.5
    assert found["retries"] == found["malformed_calls"] == found["cost_usd"] == 0.0


@pytest.mark.parametrize("rollouts", [[], [lost("a", 0)]])
def test_nothing_to_average_is_no_number(rollouts: list[Rollout]) -> None:
    assert conduct_metrics(rollouts) == {}
    assert "score_of_hit_items" not in infrastructure_metrics(rollouts)


def turns_of(*sampled: tuple[int, ...]) -> Rollout:
    rollout = make_rollout("a", 0, tools=("search",) * (len(sampled) - 1), tokens=2 * len(sampled))
    turns = tuple(replace(turn, token_ids=ids) for turn, ids in zip(rollout.turns, sampled, strict=True))
    return replace(rollout, turns=turns)


def test_repeated_ngrams_are_those_of_the_same_turn() -> None:
    text, loop = tuple(range(12)), (1, 2, 3, 4) * 3
    assert repeated_ngram_fraction(turns_of(text)) == 0
    assert repeated_ngram_fraction(turns_of(text, text)) == 0  # the same call twice is no degenerate text
    assert repeated_ngram_fraction(turns_of(loop)) == pytest.approx(1 - 4 / 9)  # nine 4-grams, four of them unlike
    assert repeated_ngram_fraction(turns_of(text, loop)) == pytest.approx(1 - (9 + 4) / 18)
    assert repeated_ngram_fraction(turns_of((1, 2, 3))) == 0


def test_malformed_calls_are_counted_among_all_attempts() -> None:
    rollout = make_rollout("a", 0, tools=("search", "cat"))
    bad = replace(rollout, turns=(replace(rollout.turns[0], malformed_calls=2), *rollout.turns[1:]))
    assert conduct_metrics([rollout, bad])["malformed_call_fraction"] == pytest.approx(2 / 6)
    assert "malformed_call_fraction" not in conduct_metrics([make_rollout("a", 0, tools=())])
