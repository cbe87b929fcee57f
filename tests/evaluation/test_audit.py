from __future__ import annotations

from dataclasses import replace

from agentrl.evaluation.audit import audit_queue, largest_gaps, suspects
from agentrl.types import Grade, Rollout
from tests.evaluation.test_holdout import EXACT, grading
from tests.factories import make_rollout


def episodes() -> list[Rollout]:
    """Twenty items: half of them score 1, three of those against the hold-out."""
    rollouts = []
    for n in range(20):
        score = float(n % 2)
        holdout = 0.0 if n in (1, 7, 11) else score
        grade = Grade(score, holdout={"exact": holdout})
        rollouts.append(replace(make_rollout(f"t{n:02d}", answer="1 2 3 4" * 100), grade=grade))
    return [*rollouts, make_rollout("lost", score=None)]


def test_a_queue_holds_random_highest_and_gamed_episodes() -> None:
    queue = audit_queue(episodes(), EXACT, seed=1)
    assert [entry.why for entry in queue] == ["random"] * 3 + ["highest"] * 3 + ["largest_gap"] * 3
    assert {entry.task_id for entry in queue if entry.why == "largest_gap"} == {"t01", "t07", "t11"}
    assert all(entry.score == 1.0 for entry in queue if entry.why != "random")
    assert all(entry.holdout == {"exact": 0.0} for entry in queue if entry.why == "largest_gap")
    assert "lost" not in {entry.task_id for entry in queue}


def test_a_queue_depends_on_its_seed_and_not_on_the_order_of_the_rollouts() -> None:
    queue = audit_queue(episodes(), EXACT, seed=1)
    assert queue == audit_queue(episodes()[::-1], EXACT, seed=1)
    others = [audit_queue(episodes(), EXACT, seed=seed) for seed in range(2, 6)]
    assert any(other != queue for other in others)
    # of equal scores, chance decides: the same three items are not looked at every time
    assert len({entry.task_id for other in others for entry in other if entry.why == "highest"}) > 3


def test_how_many_of_each_is_the_config_s() -> None:
    few = grading("exact", audit={"random": 0, "highest": 1, "largest_gap": 2})
    assert [entry.why for entry in audit_queue(episodes(), few, seed=1)] == ["highest", "largest_gap", "largest_gap"]
    unwatched = audit_queue(episodes(), grading(), seed=1)
    assert {entry.why for entry in unwatched} == {"random", "highest"}


def test_agreement_and_missing_scores_are_no_gap() -> None:
    missing = replace(make_rollout("missing"), grade=Grade(1.0))
    below = replace(make_rollout("below"), grade=Grade(0.0, holdout={"exact": 1.0}))
    assert largest_gaps([missing, below, *episodes()[:1]], EXACT) == []


def test_suspects_come_with_what_they_said() -> None:
    found = suspects(episodes(), EXACT)
    assert [each["task_id"] for each in found] == ["t01", "t07", "t11"]
    assert found[0]["score"] - found[0]["holdout"] == 1.0
    assert len(found[0]["answer"]) == 200
