"""The benchmark of gates keeps the bars that gates are held to, through the functions that gates use."""

from __future__ import annotations

import pytest

from agentrl.release.gates import judge
from agentrl.release.records import Arm, Outcome, SessionEvidence
from agentrl.release.statistics.exact_sequences import exact_sequence
from agentrl.release.statistics.sequences import MIN_CLUSTERS
from agentrl.release.statistics.sums import ArmSums
from benchmarks.gate_worlds import rates, users
from benchmarks.gates import BOTH_FIVE, DEFAULT, EVERY_50, NAIVE, Row, Rule, counts, looked, planned_sizes, row
from tests.release.gates import sessions as gates


def success(rate: float) -> dict[str, Row]:
    canaries = rates(2000, EVERY_50, rate, 0.80, seed=5)
    return {rule.name: row("", "", rule, canaries, margin=0.05) for rule in (NAIVE, BOTH_FIVE, DEFAULT)}


def test_equal_candidates_are_rarely_rolled_back_under_peeking() -> None:
    found = success(0.80)
    assert found[DEFAULT.name].rolled_back <= 1
    assert found[BOTH_FIVE.name].rolled_back <= 2
    assert found[NAIVE.name].rolled_back > 9


def test_candidates_at_the_margin_are_rarely_promoted_under_peeking() -> None:
    found = success(0.75)
    assert found[DEFAULT.name].promoted <= 5
    assert found[BOTH_FIVE.name].promoted <= 5
    assert found[NAIVE.name].promoted > 14


def test_half_the_success_is_found_within_a_hundred_sessions() -> None:
    canaries = rates(500, range(30, 4001, 10), 0.40, 0.80, seed=6)
    found = row("", "", DEFAULT, canaries, margin=0.05)
    assert found.rolled_back == 100
    assert found.median_n is not None
    assert found.median_n <= 50


def test_sessions_of_one_user_are_not_taken_for_independent() -> None:
    by_user, by_session = users(1000, EVERY_50, 0.80, 0.80, sessions=10, icc=0.3, seed=7)
    assert row("", "", BOTH_FIVE, by_session, margin=0.05).rolled_back > 10
    assert row("", "", BOTH_FIVE, by_user, margin=0.05).rolled_back <= 2


@pytest.mark.parametrize(("own", "is_equal"), [(0.001, True), (0.011, False)], ids=["equal", "at the margin"])
def test_rare_violations_are_judged_exactly_at_every_look(own: float, is_equal: bool) -> None:
    promoted, rolled_back = counts(rates(100, EVERY_50[:40], own, 0.001, seed=8), exact_sequence)
    assert (rolled_back < promoted).mean() < 0.02 if is_equal else (promoted < rolled_back).mean() <= 0.05


@pytest.mark.parametrize("severity", ["soft", "hard"])
def test_the_judge_decides_what_the_benchmark_decides(severity: str) -> None:
    looks = (100, 250)
    outcomes = set()
    for seed, rate in enumerate((0.60, 0.80, 0.95)):
        canaries = rates(1, looks, rate, 0.80, seed=seed)
        rule = Rule("default", is_soft=severity == "soft", min_clusters=MIN_CLUSTERS)
        is_safe, is_harm = looked(canaries, rule, margin=0.05)
        gate = gates.row(severity=severity, stages=("canary",))
        evidence: list[SessionEvidence] = []
        for index in range(len(looks)):
            evidence += more_sessions(canaries.candidate, index, Arm.CANDIDATE)
            evidence += more_sessions(canaries.baseline, index, Arm.BASELINE)
            verdict = judge(gate, evidence, gates.look(share=5.0)).verdict
            wanted = Outcome.FAIL if is_harm[0, index] else Outcome.PASS if is_safe[0, index] else Outcome.INCONCLUSIVE
            assert verdict is wanted, (rate, looks[index])
            outcomes.add(verdict)
    assert outcomes == {Outcome.PASS, Outcome.FAIL, Outcome.INCONCLUSIVE}


def more_sessions(arm: ArmSums, look: int, which: Arm) -> list[SessionEvidence]:
    """Those that came since the look before, with as many successes as the sums say."""
    n, good = (int(sums[look] - (sums[look - 1] if look else 0)) for sums in (arm.units, arm.x[0]))
    start = int(arm.units[look - 1]) if look else 0
    return [gates.session(start + index, which, success=index < good) for index in range(n)]


def test_plans_are_printed() -> None:
    assert [plan.get("n") for plan in planned_sizes()][:3] == [417, 2604, 10413]
