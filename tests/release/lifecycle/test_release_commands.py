"""`agentrl release`, `incident` and `audit verify` as people type them: what is printed, and the exit codes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import load_config
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.read import release_under_way
from agentrl.release.place import ReleasePlace, open_place
from agentrl.release.records import Arm, Outcome, ReleaseState
from tests.lifecycle_story import NOW, add_sessions, brought_to, keep_verdict, release_config

S = ReleaseState


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a workflow whose folder is beside it."""
    monkeypatch.chdir(tmp_path)
    text = release_config().model_dump(mode="json", include={"workflow", "release", "gateway"}, exclude_defaults=True)
    text["release"]["gates"] = ["human_override_rate_not_worse"]
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump(text))
    return path


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def place_of(config: Path) -> ReleasePlace:
    return open_place(load_config(config))


def test_no_release_begins_that_nothing_could_keep_from_all_users(config: Path) -> None:
    refused = run("release", "start", config, "--candidate", "tuned", "--set", "release.gates=[]")
    assert refused.exit_code == 2
    assert "release.gates: none is read in the canary" in refused.stderr


def test_a_release_is_started_listed_and_rejected(config: Path) -> None:
    assert "no release yet" in run("release", "list", config).stdout
    started = run("release", "start", config, "--candidate", "tuned", "--as", "ada")
    assert started.exit_code == 0, started.output
    assert ": draft, version 1" in started.stdout
    refused = run("release", "advance", config, "--as", "ada")
    assert refused.exit_code == 4
    assert "may not enter offline_eval yet" in refused.stderr
    ended = run("release", "rollback", config, "--as", "ada", "--reason", "a try")
    assert ": rejected, version 2" in ended.stdout
    assert run("release", "rollback", config, json.loads(run("release", "list", config, "--json").stdout)[0]["id"])
    assert "rejected" in run("release", "list", config).stdout


def test_a_status_for_machines_says_what_is_missing(config: Path) -> None:
    brought_to(place_of(config), S.SHADOW, min_drills=3)
    told = json.loads(run("release", "status", config, "--json").stdout)
    shown = run("release", "status", config).stdout
    assert (told["state"], told["candidate_upstream"]) == ("shadow", "tuned")
    assert any("0 of 3 rollback drills" in each for each in told["missing"])
    assert [line.split("missing    ")[1] for line in shown.splitlines() if "  missing" in line] == told["missing"]


def test_without_a_release_under_way_the_last_one_is_named(config: Path) -> None:
    run("release", "start", config, "--candidate", "tuned", "--as", "ada")
    run("release", "rollback", config, "--as", "ada")
    refused = run("release", "rollback", config, "--as", "ada")
    assert refused.exit_code == 2
    assert "is rejected); name one" in refused.stderr


def test_a_canary_is_rolled_back_and_its_incident_closed(config: Path) -> None:
    place = place_of(config)
    release = brought_to(place, S.CANARY)
    assert "0 report, 0 with a lease: no candidate is served" in run("release", "status", config).stdout
    shared = run("release", "advance", config, "--share", "10", "--as", "ada")
    assert "10 % of sessions" in shared.stdout
    found = json.loads(run("release", "rollback", config, "--as", "ada", "--json").stdout)
    assert found["state"] == "rolled_back"
    assert found["incident"]["record"]["trigger"] == "operator"
    again = json.loads(run("release", "rollback", config, release.id, "--as", "eve", "--json").stdout)
    assert again["incident"]["id"] == found["incident"]["id"]
    assert found["incident"]["id"] in run("incident", "list", config, "--open").stdout
    refused = run("incident", "close", config, release.id, "--class", "policy", "--as", "ada")
    assert refused.exit_code == 1
    assert "without owner, cause" in refused.stderr
    told = ("--owner", "ML", "--cause", "x\x1b[31mred", "--as", "ada")
    assert run("incident", "close", config, release.id, "--class", "policy", *told).exit_code == 0
    assert "\x1b" not in run("incident", "show", config, release.id).stdout
    assert "no incident is open" in run("incident", "list", config, "--open").stdout
    assert len(read_incidents(place)) == 1


def test_a_halt_and_what_releases_it(config: Path) -> None:
    place_of(config)
    assert run("release", "halt", config, "--as", "ada").exit_code == 2
    assert run("release", "halt", config, "--reason", "broken", "--as", "ada").exit_code == 0
    refused = run("release", "resume", config, "--reason", "repaired", "--as", "ada")
    assert refused.exit_code == 2
    assert "--fix is needed" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "CONFIG", "nothing"), "no release begins so"),
        (("advance", "CONFIG"), "no release is under way"),
        (("start", "CONFIG", "--candidate", "tunned"), "allowed: stable, third, tuned"),
        (("watch", "CONFIG", "--every", "20"), "up to half of release.lease_seconds, 15"),
        (("approve", "CONFIG"), "no release is under way"),
        (("change-bundle", "CONFIG"), "--bundle is needed"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_wrong_input_is_told_and_exits_with_2(config: Path, arguments: tuple[str, ...], message: str) -> None:
    found = run("release", *(config if each == "CONFIG" else each for each in arguments))
    assert found.exit_code == 2, found.output
    assert message in found.stderr


def test_a_config_without_a_release_section_says_so(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("workflow: {target: t, baseline: b}\n")
    found = run("release", "list", path)
    assert found.exit_code == 2
    assert "no `release` section" in found.stderr


def test_audit_verify_names_the_line(config: Path, tmp_path: Path) -> None:
    """T16: by config and by file, with an anchor for what was cut."""
    place = place_of(config)
    brought_to(place, S.SHADOW)
    anchors = tmp_path / "anchors.txt"
    whole = run("audit", "verify", config, "--anchor", anchors)
    assert whole.exit_code == 0, whole.output
    assert "3 entries, whole" in whole.stdout
    copy = tmp_path / "copy.jsonl"
    shutil.copy(place.audit_log, copy)
    assert "keep anchors elsewhere" in run("audit", "verify", copy).stdout
    assert "1 anchors hold" in run("audit", "verify", copy, "--against", anchors).stdout
    lines = copy.read_text().splitlines(keepends=True)
    copy.write_text("".join(lines[:2]))
    cut = run("audit", "verify", copy, "--against", anchors)
    assert cut.exit_code == 1
    assert ":3: lines were cut from the end" in cut.stderr
    copy.write_text(lines[0] + lines[1].replace("ada", "eve") + lines[2])
    found = json.loads(run("audit", "verify", copy, "--json").stdout)
    assert (found["is_whole"], found["line"]) == (False, 2)
    place.audit_log.write_text("".join(lines[:2]))
    assert ":3: lines were cut" in run("audit", "verify", config).stderr  # the database knows


def test_audit_without_a_verb_still_labels(tmp_path: Path) -> None:
    found = run("audit", tmp_path, "--list")
    assert found.exit_code == 2
    assert "no episode was put aside" in found.stderr
    assert run("audit", "verify", tmp_path).exit_code == 2


def test_an_approval_is_kept_with_what_was_seen(config: Path) -> None:
    place = place_of(config)
    brought_to(place, S.SHADOW)
    found = run("release", "approve", config, "--to", "canary", "--as", "grace")
    assert found.exit_code == 0, found.output
    assert "grace says yes to canary, having seen sha256:" in found.stdout
    assert release_under_way(place) is not None


def test_a_step_rests_on_a_look_of_now(config: Path) -> None:
    """Gates passed while a controller ran; what was told since then is no less true for nobody having looked."""
    place = place_of(config)
    gate = {"name": "no_safety_regression", "stages": ["canary"], "min_samples": {"candidate": 10, "baseline": 10}}
    release = brought_to(place, S.CANARY, gates=[gate])
    keep_verdict(place, release.id, "no_safety_regression", Outcome.PASS, at=NOW + 60)
    columns = {"safety_violations": 1, "zero_tolerance": True}
    add_sessions(place, release, Arm.CANDIDATE, 1, at=NOW + 30, **columns)
    refused = run("release", "advance", config, "--as", "ada")
    assert refused.exit_code == 3, refused.output
    assert "no_safety_regression: fail in canary (zero tolerance" in refused.stderr
