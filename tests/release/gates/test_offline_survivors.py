"""An evaluation that lost its hard tasks is no better for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentrl.release.gates.offline import measured, policy_distance
from agentrl.release.gates.offline_gate import offline_verdicts
from agentrl.release.records import Outcome, Verdict
from agentrl.types import Rollout
from tests.factories import make_rollout
from tests.release.gates.policies import evaluation, rollouts
from tests.release.gates.sessions import look, rows


def gate(base: list[Rollout], candidate: list[Rollout]) -> Verdict:
    found = measured(evaluation("base", base), evaluation("best", candidate))
    (verdict,) = offline_verdicts(
        rows("task_success_not_worse"), [found], look("offline_eval"), policy_distance(Path("none"), None)
    )
    return verdict


def test_tasks_that_the_candidate_has_no_rollout_of_are_missing() -> None:
    base = [make_rollout(f"t{i}", 0, float(i % 5 > 0)) for i in range(600)]
    survivors = [make_rollout(f"t{i}", 0, 1.0) for i in range(200)]
    verdict = gate(base, survivors)
    assert verdict.verdict is Outcome.INCONCLUSIVE
    assert "400 of the candidate's 600 sessions are without task_success" in verdict.reason
    assert gate(survivors, base).verdict is Outcome.INCONCLUSIVE


@pytest.mark.parametrize("samples", [1, 2])
def test_more_samples_of_one_policy_lose_nothing_of_the_other(samples: int) -> None:
    base = rollouts(0.5, 300)
    assert gate(base, rollouts(0.9, 300, samples=samples)).verdict is Outcome.PASS
