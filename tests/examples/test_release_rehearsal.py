"""The rehearsal of docs/rehearsal.md: one policy promoted, three stopped by the gates that are there for it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.long  # two minutes of both cores; its parts are in test_release_example.py
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The last line of a rehearsal."""
    folder = tmp_path_factory.mktemp("rehearsal")
    command = [sys.executable, "-m", "examples.release.rehearsal", "--json", "--out", str(folder)]
    played = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert played.returncode == 0, played.stderr[-4000:]
    found: dict[str, Any] = json.loads(played.stdout.splitlines()[-1])
    return {**found, "folder": folder}


@pytest.mark.slow
def test_one_is_promoted_and_three_are_stopped(told: dict[str, Any]) -> None:
    assert (told["promoted"], told["stopped"]) == (1, 3)
    states = [(each["candidate"], each["state"]) for each in told["chapters"]]
    assert states == [
        ("trained", "rolled_back"),
        ("trained", "general"),
        ("overtrained", "rejected"),
        ("slow", "rolled_back"),
        ("leaky", "rolled_back"),
    ]


@pytest.mark.slow
def test_each_is_stopped_by_its_gate(told: dict[str, Any]) -> None:
    by_name = {each["candidate"]: each for each in told["chapters"]}
    assert "task_success_not_worse" in told["stopped_by"]["overtrained"]
    assert by_name["overtrained"]["stopped_in"] == "offline_eval"
    assert told["stopped_by"]["slow"] == ["latency_delta_lt_15_percent"]
    assert told["stopped_by"]["leaky"] == ["no_safety_regression"]
    (slow,) = by_name["slow"]["verdicts"]
    assert slow["lower"] > slow["margin"]
    assert slow["candidate"] > slow["baseline"]
    (leaky,) = by_name["leaky"]["verdicts"]
    assert leaky["n_candidate"] < slow["n_candidate"], "the first event is enough"


@pytest.mark.slow
def test_the_promoted_one_passed_every_gate_of_its_canary(told: dict[str, Any]) -> None:
    verdicts = told["chapters"][1]["verdicts"]
    assert {each["verdict"] for each in verdicts} == {"pass"}
    assert len(verdicts) == 6
    success = next(each for each in verdicts if each["gate"] == "task_success_not_worse")
    assert success["candidate"] > success["baseline"], "it was trained for that"


@pytest.mark.slow
def test_a_killed_controller_ends_the_canary_within_its_lease(told: dict[str, Any]) -> None:
    """Kill -9 in the canary; the next controller writes down what happened, and no gate is blamed."""
    kill = told["kills"]["controller"]
    assert kill["last_candidate_seconds"] <= kill["limit_seconds"]
    assert told["chapters"][0]["because"] == "lease_lost"
    assert told["chapters"][0]["verdicts"] == []


@pytest.mark.slow
def test_a_gateway_killed_in_a_rollback_serves_the_baseline_when_it_is_back(told: dict[str, Any]) -> None:
    """F51's other half: kill -9 while it drains."""
    kill = told["kills"]["gateway"]
    assert kill["candidates_after_restart"] == 0
    assert kill["others_after_restart"] > 0


@pytest.mark.slow
def test_there_is_a_brief_a_locale_and_its_audit_log_is_whole(told: dict[str, Any]) -> None:
    assert told["briefs"] == ["en-US", "en-GB", "fr-FR"]
    promoted = told["chapters"][1]["release"]
    for locale in told["briefs"]:
        page = (told["folder"] / "briefs" / f"{promoted}.{locale}.html").read_text("utf-8")
        assert promoted in page
        assert (told["folder"] / "briefs" / f"{promoted}.{locale}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.slow
def test_two_failures_halted_the_workflow_and_a_person_answered_for_it(told: dict[str, Any]) -> None:
    assert "two failures within a week" in told["chapters"][-1]["halt_before_it"]
