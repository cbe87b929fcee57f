from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentrl.config.gates import BUILT_IN_GATES
from agentrl.release.gates import judge, judge_all
from agentrl.release.records import Arm, Outcome, SessionEvidence
from tests.release.gates.sessions import LATE, START, arm, both, in_pairs, look, row, rows, session

LIVE_GATES = tuple(name for name, gate in BUILT_IN_GATES.items() if gate["unit"] == "session")
CANDIDATE, BASELINE = Arm.CANDIDATE, Arm.BASELINE


@pytest.mark.parametrize("name", BUILT_IN_GATES)
def test_without_evidence_no_gate_passes(name: str) -> None:
    for stage in ("offline_eval", "shadow", "canary"):
        verdict = judge(row(name), [], look(stage))
        assert verdict.verdict is Outcome.INCONCLUSIVE, stage
        assert verdict.reason


F45 = {
    "one_each": both(1),
    "below_the_minimum": both(99, n_baseline=399),
    "candidate_empty": arm(BASELINE, 500),
    "baseline_empty": arm(CANDIDATE, 500),
    "all_nan": [
        replace(each, quality=math.nan, seconds=math.nan, cost_usd=math.nan, policy_kl=math.nan, success=None)
        for each in both(500)
    ],
    "no_success_on_either_arm": both(500, rates={"success": 0.0}),
    "all_constant": [session(number, side) for side in Arm for number in range(500)],
}


@pytest.mark.parametrize("case", F45)
@pytest.mark.parametrize("name", LIVE_GATES)
def test_f45_scarce_or_senseless_evidence_raises_nothing_and_is_json(name: str, case: str) -> None:
    for stage in ("offline_eval", "shadow", "canary"):
        verdict = judge(row(name), F45[case], look(stage))
        json.dumps(verdict.to_record(), allow_nan=False)
        if case in ("one_each", "below_the_minimum", "candidate_empty"):
            assert verdict.verdict is Outcome.INCONCLUSIVE
        if case == "baseline_empty" and row(name).compare != "absolute":
            assert verdict.verdict is Outcome.INCONCLUSIVE


def test_f45_what_is_not_a_number_never_passes() -> None:
    measured = ("latency_delta_lt_15_percent", "cost_per_success_not_worse", "task_success_not_worse")
    for name in (*measured, "policy_kl_drift_below_ceiling", "reliability_score_not_worse"):
        verdict = judge(row(name), F45["all_nan"], look())
        assert verdict.verdict is Outcome.INCONCLUSIVE, name


def test_f45_nothing_happened_on_either_arm_bounds_the_rate_of_violations() -> None:
    few = judge(row("no_safety_regression", min_samples={"candidate": 100, "baseline": 100}), both(150), look())
    many = judge(row("no_safety_regression"), both(1600), look())

    assert few.verdict is Outcome.INCONCLUSIVE
    assert many.verdict is Outcome.PASS
    assert few.upper is not None
    assert many.upper is not None
    assert few.upper > 0.01 > many.upper > 0.0


def test_f45_a_constant_without_spread_shows_nothing() -> None:
    quality = {"metric": "completion_quality", "statistic": "mean", "direction": "higher_is_better"}
    gate = row("quality", **quality, margin={"absolute": 0.05}, test="confidence_sequence")
    assert judge(gate, F45["all_constant"], look()).verdict is Outcome.INCONCLUSIVE


numbers = st.one_of(st.none(), st.floats(width=32), st.sampled_from([0.0, 1.0, -1.0, 1e308, 1e-308]))
counts = st.one_of(st.none(), st.integers(0, 3))


@st.composite
def sessions(draw: st.DrawFn) -> SessionEvidence:
    number = draw(st.integers(0, 400))
    return SessionEvidence(
        session_id=f"s{number}",
        arm=draw(st.sampled_from(Arm)),
        at=START + number,
        cluster=draw(st.sampled_from(["", "u1", "u2"])),
        pair=draw(st.sampled_from(["", f"s{number}"])),
        intent=draw(st.sampled_from(["", "a", "b"])),
        success=draw(st.sampled_from([None, True, False])),
        quality=draw(numbers),
        safety_violations=draw(counts),
        seconds=draw(numbers),
        cost_usd=draw(numbers),
        human_override=draw(st.sampled_from([None, True, False])),
        tool_calls=draw(counts),
        tool_errors=draw(counts),
        tool_infra_errors=draw(counts),
        policy_kl=draw(numbers),
        policy_kl_tokens=draw(counts),
    )


@settings(max_examples=60, deadline=None)
@given(evidence=st.lists(sessions(), max_size=12), stage=st.sampled_from(["offline_eval", "shadow", "canary"]))
def test_f45_whatever_comes_few_sessions_never_pass_and_never_raise(
    evidence: list[SessionEvidence], stage: str
) -> None:
    gates = [row(name, min_samples={"candidate": 2, "baseline": 2}) for name in LIVE_GATES]
    gates += [row("p95", **P95), row("worst", **WORST)]
    for gate in gates:
        verdict = judge(gate, evidence, look(stage))
        json.dumps(verdict.to_record(), allow_nan=False)
        if verdict.n_candidate < 2:
            assert verdict.verdict is not Outcome.PASS


P95: dict[str, Any] = {
    "metric": "session_seconds",
    "statistic": "quantile:0.95",
    "direction": "lower_is_better",
    "margin": {"relative": 0.3},
    "test": "bootstrap",
}
WORST: dict[str, Any] = {
    "metric": "session_seconds",
    "statistic": "max",
    "compare": "absolute",
    "limit": 60.0,
    "direction": "lower_is_better",
    "test": "threshold",
}


def test_an_equal_candidate_passes_every_gate_with_enough_sessions() -> None:
    wider = {
        "cost_per_success_not_worse": {"margin": {"relative": 0.1}},
        "human_override_rate_not_worse": {"margin": {"absolute": 0.03}},
    }
    gates = [row(name, **wider.get(name, {})) for name in LIVE_GATES]
    verdicts = judge_all(gates, both(3200), look(share=50.0))
    assert {each.gate: each.verdict for each in verdicts} == {
        name: Outcome.PASS for name in LIVE_GATES if "canary" in row(name).stages
    }


HARM: dict[str, dict[str, Any]] = {
    "no_safety_regression": {"rates": {"safety_violations": 0.05}},
    "latency_delta_lt_15_percent": {"slow": 1.5},
    "cost_per_success_not_worse": {"cost_usd": 0.02},
    "task_success_not_worse": {"rates": {"success": 0.6}},
    "human_override_rate_not_worse": {"rates": {"human_override": 0.15}},
    "tool_error_rate_not_worse": {"tool_errors": 1},
    "policy_kl_drift_below_ceiling": {"policy_kl": 0.5},
    "reliability_score_not_worse": {"rates": {"human_override": 0.3}},
}


@pytest.mark.parametrize("name", LIVE_GATES)
def test_a_worse_candidate_fails_and_a_better_one_never_does(name: str) -> None:
    worse = [*arm(CANDIDATE, 1000, **HARM[name]), *arm(BASELINE, 1000, seed=1)]
    if name == "policy_kl_drift_below_ceiling":  # a limit needs some spread to be held against
        worse = [replace(each, policy_kl=0.5 + 0.01 * (number % 5)) for number, each in enumerate(worse)]
    better = [*arm(CANDIDATE, 1000), *arm(BASELINE, 1000, seed=1, **HARM[name])]

    assert judge(row(name), worse, look()).verdict is Outcome.FAIL
    assert judge(row(name), better, look()).verdict is not Outcome.FAIL


def test_a_loss_within_the_margin_passes_a_soft_gate_and_fails_a_hard_one() -> None:
    evidence = [*arm(CANDIDATE, 3000, rates={"success": 0.75}), *arm(BASELINE, 3000, seed=1)]

    soft, hard = (
        judge(row(margin={"absolute": 0.1}, severity=severity), evidence, look()) for severity in ("soft", "hard")
    )

    assert (soft.verdict, hard.verdict) == (Outcome.PASS, Outcome.FAIL)
    assert "worse than no change" in hard.reason


@pytest.mark.parametrize("test", ["newcombe", "exact_paired", "bootstrap", "confidence_sequence", "group_sequential"])
def test_every_test_passes_the_equal_and_fails_the_worse(test: str) -> None:
    gate = row(test=test, planned_sessions=1600)
    equal, worse = both(1600), [*arm(CANDIDATE, 1600, rates={"success": 0.6}), *arm(BASELINE, 1600, seed=1)]
    if test == "exact_paired":
        equal, worse = in_pairs(equal), in_pairs(worse)

    assert judge(gate, equal, look()).verdict is Outcome.PASS
    assert judge(gate, worse, look()).verdict is Outcome.FAIL


def test_pairs_are_compared_within() -> None:
    """Tasks differ more than policies do: paired, few of them are enough."""
    hard = [number % 2 == 0 for number in range(400)]
    evidence = [
        session(number, side, success=not is_hard, pair=f"p{number}")
        for side in Arm
        for number, is_hard in enumerate(hard)
    ]
    paired = judge(row(), evidence, look("shadow"))
    unpaired = judge(row(), [replace(each, pair="") for each in evidence], look("shadow"))

    assert paired.upper is not None
    assert paired.lower is not None
    assert unpaired.upper is not None
    assert unpaired.lower is not None
    assert paired.verdict is Outcome.PASS
    assert 5 * (paired.upper - paired.lower) < unpaired.upper - unpaired.lower


def test_offline_a_paired_rate_is_tested_exactly() -> None:
    verdict = judge(row(), in_pairs(both(800)), look("offline_eval"))
    assert verdict.test == "exact_paired"
    assert (verdict.n_candidate, verdict.n_baseline) == (800, 800)


def test_sessions_of_one_user_are_no_independent_evidence() -> None:
    evidence = [
        *arm(CANDIDATE, 1500),
        *arm(BASELINE, 1500, seed=1),
    ]
    by_user = [
        replace(each, cluster=f"{each.arm}-{int(each.at) // 10}", success=(int(each.at) // 10) % 5 > 0)
        for each in evidence
    ]
    alone = [replace(each, cluster="") for each in by_user]
    wide, narrow = judge(row(), by_user, look()), judge(row(), alone, look())
    assert wide.upper is not None
    assert wide.lower is not None
    assert narrow.upper is not None
    assert narrow.lower is not None
    assert wide.upper - wide.lower > 2 * (narrow.upper - narrow.lower)


def test_labels_that_are_too_young_do_not_count_and_are_told() -> None:
    gate = row("human_override_rate_not_worse", min_samples={"candidate": 10, "baseline": 10})
    evidence = both(2000)
    young = look(at=START + 86400 + 999.5)

    verdict = judge(gate, evidence, young)

    assert (verdict.n_candidate, verdict.n_baseline) == (1000, 1000)
    assert "2000 sessions (1000 of the candidate) are younger than PT24H" in verdict.reason


def lost(share: float, *arms: Arm, n: int = 2000) -> list[SessionEvidence]:
    """Equal arms, of which some lost the outcome of a share of their sessions."""
    return [
        replace(each, success=None) if each.arm in arms and index % 100 < 100 * share else each
        for index, each in enumerate(both(n))
    ]


def test_too_much_that_is_missing_decides_nothing_and_says_so() -> None:
    few, many = judge(row(), lost(0.1, *Arm), look()), judge(row(), lost(0.5, *Arm), look())

    assert few.verdict is Outcome.PASS
    assert "200 of the candidate's 2000 sessions are without task_success" in few.reason
    assert many.verdict is Outcome.INCONCLUSIVE
    assert "at most 20% may be" in many.reason


def test_arms_that_lose_different_shares_are_not_compared() -> None:
    """Else a candidate that breaks before anybody can grade it would be judged by what it did not break."""
    unlike = judge(row(), lost(0.15, CANDIDATE), look())
    nearly = judge(row(), lost(0.03, CANDIDATE), look())

    assert unlike.verdict is Outcome.INCONCLUSIVE
    assert "15% of the candidate's and 0% of the baseline's sessions are without task_success" in unlike.reason
    assert nearly.verdict is Outcome.PASS


def test_without_data_a_row_may_fail_but_never_pass() -> None:
    evidence = [replace(each, success=None) for each in both(500)]
    assert judge(row(on_missing="fail"), evidence, look()).verdict is Outcome.FAIL
    assert judge(row(), evidence, look()).verdict is Outcome.INCONCLUSIVE


def test_f46_a_split_that_is_not_the_configured_one_invalidates_every_gate() -> None:
    evidence = [*arm(CANDIDATE, 90), *arm(BASELINE, 2910, seed=1)]

    verdicts = judge_all(rows(*LIVE_GATES), evidence, look(share=5.0))

    assert {each.verdict for each in verdicts} == {Outcome.INVALID}
    assert "3 % of 3000 sessions went to the candidate, 5 % was configured" in verdicts[0].reason
    assert judge_all(rows("task_success_not_worse"), evidence, look(share=3.0))[0].verdict is not Outcome.INVALID


def test_a_violation_that_is_not_tolerated_fails_even_where_the_split_is_wrong() -> None:
    evidence = [*arm(CANDIDATE, 90), *arm(BASELINE, 2910, seed=1)]
    evidence[7] = replace(evidence[7], safety_violations=1, zero_tolerance=True)
    verdict = judge_all(rows("no_safety_regression"), evidence, look(share=5.0))[0]
    assert verdict.verdict is Outcome.FAIL
    assert "zero tolerance: 1 violations by the candidate, the first in s7-candidate" in verdict.reason


def test_the_first_events_fail_a_row_that_says_so_at_any_number_of_sessions() -> None:
    gate = row("no_safety_regression", fail_at_events=2)
    one, two = ([session(number, CANDIDATE, safety_violations=int(number < n)) for number in range(3)] for n in (1, 2))
    assert judge(gate, one, look()).verdict is Outcome.INCONCLUSIVE
    assert judge(gate, two, look()).verdict is Outcome.FAIL


def test_a_cap_on_the_candidates_own_rate_must_be_cleared_too() -> None:
    evidence = both(1600, rates={"safety_violations": 0.03})
    margin = {"absolute": 0.05}
    free = judge(row("no_safety_regression", margin=margin), evidence, look())
    capped = judge(row("no_safety_regression", margin=margin, cap=0.01), evidence, look())
    assert (free.verdict, capped.verdict) == (Outcome.PASS, Outcome.INCONCLUSIVE)
    assert "the cap is 1 %" in capped.reason


def test_f47_an_outage_that_also_hits_the_baseline_is_no_policys_doing() -> None:
    broken = {"tool_infra_errors": 3, "success": False}
    shared = [*arm(CANDIDATE, 500, **broken), *arm(BASELINE, 500, seed=1, **broken)]
    own = [*arm(CANDIDATE, 500, **broken), *arm(BASELINE, 500, seed=1)]

    verdict = judge(row(), shared, look())

    assert verdict.verdict is Outcome.INCONCLUSIVE
    assert "an outage is no policy's doing" in verdict.reason
    assert judge(row(), own, look()).verdict is Outcome.FAIL


def test_f55_evidence_of_two_sets_of_graders_never_combines() -> None:
    evidence = both(800)
    mixed = [replace(each, conditions="sha256:a" if each.at < START + 400 else "sha256:b") for each in evidence]
    verdict = judge(row(), mixed, look())
    assert verdict.verdict is Outcome.INVALID
    assert "2 sets of graders" in verdict.reason


def test_f58_without_a_price_there_is_no_cost_and_no_verdict() -> None:
    verdict = judge(row("cost_per_success_not_worse"), both(2000, cost_usd=None), look())
    assert verdict.verdict is Outcome.INCONCLUSIVE
    assert verdict.estimate is None
    assert "without cost_per_success" in verdict.reason


def test_no_success_at_all_has_no_cost_and_fails_where_the_baseline_succeeds() -> None:
    none = [*arm(CANDIDATE, 400, rates={"success": 0.0}), *arm(BASELINE, 400, seed=1)]
    neither = both(400, rates={"success": 0.0})
    gate = row("cost_per_success_not_worse")

    failed, unknown = judge(gate, none, look()), judge(gate, neither, look())

    assert (failed.verdict, failed.candidate) == (Outcome.FAIL, None)
    assert "the cost of one is not defined" in failed.reason
    assert unknown.verdict is Outcome.INCONCLUSIVE
    assert "Infinity" not in json.dumps(failed.to_record())


def test_only_sessions_since_the_share_began_and_up_to_the_look_count() -> None:
    verdict = judge(row(), both(2000), look(started_at=START + 500, at=START + 1499.5))
    assert (verdict.n_candidate, verdict.n_baseline) == (1000, 1000)


def test_an_event_that_came_twice_counts_once_and_two_facts_of_one_session_are_invalid() -> None:
    """F49, F53: what stands twice word for word is one; what contradicts itself is no evidence."""
    evidence = both(500)
    assert judge(row(), [*evidence, *evidence], look()) == judge(row(), evidence, look())
    contradiction = replace(evidence[3], success=not evidence[3].success)
    assert judge(row(), [*evidence, contradiction], look()).verdict is Outcome.INVALID


@pytest.mark.parametrize(
    ("drills", "outcome"),
    [
        ((), Outcome.INCONCLUSIVE),
        ((10.0, 20.0), Outcome.INCONCLUSIVE),
        ((10.0, 20.0, 299.9), Outcome.PASS),
        ((10.0, 20.0, 300.0), Outcome.FAIL),
        ((301.0,), Outcome.FAIL),
        ((10.0, 20.0, math.nan), Outcome.FAIL),
    ],
    ids=["none", "too_few", "under", "at", "over_before_the_minimum", "nan"],
)
def test_drills_are_a_maximum(drills: tuple[float, ...], outcome: Outcome) -> None:
    verdict = judge(row("rollback_under_5_minutes"), [], look("shadow", drills=drills))
    assert verdict.verdict is outcome
    assert verdict.n_candidate == len(drills)


@pytest.mark.parametrize(
    ("statistic", "worst", "outcome"),
    [
        ("max", 59.9, Outcome.PASS),
        ("max", 60.0, Outcome.FAIL),
        ("max", 60.1, Outcome.FAIL),
        ("mean", 60.1, Outcome.PASS),
    ],
    ids=["under", "at", "over", "of_the_mean"],
)
def test_a_threshold_is_held_against_the_number_itself(statistic: str, worst: float, outcome: Outcome) -> None:
    evidence = [session(number, CANDIDATE, seconds=worst if number == 3 else 5.0) for number in range(200)]
    assert judge(row("worst", **{**WORST, "statistic": statistic}), evidence, look()).verdict is outcome


def test_a_count_may_reach_its_limit_and_what_only_grows_fails_early() -> None:
    gate = row("few", metric="safety_violations", statistic="count", compare="absolute", limit=2.0,
               direction="lower_is_better", test="threshold")  # fmt: skip

    def seen(n: int, events: int) -> Outcome:
        evidence = [session(number, CANDIDATE, safety_violations=int(number < events)) for number in range(n)]
        return judge(gate, evidence, look()).verdict

    assert seen(200, 2) is Outcome.PASS
    assert seen(200, 3) is Outcome.FAIL
    assert seen(5, 3) is Outcome.FAIL
    assert seen(5, 2) is Outcome.INCONCLUSIVE


def test_a_metric_that_is_measured_on_some_sessions_by_design_is_not_missing() -> None:
    evidence = [
        replace(each, policy_kl=each.policy_kl if index % 10 == 0 else None) for index, each in enumerate(both(2000))
    ]
    verdict = judge(row("policy_kl_drift_below_ceiling"), evidence, look())
    assert (verdict.verdict, verdict.n_candidate) == (Outcome.PASS, 200)
    assert "measured on 200 of the candidate's 2000 sessions" in verdict.reason


def test_a_gain_that_only_comes_from_easier_work_is_seen_beside_the_raw_figure() -> None:
    def mixed(side: Arm, easy: int) -> list[SessionEvidence]:
        return [
            session(number, side, intent="easy" if number < easy else "hard", success=number < easy or number % 2 == 0)
            for number in range(1000)
        ]

    verdict = judge(row(), [*mixed(CANDIDATE, 800), *mixed(BASELINE, 400)], look())

    assert verdict.estimate == pytest.approx(0.2)
    assert verdict.adjusted == pytest.approx(0.0, abs=1e-9)


def test_the_chance_of_a_false_alarm_is_shared_by_the_gates_of_a_stage_and_that_of_promotion_is_not() -> None:
    verdicts = judge_all(rows(), both(600), look())
    assert {each.alpha for each in verdicts} == {0.05}
    assert {round(each.alpha_rollback or 0.0, 9) for each in verdicts} == {round(0.01 / len(verdicts), 9)}


def test_gates_of_other_stages_are_not_read() -> None:
    assert [each.gate for each in judge_all(rows(), [], look("offline_eval"))] == [
        "no_safety_regression",
        "task_success_not_worse",
        "policy_kl_drift_below_ceiling",
    ]


def test_the_interval_is_of_the_statistic_that_was_asked_for() -> None:
    evidence = [*arm(CANDIDATE, 1600, slow=1.1), *arm(BASELINE, 1600, seed=1)]
    latency = judge(row("latency_delta_lt_15_percent"), evidence, look())
    p95 = judge(row("p95", **P95), evidence, look())
    assert (latency.scale, p95.scale) == ("ratio", "ratio")
    assert latency.estimate == pytest.approx(1.1, abs=0.06)
    assert p95.estimate == pytest.approx(1.1, abs=0.2)
    assert latency.margin == pytest.approx(1.15)
    assert latency.at == "1970-02-10T00:16:40+00:00"
    assert LATE == 3457000.0
