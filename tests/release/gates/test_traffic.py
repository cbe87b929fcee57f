from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from agentrl.release.gates.readings import readings, share_of_alpha
from agentrl.release.gates.traffic import ALPHA, log_odds, split_problem
from agentrl.release.records import Arm
from agentrl.release.statistics.bounds import Bounds
from agentrl.release.statistics.proportions import newcombe
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


def test_a_fixed_test_read_at_every_doubling_errs_no_more_often_than_it_may() -> None:
    """2,000 canaries of 6,400 sessions an arm: exactly at the margin, and equal under a hard gate."""
    rng, canaries, sizes = np.random.default_rng(5), 2000, [100 << doubling for doubling in range(7)]

    def events(rate: float) -> Any:
        """[canaries, readings] cumulative."""
        return rng.binomial(np.diff([0, *sizes]), rate, size=(canaries, len(sizes))).cumsum(1)

    def share_that_err(candidate: float, alpha: float, is_error: Callable[[Bounds], bool]) -> float:
        arms, found = (events(candidate), events(0.05)), 0
        for canary in range(canaries):
            for reading, n in enumerate(sizes, 1):
                part = alpha * share_of_alpha(reading)
                sides = {"alpha_lower": part, "alpha_upper": part}
                if is_error(
                    newcombe(int(arms[0][canary, reading - 1]), n, int(arms[1][canary, reading - 1]), n, **sides)
                ):
                    found += 1
                    break
        return found / canaries

    assert share_that_err(0.07, 0.05, lambda bounds: bounds.is_below(0.02)) <= 0.05
    assert share_that_err(0.05, 0.01, lambda bounds: bounds.is_above(0.0)) <= 0.01
