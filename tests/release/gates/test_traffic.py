from __future__ import annotations

import math
import random
from dataclasses import replace
from fractions import Fraction

import pytest

from agentrl.release.gates.readings import readings, share_of_alpha
from agentrl.release.gates.traffic import ALPHA, log_odds, split_problem
from agentrl.release.records import Arm
from tests.release.gates.sessions import arm, look


@pytest.mark.parametrize(
    ("candidate", "baseline", "share", "is_wrong"),
    [
        (60, 1940, 5.0, True),
        (100, 1900, 5.0, False),
        (5, 95, 5.0, False),
        (0, 100, 5.0, False),
        (0, 400, 5.0, True),
        (400, 0, 50.0, True),
        (0, 0, 5.0, False),
    ],
    ids=["f46_3_percent", "as_configured", "few", "none_of_few", "none_of_many", "all", "nobody"],
)
def test_a_wrong_split_is_found_and_a_right_one_is_not(
    candidate: int, baseline: int, share: float, is_wrong: bool
) -> None:
    assert bool(split_problem([], look(share=share, assigned=(candidate, baseline)))) is is_wrong


def test_peeking_at_a_right_split_finds_nothing_more_often_than_the_error_that_is_allowed() -> None:
    """400 canaries of 4,000 sessions, looked at every 20: at 0.001, two alarms would already be a surprise."""
    rng, alarms = random.Random(7), 0
    for _ in range(400):
        candidate, found = 0, False
        for n in range(20, 4001, 20):
            candidate += sum(rng.random() < 0.05 for _ in range(20))
            found = found or log_odds(candidate, n - candidate, share=0.05) >= -math.log(ALPHA)
        alarms += found
    assert alarms <= 2


def test_open_sessions_count_where_they_are_told() -> None:
    evidence = [*arm(Arm.CANDIDATE, 60), *arm(Arm.BASELINE, 1940)]
    here = look(share=5.0)
    assert split_problem(evidence, here)
    assert not split_problem(evidence, replace(here, assigned=(105, 1945)))


def test_only_a_share_of_users_is_checked() -> None:
    evidence = [*arm(Arm.CANDIDATE, 60), *arm(Arm.BASELINE, 1940)]
    assert not split_problem(evidence, look("shadow", share=5.0))
    assert not split_problem(evidence, look("offline_eval", share=5.0))
    assert not split_problem(evidence, look(share=None))


def test_all_readings_together_spend_alpha_and_no_more() -> None:
    spent = sum(Fraction(share_of_alpha(reading)).limit_denominator(10**6) for reading in range(1, 200))
    assert Fraction(99, 100) < spent < 1


@pytest.mark.parametrize(
    ("n", "found"),
    [(0, (0, 0)), (99, (0, 0)), (100, (1, 100)), (199, (1, 100)), (200, (2, 200)), (1000, (4, 800))],
    ids=str,
)
def test_a_fixed_test_is_read_when_the_sessions_have_doubled(n: int, found: tuple[int, int]) -> None:
    assert readings(n, 100) == found
