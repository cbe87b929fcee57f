"""Rollbacks with real processes: gateways, a controller, a candidate that hangs, and kills."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from agentrl.cli.main import app
from agentrl.config import RunConfig, load_config
from agentrl.errors import ReleaseError
from agentrl.release.drill import drill
from agentrl.release.drill.drill import DrillRoom, Plan
from agentrl.release.drill.processes import Program
from agentrl.release.drill.record import Kind
from agentrl.release.drill.stage import GATE, STORE_VARIABLE, begin_canary, staged
from agentrl.release.drill.users import Ending
from agentrl.release.lifecycle.start import start_release
from agentrl.release.place import open_place
from agentrl.release.routing import read_routing
from agentrl.release.store import open_store, tables
from tests.long_runs import IS_LONG_RUN

SEVERAL_GATEWAYS = "test_streams_that_hang_are_cut_and_users_are_served_by_the_baseline"
LIMITS = {"lease_seconds": 2.0, "drain_seconds": 1.0, "poll_seconds": 0.1}
CONFIG = """
workflow: {{target: shop, baseline: examples/finqa/baseline}}
release:
  folder: {folder}
  store: {store}
  gates: [no_safety_regression]
gateway:
  general: baseline
  upstreams:
    baseline: {{url: "http://127.0.0.1:9/v1", model: baseline}}
    candidate: {{url: "http://127.0.0.1:9/v1", model: candidate}}
"""


@pytest.fixture
def config_file(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Path:
    """Of a workflow whose tables are in `store_url`; drills take long, and one on PostgreSQL has several gateways."""
    if not (IS_LONG_RUN or store_url.startswith("sqlite") or request.node.originalname == SEVERAL_GATEWAYS):
        pytest.skip("long, see `make test-long`")
    monkeypatch.setenv("AGENTRL_TEST_STORE", store_url)
    file = tmp_path / "shop.yaml"
    file.write_text(CONFIG.format(folder=tmp_path / "releases", store="${AGENTRL_TEST_STORE}"), "utf-8")
    return file


@pytest.fixture
def config(config_file: Path) -> RunConfig:
    return load_config(config_file)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.slow
def test_streams_that_hang_are_cut_and_users_are_served_by_the_baseline(config: RunConfig) -> None:
    """F50: two gateways on one database; detection, routing, rollback and recovery are told apart."""
    with DrillRoom(config, Plan(streams=20, replicas=2, limits=LIMITS)) as room:
        made = room.run("r-1")
    assert made.in_flight >= 20
    assert made.streams.get("done", 0) == 0
    assert made.streams["cut"] >= made.in_flight
    assert made.others["done"] > 0
    assert set(made.others) <= {"done", "open"}, "nobody but the candidate's users noticed"
    assert made.t_breach is not None
    assert made.t_drained is not None
    assert made.t_breach.steady < made.t_decision.steady <= made.t_route_zero.steady <= made.t_drained.steady
    assert made.rollback_seconds is not None
    assert made.rollback_seconds >= LIMITS["drain_seconds"], "answers under way are given their time"
    assert made.is_counted
    assert made.t_recovered is not None


@pytest.mark.slow
def test_without_a_controller_the_share_ends_with_its_lease(config: RunConfig) -> None:
    """Kill -9 of the controller: no live component is needed for the way back."""
    with DrillRoom(config, Plan(Kind.CONTROLLER_KILLED, streams=10, limits=LIMITS)) as room:
        made = room.run("r-1")
    assert made.t_breach is None
    assert made.is_counted
    assert made.streams.get("done", 0) == 0
    assert made.t_drained is not None
    assert made.t_recovered is not None


@pytest.mark.slow
def test_a_gateway_killed_in_a_rollback_comes_back_with_the_baseline_only(config: RunConfig) -> None:
    """Kill -9 of the gateway while it drains; what it had given out ends with it."""
    with DrillRoom(config, Plan(Kind.GATEWAY_KILLED, streams=10, limits=LIMITS)) as room:
        made = room.run("r-1")
    words = [word for child in psutil.Process().children() for word in child.cmdline()]
    assert "gateway" not in words, "the one that took the killed one's place goes on"
    assert made.candidates_after_restart == 0
    assert made.is_counted
    assert made.t_recovered is not None
    assert made.others["done"] > 0


@pytest.mark.slow
def test_a_baseline_that_is_down_sends_nobody_back_to_the_candidate(config: RunConfig) -> None:
    """F51: it dies in the canary; after the rollback users get errors, and the candidate no session."""

    async def play() -> tuple[int, list[Ending]]:
        async with drill._scene(config, Plan(streams=5, limits=LIMITS)) as scene:
            scene.begin()
            await drill._until(lambda: drill._has_lease(scene), 60, "no lease", scene)
            await drill._open_streams(scene)
            scene.baseline.kill()
            await scene.users.tell_violation(scene.users.of("candidate", Ending.OPEN)[0])
            await drill._until(lambda: drill._decided_at(scene) is not None, 60, "no decision", scene)
            await asyncio.sleep(2 * LIMITS["poll_seconds"] + 0.5)
            before = len((await scene.seen())["arrivals"])
            late = [scene.users.come() for _ in range(20)]
            deadline = time.monotonic() + 30
            while any(each.ended_at is None for each in late) and time.monotonic() < deadline:
                await asyncio.sleep(0.05)
            asked = len((await scene.seen())["arrivals"]) - before
            await scene.users.leave()
            return asked, [each.ending for each in late]

    asked, endings = asyncio.run(play())
    assert asked == 0
    assert endings == [Ending.REFUSED] * 20


@pytest.mark.slow
def test_the_command_keeps_its_drills_with_the_release(config: RunConfig, config_file: Path) -> None:
    place = open_place(config)
    release = start_release(place, config, "candidate", actor="m.lee", now=time.time())
    options = ["--times", "2", "--streams", "5", "--drain-seconds", "0.5", "--lease-seconds", "2", "--as", "m.lee"]
    result = CliRunner().invoke(app, ["release", "drill", str(config_file), *options, "--json"])
    told = json.loads(result.stdout)
    with place.store.read() as connection:
        rows = connection.execute(select(tables.drills)).all()
        kinds = (
            connection.execute(select(tables.transitions.c.kind).order_by(tables.transitions.c.entry)).scalars().all()
        )
    assert [row.release_id for row in rows] == [release.id] * 2
    assert all(row.is_counted and row.rollback_seconds is not None for row in rows)
    assert {row.id for row in rows} == {each["id"] for each in told}
    assert kinds == ["start", "drill", "drill"], "a drill is a line of the audit log"
    assert result.exit_code == (3 if any(each["problems"] for each in told) else 0)
    place.store.close()


def test_a_drill_has_tables_of_its_own_and_leaves_none(config: RunConfig, store_url: str) -> None:
    urls = {"baseline": "http://127.0.0.1:9/v1", "candidate": "http://127.0.0.1:9/v1"}
    with staged(config, urls, {}) as stage:
        canary = begin_canary(stage)
        inside = read_routing(stage.place.store, stage.place.workflow)
        folder, url = stage.folder, stage.variables[STORE_VARIABLE]
    assert inside is not None
    assert inside.release_id == canary
    assert (inside.share_percent, inside.lease_seconds) == (50.0, 30.0)
    assert not folder.exists()
    outside = open_store(store_url)
    with outside.read() as connection:
        assert connection.execute(select(tables.releases)).all() == []
        if not outside.is_sqlite:
            (schema,) = re.findall(r"agentrl_drill_\w+", url)
            found = connection.exec_driver_sql("select nspname from pg_namespace").scalars().all()
            assert schema not in found
    outside.close()


def test_a_second_canary_of_a_stage_is_halted_by_nothing(config: RunConfig) -> None:
    urls = {"baseline": "http://127.0.0.1:9/v1", "candidate": "http://127.0.0.1:9/v1"}
    with staged(config, urls, {"drain_seconds": 0.5}) as stage:
        first, second = begin_canary(stage), begin_canary(stage)
        routing = read_routing(stage.place.store, stage.place.workflow)
        assert stage.config.gateway is not None
        assert stage.config.release is not None
        assert stage.config.gateway.drain_seconds == 0.5
        assert [gate.name for gate in stage.config.release.gates] == [GATE]
    assert first != second
    assert routing is not None
    assert (routing.release_id, routing.epoch) == (second, 2)


def test_a_program_that_ends_says_its_last_words(tmp_path: Path) -> None:
    command = ["python", "-c", "print('no config here'); raise SystemExit(2)"]
    said = r"gateway 1 ended with exit code 2.*\n.*no config here"
    with Program("gateway 1", command, tmp_path / "log") as program, pytest.raises(ReleaseError, match=said):
        program.addresses()


def test_a_program_is_killed_at_once_and_its_children_with_it(tmp_path: Path) -> None:
    child = "import subprocess,sys,time; p=subprocess.Popen([sys.executable,'-c','import time; time.sleep(60)'])"
    command = ["python", "-c", f"{child}; print(f'on http://127.0.0.1:1/{{p.pid}} '); time.sleep(60)"]
    with Program("parent", command, tmp_path / "log") as program:
        (address,) = program.addresses()
        program.kill()
        assert program.exit_code == -signal.SIGKILL
        child_pid = int(address.rpartition("/")[2])
        deadline = time.monotonic() + 10
        while is_alive(child_pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_alive(child_pid)


def test_a_half_written_address_is_no_address(tmp_path: Path) -> None:
    code = """
import time
print("on http://127.0.0.1:80", end="", flush=True)
time.sleep(0.5)
print("80/v1, admin on http://127.0.0.1:81 ", flush=True)
time.sleep(60)
"""
    with Program("gateway", ["python", "-c", code], tmp_path / "log") as program:
        assert program.addresses(2) == ["http://127.0.0.1:8080/v1", "http://127.0.0.1:81"]
