"""Ten thousand rollouts of which every call may meet one of 22 faults."""

from __future__ import annotations

import sys

import pytest

from agentrl.types import Outcome
from benchmarks import soak


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts files and memory in /proc")
def test_every_rollout_is_accounted_for_and_nothing_is_left_behind() -> None:
    found = soak.measure(10_000)
    assert found["problems"] == {}
    assert found["accounted_for"] == 10_000
    assert found["outcomes"][Outcome.INFRA_FAILED] > 0  # the faults are real
    assert found["outcomes"][Outcome.COMPLETED] > 8_000  # and most of them are survived
    assert len(found["faults"]) == 22
    stats = found["endpoints"]["tool"]
    assert stats["calls"] == 10_000
    assert stats["retries"] > 1_000
    assert min(stats["late_replies"], stats["stray_replies"]) > 0
