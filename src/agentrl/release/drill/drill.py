"""One drill, from the first stream to the last answer's end.

    servers, gateways, controller -> streams open on a candidate that hangs -> a violation is told (t_breach)
      -> the controller decides (t_decision) -> the last new session (t_route_zero) -> cut or ended (t_drained)
      -> new sessions are answered whole again (t_recovered)

Users keep coming all the time, so that a session which the candidate should not have been given is seen. Every time is
taken twice: gateways' rows say when they gave out and when they were drained, the stub says when it was asked and left;
the later one counts.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
from sqlalchemy import select

from agentrl.config import RunConfig
from agentrl.errors import ReleaseError
from agentrl.release.drill.clocks import Moment
from agentrl.release.drill.processes import Program
from agentrl.release.drill.record import GRACE_SECONDS, Drill, Kind
from agentrl.release.drill.stage import BASELINE, CANDIDATE, Stage, begin_canary, staged
from agentrl.release.drill.users import Ending, Stream, Users
from agentrl.release.steady_clock import steady_seconds
from agentrl.release.store import tables

POLL_SECONDS = 0.02
START_SECONDS = 60.0
DECISION_SECONDS = 60.0
NEW_PER_SECOND = 25.0
TICK_SECONDS = 1.0
"""Of the controller, as `agentrl release watch` has it; shorter where the lease is."""
UNDER_WAY = 0.5
"""Share of the drain that has gone by when a gateway is killed in it."""


@dataclass(frozen=True)
class Plan:
    """What is drilled, and how large."""

    kind: Kind = Kind.ROLLBACK
    streams: int = 200
    """Of the candidate, open at once."""
    replicas: int = 1
    limits: Mapping[str, float] = field(default_factory=dict)
    """See `stage.staged`."""
    window_seconds: float = 1.0
    """Users come for so long after the candidate has drained; the second half of it is too young to be looked at."""


@dataclass
class Scene:
    """Everything that runs in a drill."""

    plan: Plan
    stage: Stage
    gateways: list[Program]
    controller: Program
    baseline: Program
    """Its stub."""
    users: Users
    candidate: str
    """Address of its stub."""
    canary: str = ""
    """Id of the stage's release."""
    before: Moment = field(default_factory=Moment.now)

    @property
    def client(self) -> httpx.AsyncClient:
        """Everybody's."""
        return self.users.client

    def begin(self) -> None:
        """A new canary, and new users."""
        self.canary = begin_canary(self.stage)
        self.users = replace(self.users, prefix=f"user-{secrets.token_hex(3)}", streams=[], tasks=set())
        self.before = Moment.now()

    async def seen(self) -> dict[str, Any]:
        """What the candidate's stub has seen."""
        reply = await self.client.get(f"{self.candidate}/drill/seen")
        found: dict[str, Any] = reply.raise_for_status().json()
        return found


class DrillRoom:
    """Programs that several drills are made with, one after the other: enter it, run drills, leave it.

    Raises, from `run`:
        ConfigError: the config has no `release` or `gateway` section.
        ReleaseError: a program ended or did not start, or the drill never came to its decision.
    """

    def __init__(self, config: RunConfig, plan: Plan) -> None:
        self._config, self._plan = config, plan
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._scene: Scene | None = None

    def __enter__(self) -> DrillRoom:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._runner.run(self._stack.aclose())
        finally:
            self._runner.close()

    def prepare(self) -> None:
        """Start the programs; `run` does so where it was not done."""
        if self._scene is None:
            self._scene = self._runner.run(self._stack.enter_async_context(_scene(self._config, self._plan)))

    def run(self, release_id: str) -> Drill:
        """Make one drill, with the config's lease, polls, drain and database."""
        self.prepare()
        assert self._scene is not None
        try:
            return self._runner.run(_drill(self._scene, release_id))
        finally:
            if self._plan.kind is not Kind.ROLLBACK:  # somebody was killed in it: the next one begins anew
                self._runner.run(self._stack.aclose())
                self._scene = None


async def _drill(scene: Scene, release_id: str) -> Drill:
    scene.begin()
    await _until(lambda: _has_lease(scene), START_SECONDS, "no gateway was given a lease", scene)
    await _open_streams(scene)
    coming = asyncio.create_task(scene.users.keep_coming(NEW_PER_SECOND))
    try:
        return await _play(scene, release_id)
    finally:
        coming.cancel()
        await scene.users.leave()


@asynccontextmanager
async def _scene(config: RunConfig, plan: Plan) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        logs = Path(stack.enter_context(TemporaryDirectory(prefix="agentrl-drill-logs-")))
        stubs = [
            stack.enter_context(Program(name, [*STUB, name], logs / f"{name}.log")) for name in (BASELINE, CANDIDATE)
        ]
        addresses = [await _address(stub) for stub in stubs]
        urls = {name: f"{url}/v1" for name, url in zip((BASELINE, CANDIDATE), addresses, strict=True)}
        stage = stack.enter_context(staged(config, urls, plan.limits))
        file = str(stage.config_file)
        gateways = [
            _start(stack, stage, f"gateway {index + 1}", ["gateway", file], logs / f"gateway-{index}.log")
            for index in range(plan.replicas)
        ]
        stack.callback(_stop_all, gateways)  # one that was started in the place of a killed one is on nobody's list
        assert stage.config.release is not None
        every = f"{min(TICK_SECONDS, stage.config.release.lease_seconds / 4):g}"
        controller = _start(
            stack, stage, "controller", ["release", "watch", file, "--every", every], logs / "controller.log"
        )
        bases = [await _address(gateway) for gateway in gateways]
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        client = await stack.enter_async_context(httpx.AsyncClient(limits=limits, timeout=600, trust_env=False))
        assert stage.config.gateway is not None
        header = stage.config.gateway.session_header
        users = Users(bases, client, header, "")
        yield Scene(plan, stage, gateways, controller, stubs[0], users, addresses[1])


STUB = ("python", "-m", "agentrl.release.drill.stub_server")


def _start(stack: AsyncExitStack | ExitStack, stage: Stage, name: str, verb: Sequence[str], log: Path) -> Program:
    return stack.enter_context(Program(name, ["python", "-m", "agentrl", *verb], log, variables=stage.variables))


def _stop_all(programs: Sequence[Program]) -> None:
    for program in programs:
        program.stop()


async def _open_streams(scene: Scene) -> None:
    """Let users come until the candidate has as many as are wanted, all of them waiting for it."""
    (await scene.client.post(f"{scene.candidate}/drill/hang")).raise_for_status()
    deadline = steady_seconds() + START_SECONDS
    wanted = scene.plan.streams
    while (missing := wanted - len(scene.users.of(CANDIDATE, Ending.OPEN))) > 0:
        if steady_seconds() > deadline:
            endings = Counter(f"{each.model or 'nobody'} {each.ending}" for each in scene.users.streams)
            found = ", ".join(f"{name}: {count}" for name, count in sorted(endings.items()))
            raise ReleaseError(f"the candidate was not given {wanted} streams ({found}){_said(scene)}")
        unanswered = len(scene.users.of("", Ending.OPEN))  # about half of them will be the candidate's
        for _ in range(min(2 * missing - unanswered, 20)):
            scene.users.come()
        await asyncio.sleep(0.05)


async def _play(scene: Scene, release_id: str) -> Drill:
    plan, users = scene.plan, scene.users
    t_breach, in_flight, restart = None, (await scene.seen())["open"], None
    if plan.kind is Kind.CONTROLLER_KILLED:
        t_decision = Moment.now()
        scene.controller.kill()
        wait = _lease(scene)
    else:
        t_breach = Moment.now()
        await users.tell_violation(users.of(CANDIDATE, Ending.OPEN)[0])
        await _until(lambda: _decided_at(scene) is not None, DECISION_SECONDS, "no decision", scene)
        decided = _decided_at(scene)
        assert decided is not None
        t_decision, wait = scene.before.of_wall(decided), 0.0
    if plan.kind is Kind.GATEWAY_KILLED:
        await asyncio.sleep(_drain(scene) * UNDER_WAY)
        restart = await _kill_and_restart(scene)
    t_drained = await _drained(scene, t_decision, wait + _drain(scene) + 10 * GRACE_SECONDS)
    await asyncio.sleep(2 * plan.window_seconds if restart else plan.window_seconds)
    return await _measured(scene, release_id, t_breach, t_decision, t_drained, in_flight, restart)


async def _kill_and_restart(scene: Scene) -> float:
    """Kill the first gateway and start it again; returns when it was back."""
    scene.gateways[0].kill()
    log = scene.gateways[0].log.with_suffix(".again.log")
    file = str(scene.stage.config_file)
    again = Program(
        "gateway 1, again", ["python", "-m", "agentrl", "gateway", file], log, variables=scene.stage.variables
    )
    scene.gateways.append(again)
    scene.users.urls[0] = await _address(again)
    return steady_seconds()


async def _drained(scene: Scene, t_decision: Moment, seconds: float) -> Moment | None:
    """When the last answer of the candidate had ended, by its own account and by every live gateway's."""
    deadline = t_decision.steady + seconds
    while steady_seconds() < deadline:
        rows = _replicas(scene)
        seen = await scene.seen()
        if not seen["open"] and not any(row["candidate_in_flight"] or row["has_lease"] for row in rows):
            ends = [scene.before.of_wall(row["drained_at"]) for row in rows if row["drained_at"] is not None]
            ends.append(scene.before.of_steady(seen["last_end"] or t_decision.steady))
            return max((*ends, t_decision), key=lambda moment: moment.steady)
        for program in scene.gateways:
            if program.exit_code not in (None, -9):
                program.check()
        await asyncio.sleep(POLL_SECONDS)
    return None


async def _measured(
    scene: Scene,
    release_id: str,
    t_breach: Moment | None,
    t_decision: Moment,
    t_drained: Moment | None,
    in_flight: int,
    restart: float | None,
) -> Drill:
    users, before = scene.users, scene.before
    arrivals = [at for at in (await scene.seen())["arrivals"] if at >= before.steady]
    given = [
        before.of_wall(row["last_candidate_at"]) for row in _replicas(scene, is_live=False) if row["last_candidate_at"]
    ]
    t_route_zero = max((*given, before.of_steady(max(arrivals)), t_decision), key=lambda moment: moment.steady)
    recovered = _recovered_at(users.streams, t_decision.steady, steady_seconds(), scene.plan.window_seconds / 2)
    endings = Counter(str(each.ending) for each in users.of(CANDIDATE))
    others = Counter(str(each.ending) for each in users.streams if each.model != CANDIDATE)
    assert scene.stage.config.release is not None
    assert scene.stage.config.gateway is not None
    return Drill(
        id=f"drill-{secrets.token_hex(8)}",
        release_id=release_id,
        kind=scene.plan.kind,
        replicas=scene.plan.replicas,
        in_flight=in_flight,
        t_breach=t_breach,
        t_decision=t_decision,
        t_route_zero=t_route_zero,
        t_drained=t_drained,
        t_recovered=None if recovered is None else before.of_steady(recovered),
        streams=dict(endings),
        others=dict(others),
        candidates_after_restart=0 if restart is None else sum(at > restart for at in arrivals),
        lease_seconds=_lease(scene),
        drain_seconds=_drain(scene),
        poll_seconds=scene.stage.config.gateway.poll_seconds,
        database="sqlite" if scene.stage.place.store.is_sqlite else "postgresql",
        clock_was_moved=before.has_jumped_by(Moment.now()),
    )


def _recovered_at(streams: Sequence[Stream], decision: float, now: float, window: float) -> float | None:
    """The first session after the decision from which on all are answered whole, for a window at least."""
    latest = now - window  # what began just now may still be under way
    after = sorted((each for each in streams if decision <= each.asked_at <= latest), key=lambda each: each.asked_at)
    last_bad = max((index for index, each in enumerate(after) if each.ending is not Ending.DONE), default=-1)
    good = after[last_bad + 1 :]
    if not good or good[-1].asked_at - good[0].asked_at < window:
        return None
    return good[0].asked_at


def _decided_at(scene: Scene) -> float | None:
    """When the release was rolled back, in seconds since 1970."""
    rows = tables.transitions.c
    with scene.stage.place.store.read() as connection:
        for at, record in connection.execute(
            select(rows.at, rows.record).where(rows.release_id == scene.canary).order_by(rows.entry)
        ):
            if record.get("to") == "rolled_back":
                return float(at)
    return None


def _replicas(scene: Scene, *, is_live: bool = True) -> list[dict[str, Any]]:
    """The gateways' own rows: of those that still write them, or of all."""
    with scene.stage.place.store.read() as connection:
        rows = [dict(row._mapping) for row in connection.execute(select(tables.replicas))]
    oldest = time.time() - _lease(scene)
    return [row for row in rows if not is_live or row["seen_at"] >= oldest]


def _has_lease(scene: Scene) -> bool:
    rows = _replicas(scene)
    return len(rows) == scene.plan.replicas and all(row["has_lease"] for row in rows)


def _lease(scene: Scene) -> float:
    assert scene.stage.config.release is not None
    return scene.stage.config.release.lease_seconds


def _drain(scene: Scene) -> float:
    assert scene.stage.config.gateway is not None
    return scene.stage.config.gateway.drain_seconds


async def _until(is_so: Callable[[], bool], seconds: float, found: str, scene: Scene) -> None:
    deadline = steady_seconds() + seconds
    while not is_so():
        for program in (*scene.gateways, scene.controller):
            program.check()
        if steady_seconds() > deadline:
            raise ReleaseError(f"the drill failed: {found} within {seconds:g} s{_said(scene)}")
        await asyncio.sleep(POLL_SECONDS)


def _said(scene: Scene) -> str:
    return "".join(f"\n{each.name}{each.last_words()}" for each in (*scene.gateways, scene.controller))


async def _address(program: Program) -> str:
    return (await asyncio.to_thread(program.addresses))[0]
