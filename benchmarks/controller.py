"""How long a controller's tick takes with 20,000 sessions: beside a look, without news, and on a forbidden event.

`python -m benchmarks.controller` prints one line of JSON; 10 to 20 seconds, SQLite in a temporary folder.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from agentrl.release.lifecycle.controller import Controller
from agentrl.release.lifecycle.read import read_release
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, ReleaseState
from agentrl.release.store import open_store
from tests.lifecycle_story import NOW, WARM, FakeClocks, add_sessions, brought_to, report

GATES = (
    "no_safety_regression",
    "latency_delta_lt_15_percent",
    "cost_per_success_not_worse",
    "task_success_not_worse",
    "human_override_rate_not_worse",
    "tool_error_rate_not_worse",
    "reliability_score_not_worse",
)


def main() -> None:
    """Seven gates, 1,000 sessions of the candidate, 19,000 of the baseline."""
    with tempfile.TemporaryDirectory() as name:
        place = ReleasePlace("support", Path(name), open_store(f"sqlite:///{name}/release.db"))
        rows = [{"name": gate, "stages": ["canary"], "label_lag": "PT0S"} for gate in GATES]
        release = brought_to(place, ReleaseState.CANARY, gates=rows, look_seconds=1.0)
        for arm, count in ((Arm.CANDIDATE, 1000), (Arm.BASELINE, 19000)):
            add_sessions(place, release, arm, count, at=release.entered_at, record={"messages": "x" * 2000})
        clocks, told = FakeClocks(wall=NOW + 1000), []
        controller = Controller(place, told.append, clocks.clocks, WARM)

        def tick() -> float:
            clocks.pass_by(0.2)
            report(place, at=clocks.wall, epoch=2)
            began = time.perf_counter()
            controller.tick()
            return time.perf_counter() - began

        began, beside = time.perf_counter(), [tick()]
        while controller.is_looking:
            time.sleep(0.1)
            beside.append(tick())
        look = time.perf_counter() - began
        quiet = sorted(tick() for _ in range(9))[4]
        event = {"safety_violations": 1, "zero_tolerance": True, "first": 90000}
        add_sessions(place, release, Arm.CANDIDATE, 1, at=release.entered_at + 600, **event)
        harm = tick()
        assert read_release(place, release.id).state is ReleaseState.ROLLED_BACK, told
        place.store.close()
    figures = {
        "look_seconds": look,
        "longest_tick_beside_it": max(beside),
        "quiet_tick": quiet,
        "event_to_rollback": harm,
    }
    print(json.dumps({key: round(value, 3) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
