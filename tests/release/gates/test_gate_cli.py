"""`agentrl gate` and `agentrl gates explain` as people and CI call them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import select
from typer.testing import CliRunner, Result

from agentrl.cli.main import app
from agentrl.config import load_config
from agentrl.evaluation.evaluation_files import read_evaluation
from agentrl.evaluation.suites import freeze_suite
from agentrl.release.gates.kept import read_verdicts
from agentrl.release.lifecycle.start import start_release
from agentrl.release.place import open_place
from agentrl.release.registry.blobs import BlobStore
from agentrl.release.registry.listing import unpack
from agentrl.release.store.tables import alerts, archived_suites, suite_results
from agentrl.types import Rollout
from tests.release.gates.policies import attacks, rollouts, run_of, seen, written

WORKFLOW = {"workflow": {"target": "demo", "baseline": "base"}}
NAMES = ["no_safety_regression", "task_success_not_worse"]
GATES: list[Any] = [{"name": NAMES[0], "margin": {"absolute": 0.05}}, NAMES[1]]


def call(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments])


def suite_of(folder: Path, before: list[Rollout], after: list[Rollout], **fields: Any) -> str:
    return ",".join(written(folder, name, found, **fields) for name, found in (("b", before), ("a", after)))


@pytest.fixture
def safe(tmp_path: Path) -> str:
    """Two policies that resist every attack."""
    return suite_of(tmp_path, attacks(100), attacks(100))


def run(folder: Path, after: float, gates: list[Any] = GATES, **options: Any) -> Path:
    return run_of(folder, rollouts(0.5, 120), rollouts(after, 120, step=3), release={"gates": gates}, **options)


def test_exit_codes_are_those_of_ci(tmp_path: Path, safe: str) -> None:
    good, bad = run(tmp_path, 0.9), run(tmp_path / "bad", 0.2)

    passed, failed, unknown = (
        call("gate", good, "--suite", safe),
        call("gate", bad, "--suite", safe),
        call("gate", good),
    )

    assert (passed.exit_code, failed.exit_code, unknown.exit_code) == (0, 3, 4)
    assert passed.stdout.endswith("2 pass: pass\n")
    assert failed.stdout.endswith("1 fail, 1 pass: fail\n")
    assert unknown.stdout.endswith("1 inconclusive, 1 pass: inconclusive\n")
    assert call("gate", tmp_path).exit_code == 2


def test_the_table_fits_a_terminal_and_tells_what_failed(tmp_path: Path, safe: str) -> None:
    shown = call("gate", run(tmp_path, 0.2), "--suite", safe).stdout
    assert max(map(len, shown.splitlines()[1:])) <= 120
    assert "capability suite validation (sha256:" in shown
    assert "24 of 120 cases passed, 96 failed" in shown
    assert "worse than the margin of -5 pt" in shown


def test_json_tells_everything(tmp_path: Path, safe: str) -> None:
    found = json.loads(call("gate", run(tmp_path, 0.9), "--suite", safe, "--json").stdout)
    assert found["outcome"] == "pass"
    assert [each["gate"] for each in found["verdicts"]] == ["reward_hacking", *NAMES]
    assert found["verdicts"][2]["data_digest"].startswith("sha256:")
    assert [each["kind"] for each in found["suites"]] == ["capability", "adversarial"]


def test_t20_a_hacked_reward_is_an_alarm_and_fails(tmp_path: Path, safe: str) -> None:
    hacked = run_of(
        tmp_path,
        seen(rollouts(0.5, 120), 0.9),
        seen(rollouts(0.9, 120, step=3), 0.2),
        release={"gates": GATES},
        holdout=True,
    )
    found = call("gate", hacked, "--suite", safe)
    assert found.exit_code == 3
    assert "ALARM: reward hacking: the reward changed by +0.400" in found.stdout


def test_evaluation_files_are_judged_without_a_run(tmp_path: Path) -> None:
    (tmp_path / "gates.yaml").write_text(yaml.safe_dump({**WORKFLOW, "release": {"gates": ["task_success_not_worse"]}}))
    before, after = suite_of(tmp_path, rollouts(0.5, 120), rollouts(0.9, 120)).split(",")

    found = call("gate", "--baseline", before, "--candidate", after, "--config", tmp_path / "gates.yaml")

    assert found.exit_code == 0, found.output
    assert call("gate", "--baseline", before, "--candidate", after).exit_code == 2


def test_a_decision_is_kept_with_its_suites_by_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    release = {"gates": GATES, "folder": "kept"}
    upstreams = {name: {"url": f"http://127.0.0.1:9/{name}", "model": name} for name in ("stable", "tuned")}
    demo = run_of(
        tmp_path, seen(rollouts(0.5, 120), 0.9), seen(rollouts(0.9, 120, step=3), 0.2), release=release, holdout=True
    )
    config = yaml.safe_load((demo / "config.yaml").read_text())
    config["gateway"] = {"upstreams": upstreams, "general": "stable"}
    Path("release.yaml").write_text(yaml.safe_dump(config))
    tasks = [each.task for each in attacks(100)]
    frozen = freeze_suite(
        tmp_path / "attacks.json", tasks, name="attacks", split="none", source="x", kind="adversarial"
    )
    pair = suite_of(tmp_path, attacks(100), attacks(100, violated=2), selection={"suite": frozen.identity()})
    loaded = load_config(Path("release.yaml"))
    place = open_place(loaded)
    made = start_release(place, loaded, "tuned", actor="ada", now=1_800_000_000.0)

    first = call("gate", demo, "--config", "release.yaml", "--suite", pair, "--release", made.id)
    again = call(
        "gate", demo, "--config", "release.yaml", "--suite", pair, "--release", made.id, "--suite-file", "attacks.json"
    )

    assert (first.exit_code, again.exit_code) == (3, 3), first.output
    assert "suite attacks: results are kept, its file is not; give --suite-file" in first.stdout
    assert f"kept with release {made.id}, look 2" in again.stdout
    verdicts = read_verdicts(place.store, made.id, "offline_eval")
    assert [each.look_no for each in verdicts] == [1, 1, 1, 2, 2, 2]
    with place.store.read() as connection:
        rows = connection.execute(select(suite_results).order_by(suite_results.c.at, suite_results.c.kind)).all()
        archived = connection.execute(select(archived_suites.c.digest)).scalars().all()
        alarms = connection.execute(select(alerts.c.kind)).scalars().all()
    assert [row.kind for row in rows] == ["adversarial", "capability"] * 2
    assert rows[0].record["failed"] == 2
    assert archived == [frozen.digest]
    assert alarms == ["reward_hacking", "reward_hacking"]
    (tmp_path / "again").mkdir()
    unpack(BlobStore(place), rows[0].record["files"]["candidate"], tmp_path / "again")
    assert len(read_evaluation(tmp_path / "again" / "evaluation.json").rollouts) == 100
    place.store.close()


def test_explain_prints_every_row_and_json(tmp_path: Path) -> None:
    path = tmp_path / "release.yaml"
    path.write_text(yaml.safe_dump({**WORKFLOW, "release": {"gates": GATES, "sessions_per_week": 2000}}))
    shown, found = call("gates", "explain", path), json.loads(call("gates", "explain", path, "--json").stdout)
    assert shown.stdout.startswith("2 gates; canary 5 %; 2,000 sessions a week\n")
    assert [each["gate"]["name"] for each in found["gates"]] == NAMES
    assert found["gates"][1]["stages"][2]["needed"]["candidate"] > 400
    path.write_text(yaml.safe_dump(WORKFLOW))
    assert call("gates", "explain", path).exit_code == 2


def test_a_gate_loads_no_torch() -> None:
    program = (
        "import sys, agentrl.cli.gate, agentrl.cli.gates\n"
        "assert 'numpy' not in sys.modules\n"
        "import agentrl.release.gates.offline_run, agentrl.release.gates.archive, agentrl.release.gates.explain\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
