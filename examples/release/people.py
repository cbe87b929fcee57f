"""What people do in a release: start it, hand in what was measured, approve, take back, answer for a halt."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentrl.errors import ReleaseError
from agentrl.release.brief.write import write_brief
from agentrl.release.drill.drill import DrillRoom
from agentrl.release.drill.kept import keep_drill
from agentrl.release.gates.archive import keep_offline
from agentrl.release.gates.kept import read_verdicts
from agentrl.release.gates.look import Look
from agentrl.release.gates.offline_gate import STAGE
from agentrl.release.gates.offline_run import OfflineGate, gate_offline
from agentrl.release.lifecycle.approvals import approval_gap, approve
from agentrl.release.lifecycle.guards import Step, gaps
from agentrl.release.lifecycle.halt import resume
from agentrl.release.lifecycle.read import read_release, read_workflow
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.lifecycle.start import start_release
from agentrl.release.lifecycle.states import FORWARD
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from examples.release.scene import Scene
from examples.release.users import RIGHT, Crowd

ENGINEER, APPROVER = "m.lee", "a.martin"
DRILLS = 3
LOOK_SECONDS = 0.1
COUNTS = ("gate", "stage", "verdict", "n_candidate", "n_baseline")
TOLD = (*COUNTS, "candidate", "baseline", "estimate", "lower", "upper", "margin", "reason")


def start(scene: Scene, name: str, bundle: str) -> Release:
    """A draft of a release of one of the candidates."""
    return start_release(scene.place, scene.config, name, actor=ENGINEER, now=time.time(), bundle=bundle)


def hand_in(
    scene: Scene, release: Release, measured: Mapping[str, tuple[Path, Path]], files: Sequence[Path]
) -> OfflineGate:
    """Judge what was measured offline, and keep it with the release.

    Args:
        measured: by suite, the evaluations of what serves all users and of the candidate; ordinary tasks first.
        files: the frozen suites.
    """
    look = Look(release.id, STAGE, datetime.now(UTC), 1, None, 0.0)
    ordinary, *others = [(str(before), str(after)) for before, after in measured.values()]
    found = gate_offline(rules_of(release), ordinary, look, suites=others)
    keep_offline(scene.place, found, look, files)
    return found


def answer_for_halt(scene: Scene, release: Release) -> str:
    """Release a halt, if there is one, with this release's offline gates as the re-run; returns its reason."""
    workflow = read_workflow(scene.place)
    if not workflow.is_halted:
        return ""
    why = "both candidates were taken back, and their training runs are stopped"
    fix = "https://example.com/finqa/changes/17"
    resume(scene.place, actor=APPROVER, reason=why, fix=fix, rerun=release.id, now=time.time())
    return str((workflow.halt or {}).get("reason", ""))


def drill(scene: Scene, room: DrillRoom, release: Release) -> list[float | None]:
    """Three rollback drills; returns the seconds of each."""
    taken = []
    for _ in range(DRILLS):
        made = room.run(release.id)
        keep_drill(scene.place, made, actor=ENGINEER, now=time.time())
        taken.append(made.rollback_seconds)
    return taken


async def wait_for(
    place: ReleasePlace, release_id: str, *states: ReleaseState, approves: bool = True, seconds: float = 240.0
) -> Release:
    """Look at a release until it is in one of these states, or at an end; approve what only waits for that."""
    deadline = time.monotonic() + seconds
    while True:
        release = await asyncio.to_thread(read_release, place, release_id)
        if release.state in states or release.state.is_end:
            return release
        if approves:
            await asyncio.to_thread(_approve_if_asked, place, release)
        if time.monotonic() > deadline:
            missing = await asyncio.to_thread(_missing, place, release)
            raise TimeoutError(f"{release.id} stays {release.state}: {'; '.join(missing)}")
        await asyncio.sleep(LOOK_SECONDS)


def _missing(place: ReleasePlace, release: Release) -> list[str]:
    to = FORWARD.get(release.state)
    return gaps(Step(place, release, read_workflow(place), to, time.time(), checks=None)) if to else []


def _approve_if_asked(place: ReleasePlace, release: Release) -> None:
    to = FORWARD.get(release.state)
    if to is None or str(to) not in rules_of(release).approvals:
        return
    now = time.time()
    if _missing(place, release) == [approval_gap(place, release, to, now)]:
        try:
            approve(place, release.id, to, approver=APPROVER, now=now)
        except ReleaseError:  # it moved on meanwhile
            return


def told(record: Mapping[str, Any]) -> dict[str, Any]:
    """Of a verdict's record, what says why."""
    return {key: record[key] for key in TOLD}


def last_verdicts(place: ReleasePlace, release: Release) -> list[dict[str, Any]]:
    """The last look at each gate of the canary; of one that was promoted, that it was promoted by."""
    if release.state is not ReleaseState.GENERAL:
        return [each.to_record() for each in latest_verdicts(place, release, ReleaseState.CANARY).values()]
    kept = read_verdicts(place.store, release.id, str(ReleaseState.CANARY))
    until = datetime.fromtimestamp(release.entered_at, UTC)
    looks = [each for each in kept if not each.is_shown_only and datetime.fromisoformat(each.at) <= until]
    return [each.to_record() for each in {each.gate: each for each in looks}.values()]


def crowd_figures(crowd: Crowd) -> dict[str, Any]:
    """How the users fared, whoever answered them."""
    answered = [each for each in crowd.visits if each.score is not None]
    return {
        "sessions": len(crowd.visits),
        "answered": len(answered),
        "unanswered": len(crowd.visits) - len(answered),
        "right": round(sum(each.score >= RIGHT for each in answered) / max(len(answered), 1), 3),
        "seconds": round(sum(each.seconds for each in answered) / max(len(answered), 1), 2),
    }


def write_briefs(scene: Scene, release: Release, locales: Sequence[str]) -> list[str]:
    """One page a locale; returns the locales."""
    for locale in locales:
        write_brief(scene.place.store, release.id, locale, scene.folder / "briefs")
    return list(locales)
