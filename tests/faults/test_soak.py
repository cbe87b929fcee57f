"""Thousands of rollouts of which every call may meet one of 22 faults."""

from __future__ import annotations

import sys

import pytest

from agentrl.types import Outcome
from benchmarks import soak
from tests.long_runs import IS_LONG_RUN

ROLLOUTS = 10_000 if IS_LONG_RUN else 2_000


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts files and memory in /proc")
def test_every_rollout_is_accounted_for_and_nothing_is_left_behind() -> None:
    found = soak.measure(ROLLOUTS)
    assert found["problems"] == {}
    assert found["accounted_for"] == ROLLOUTS
    assert found["outcomes"][Outcome.INFRA_FAILED] > 0  # the faults are real
    assert found["outcomes"][Outcome.COMPLETED] > 0.8 * ROLLOUTS  # and most of them are survived
    assert len(found["faults"]) == 22
    stats = found["endpoints"]["tool"]
    assert stats["calls"] == ROLLOUTS
    assert stats["retries"] > 0.1 * ROLLOUTS
    assert min(stats["late_replies"], stats["stray_replies"]) > 0
