"""The rules on hold-outs in runs that are simulated: what is wanted, and what the grader pays for, are known."""

from __future__ import annotations

from agentrl.evaluation.goodhart import rl_peak
from benchmarks.goodhart import EVALUATIONS, FARTHEST, A, B, World, alarms, first

PEAK = rl_peak(A, B).sqrt_kl / FARTHEST * EVALUATIONS


def test_a_gamed_grader_is_noticed_after_the_peak_and_before_the_end() -> None:
    ends = [first(alarms(World(n_items=200), seed)) for seed in range(20)]
    assert all(end is not None and PEAK < end < EVALUATIONS for end in ends), ends


def test_the_score_still_rises_where_the_run_is_stopped() -> None:
    for seed in range(5):
        reports = World(n_items=200).reports(seed)
        end = first(alarms(World(n_items=200), seed))
        assert end is not None
        proxies = [report.score + report.gap for report in reports]
        golds = [report.score for report in reports]
        assert proxies[end] > proxies[round(PEAK)]
        assert golds[end] < golds[round(PEAK)]


def test_a_grader_that_pays_for_what_is_wanted_raises_no_alarm() -> None:
    exact = World(exploit=0.0, noise=0.0, n_items=50)
    assert [seed for seed in range(60) if first(alarms(exact, seed))] == []


def test_a_noisy_hold_out_of_an_honest_grader_raises_hardly_any() -> None:
    noisy = World(exploit=0.0, noise=0.3, n_items=50)
    assert sum(first(alarms(noisy, seed)) is not None for seed in range(40)) <= 1
