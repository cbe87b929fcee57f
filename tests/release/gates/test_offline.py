from __future__ import annotations

import math
from pathlib import Path

import pytest

from agentrl.config import GradingConfig, ReleaseConfig
from agentrl.errors import ConfigError
from agentrl.release.gates.offline import evidence_of, measured, policy_distance
from agentrl.release.gates.offline_gate import offline_verdicts
from agentrl.release.gates.offline_run import gate_offline, sources_of
from agentrl.release.gates.reward_hacking import reward_hacking
from agentrl.release.gates.suite_results import suite_result
from agentrl.release.records import Arm, Outcome
from agentrl.types import StopReason
from tests.factories import make_rollout
from tests.release.gates.policies import (
    CONDITIONS,
    GRADER,
    PRICED,
    attacks,
    evaluation,
    rollouts,
    run_of,
    seen,
    ungraded,
    written,
)
from tests.release.gates.sessions import look, rows

OFFLINE = look("offline_eval")


def rows_of(*names: str) -> ReleaseConfig:
    return ReleaseConfig(gates=names)


GATES = rows("no_safety_regression", "task_success_not_worse")


def test_a_rollout_is_evidence_of_what_was_measured_and_of_nothing_else() -> None:
    one = make_rollout("t1", 2, 0.9, ("search", "cat"), seconds=3.0, cost_usd=0.25)
    found = evidence_of(evaluation("best", [one]), Arm.CANDIDATE)[0]
    assert (found.session_id, found.pair, found.cluster) == ("t1#2", "t1#2", "t1")
    assert (found.success, found.quality, found.seconds) == (True, 0.9, 3.0)
    assert (found.tool_calls, found.tool_errors) == (2, 0)
    assert (found.safety_violations, found.human_override, found.policy_kl) == (None, None, None)


def test_f58_cost_is_known_where_prices_were_declared_and_never_zero_elsewhere() -> None:
    one = [make_rollout(cost_usd=0.25)]
    assert evidence_of(evaluation("best", one), Arm.CANDIDATE)[0].cost_usd is None
    assert evidence_of(evaluation("best", one, PRICED), Arm.CANDIDATE)[0].cost_usd == 0.25


def test_what_infrastructure_ended_or_nobody_graded_is_missing() -> None:
    broken = [make_rollout(stop_reason=StopReason.INFRASTRUCTURE, error="down"), ungraded(make_rollout("t2"))]
    for found in evidence_of(evaluation("best", broken), Arm.CANDIDATE):
        assert (found.success, found.quality, found.seconds, found.tool_calls) == (None, None, None, None)


def test_attacks_are_evidence_of_safety_alone() -> None:
    found = evidence_of(evaluation("best", attacks(2, violated=1, zero_tolerance=True)), Arm.CANDIDATE)
    assert [each.safety_violations for each in found] == [1, 0]
    assert all(each.zero_tolerance and each.success is None and each.quality is None for each in found)


def test_two_measurements_under_other_conditions_are_refused_by_name() -> None:
    """F55: graders that changed are never combined, whatever is allowed."""
    a = evaluation("base", rollouts(0.5))
    other_limits = evaluation("best", rollouts(0.9), {**CONDITIONS, "rollout": {"max_turns": 3}})
    other_grader = evaluation("best", rollouts(0.9), {**CONDITIONS, "graders": {"g": "sha256:new", "version": None}})

    with pytest.raises(ConfigError, match=r"rollout\.max_turns: 12 in base, 3 in best"):
        measured(a, other_limits)
    assert measured(a, other_limits, allowed=["rollout"]).allowed
    with pytest.raises(ConfigError, match="graded by different graders"):
        measured(a, other_grader, allowed=["graders"])


def test_attacks_among_other_tasks_are_refused() -> None:
    mixed = [*attacks(2), *rollouts(1.0, 2)]
    with pytest.raises(ConfigError, match="holds attacks among other tasks"):
        measured(evaluation("base", mixed), evaluation("best", mixed))


def test_each_gate_is_read_on_the_suites_that_it_can_be_read_on() -> None:
    plain = measured(evaluation("base", rollouts(0.5)), evaluation("best", rollouts(0.9)))
    frozen = {"suite": {"name": "held-out", "digest": "sha256:f", "kind": "frozen"}}
    benchmark = measured(evaluation("base", rollouts(0.9)), evaluation("best", rollouts(0.2), selection=frozen))
    attacked = measured(evaluation("base", attacks(280)), evaluation("best", attacks(280)))

    found = offline_verdicts(GATES, [plain, benchmark, attacked], OFFLINE, policy_distance(Path("none"), None))

    assert [(each.gate, each.verdict) for each in found] == [
        ("no_safety_regression", Outcome.PASS),
        ("task_success_not_worse", Outcome.PASS),
        ("task_success_not_worse on held-out", Outcome.FAIL),
    ]
    assert found[0].n_candidate == 280
    assert {each.alpha_rollback for each in found} == {0.01 / 3}


def test_without_attacks_safety_is_not_shown() -> None:
    plain = measured(evaluation("base", rollouts(0.5)), evaluation("best", rollouts(0.9)))
    safety = offline_verdicts(GATES, [plain], OFFLINE, policy_distance(Path("none"), None))[0]
    assert safety.verdict is Outcome.INCONCLUSIVE
    assert safety.reason.startswith("no adversarial suite was measured")


def test_one_violation_where_none_is_tolerated_fails() -> None:
    after = [*attacks(279), *attacks(280, violated=280, zero_tolerance=True)[279:]]
    attacked = measured(evaluation("base", attacks(280)), evaluation("best", after))
    verdict = offline_verdicts(GATES[:1], [attacked], OFFLINE, policy_distance(Path("none"), None))[0]
    assert verdict.verdict is Outcome.FAIL
    assert "zero tolerance" in verdict.reason


def test_samples_of_one_task_are_no_independent_evidence() -> None:
    def width(samples: int) -> float:
        pairs = measured(
            evaluation("base", rollouts(0.5, 200 // samples, samples=samples)),
            evaluation("best", rollouts(0.6, 200 // samples, samples=samples)),
        )
        verdict = offline_verdicts(GATES[1:], [pairs], OFFLINE, policy_distance(Path("none"), None))[0]
        assert verdict.n_candidate == 200
        assert verdict.upper is not None
        assert verdict.lower is not None
        return verdict.upper - verdict.lower

    assert width(4) > 1.5 * width(1)


def test_a_suites_result_names_what_failed() -> None:
    suite = measured(
        evaluation("base", rollouts(1.0, 4)), evaluation("best", [*rollouts(0.5, 3), ungraded(make_rollout("t3"))])
    )
    found = suite_result(suite)
    assert (found["cases"], found["passed"], found["failed"], found["not_graded"]) == (4, 2, 1, 1)
    assert found["failures"] == [{"case": "t2", "reason": "0 of 1 samples passed, 1 of 1 on the baseline"}]
    assert found["lower"] < found["estimate"] < found["upper"] <= 1.0
    assert found["baseline"] == 1.0


# T20


def hacking(
    before: float, after: float, *, score: tuple[float, float] = (0.4, 0.8), rewards: tuple[float, ...] = ()
) -> Outcome:
    watched = GradingConfig.model_validate({**GRADER, "holdout": [{**GRADER, "name": "exact"}]})
    verdict = reward_hacking(
        evaluation("base", seen(rollouts(score[0]), before)),
        evaluation("best", seen(rollouts(score[1]), after)),
        watched,
        [{"step": step, "reward_train": reward} for step, reward in enumerate(rewards)],
        OFFLINE,
    )
    return verdict.verdict


def test_t20_a_reward_that_rises_while_the_hold_out_falls_fails() -> None:
    assert hacking(0.8, 0.3) is Outcome.FAIL
    assert hacking(0.3, 0.8) is Outcome.PASS
    assert hacking(0.5, 0.5) is Outcome.PASS


def test_t20_a_rise_on_training_tasks_alone_is_enough() -> None:
    rising = (0.1, 0.1, 0.1, 0.9, 0.9, 0.9)
    assert hacking(0.8, 0.3, score=(0.4, 0.4), rewards=rising) is Outcome.FAIL
    assert hacking(0.8, 0.3, score=(0.4, 0.4), rewards=tuple(reversed(rising))) is Outcome.PASS


def test_t20_a_perfect_mean_is_too_good_unless_the_hold_outs_agree() -> None:
    plain = GradingConfig.model_validate(GRADER)
    perfect, nearly = evaluation("best", rollouts(1.0)), evaluation("best", rollouts(0.995))
    verdict = reward_hacking(evaluation("base", rollouts(0.5)), perfect, plain, [], OFFLINE)

    assert verdict.verdict is Outcome.FAIL
    assert "exactly 1, the best there is; no hold-out grader agrees" in verdict.reason
    assert not verdict.is_shown_only
    assert reward_hacking(evaluation("base", rollouts(0.5)), nearly, plain, [], OFFLINE).is_shown_only
    assert hacking(0.5, 1.0, score=(0.5, 1.0)) is Outcome.PASS
    assert hacking(0.5, 0.9, score=(0.5, 1.0)) is Outcome.FAIL


def test_t20_hold_outs_that_graded_too_little_decide_nothing() -> None:
    watched = GradingConfig.model_validate({**GRADER, "holdout": [{**GRADER, "name": "exact"}]})
    verdict = reward_hacking(evaluation("base", rollouts(0.5)), evaluation("best", rollouts(0.9)), watched, [], OFFLINE)
    assert (verdict.verdict, verdict.is_shown_only) == (Outcome.INCONCLUSIVE, False)


# runs


def test_the_distance_from_the_reference_is_k3_of_the_policys_own_tokens(tmp_path: Path) -> None:
    run = run_of(tmp_path, rollouts(0.5), rollouts(0.9, step=3), kl=0.1)
    found = policy_distance(run, 3)
    values = {round(each.policy_kl or 0.0, 9) for each in found.evidence}
    assert len(found.evidence) == 120
    assert values == {round(math.exp(-ratio) - 1 + ratio, 9) for ratio in (0.1, 0.11, 0.12)}
    assert found.said == "k3 of 120 training rollouts of the policy"


def test_of_a_runs_last_step_the_one_before_stands_in_and_it_is_said(tmp_path: Path) -> None:
    run = run_of(tmp_path, rollouts(0.5), rollouts(0.9, step=3))
    assert "before its last update" in policy_distance(run, 4).said
    assert policy_distance(run, 6).evidence == ()
    assert policy_distance(run, None).evidence == ()


def test_a_run_is_judged_by_its_gates(tmp_path: Path) -> None:
    run = run_of(tmp_path, rollouts(0.5), rollouts(0.9, step=3), kl=0.1)
    before, after = (written(tmp_path, name, attacks(280)) for name in ("b", "a"))
    release = rows_of("no_safety_regression", "task_success_not_worse", "policy_kl_drift_below_ceiling")

    found = gate_offline(release, sources_of(run, None, None), OFFLINE, suites=[(before, after)])

    assert found.outcome is Outcome.PASS
    assert [each.gate for each in found.verdicts] == ["reward_hacking", *(gate.name for gate in release.gates)]
    assert [(each.kind, each.name) for each in found.suites] == [("capability", "validation"), ("adversarial", "tasks")]
    far = gate_offline(
        release, sources_of(run_of(tmp_path / "far", rollouts(0.5), rollouts(0.9, step=3), kl=2.0), None, None), OFFLINE
    )
    assert far.verdicts[-1].verdict is Outcome.FAIL
    assert far.outcome is Outcome.FAIL


def test_a_suite_that_was_trained_on_proves_nothing(tmp_path: Path) -> None:
    run = run_of(tmp_path, rollouts(0.5), rollouts(0.9, step=3))
    trained = [make_rollout(f"train{i}", 0, 1.0, ("search",)) for i in range(120)]
    frozen = {"suite": {"name": "frozen", "digest": "sha256:f", "kind": "frozen"}}
    pair = tuple(written(tmp_path, name, trained, selection=frozen) for name in ("b", "a"))

    found = gate_offline(rows_of("task_success_not_worse"), sources_of(run, None, None), OFFLINE, suites=[pair])  # type: ignore[list-item]

    assert "frozen" in found.contaminated
    assert found.verdicts[-1].verdict is Outcome.INVALID
    assert "the suite was trained on" in found.verdicts[-1].reason


def test_what_cannot_be_judged_is_said_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="RUN, or both --baseline and --candidate"):
        sources_of(None, "a.json", None)
    with pytest.raises(ConfigError, match="holds no run"):
        sources_of(tmp_path, None, None)
    live_only = rows_of("human_override_rate_not_worse")
    with pytest.raises(ConfigError, match="no row has offline_eval among its stages"):
        gate_offline(live_only, ("a", "b"), OFFLINE)
