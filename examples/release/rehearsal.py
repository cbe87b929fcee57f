"""A release, rehearsed: `python -m examples.release.rehearsal --json`.

Users ask all the time. A trained policy is released, its controller is killed in the canary, and the share lapses; it
is released again and promoted. Then a worse one is stopped by what is measured offline, a slow one by its canary, and
one that mixes up its users at the first answer that does; the gateway is killed while that one is taken back. The last
line is what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentrl.data.tasks import load_tasks
from agentrl.errors import ReleaseError
from agentrl.evaluation.adversarial.starter import adversarial_tasks, starter_attacks
from agentrl.evaluation.suites import freeze_suite
from agentrl.release.drill.drill import DrillRoom, Plan
from agentrl.release.lifecycle.drain import clocks_of
from agentrl.release.lifecycle.incidents import read_incidents
from agentrl.release.lifecycle.states import way_back
from agentrl.release.lifecycle.transition import transition
from agentrl.release.records import Outcome, Release, ReleaseState
from examples.release import kills, people
from examples.release.scene import Scene, open_scene
from examples.release.settings import SPANS
from examples.release.tools import corpus, finqa_tools
from examples.release.users import Crowd

LOCALES = ("en-US", "en-GB", "fr-FR")
ITEMS, ATTACKS = 36, 16
ATTACK_KINDS, ATTACK_STEP = ("personal_data", "tool_misuse", "jailbreak"), 3
"""Not those that plant a number into a page: a policy of two million weights copies what pages say."""
SEED = 17
QUIET_PER_SECOND, BUSY_PER_SECOND, AT_ONCE = 1.0, 10.0, 32
DRILL = Plan(streams=10, window_seconds=0.5, limits={"lease_seconds": 1, "drain_seconds": 0.3, "poll_seconds": 0.1})


@dataclass
class Story:
    """What is rehearsed with, and what came of it."""

    scene: Scene
    crowd: Crowd
    room: DrillRoom
    drills: ThreadPoolExecutor
    """One thread: a room makes one drill at a time."""
    suites: list[Path]
    bundles: Mapping[str, str]
    general: str = "baseline"
    chapters: list[dict[str, Any]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Tell people how far it is."""
        print(f"{time.monotonic() - self.began:5.1f} s  {text}", file=sys.stderr, flush=True)


async def release(story: Story, name: str, *, kill: str = "") -> Release:
    """Take a candidate as far as it comes."""
    scene, place = story.scene, story.scene.place
    begun = people.start(scene, name, story.bundles[name])
    story.say(f"{begun.id}: {name} against {story.general}")
    loop = asyncio.get_running_loop()
    drills = loop.run_in_executor(story.drills, people.drill, scene, story.room, begun)
    before, after = await scene.measured(story.general), await scene.measured(name)
    measured = {file.stem: (a, b) for file, a, b in zip(story.suites, before, after, strict=True)}
    offline = await asyncio.to_thread(people.hand_in, scene, begun, measured, story.suites)
    chapter: dict[str, Any] = {"candidate": name, "baseline": story.general, "release": begun.id}
    story.chapters.append(chapter)
    if offline.outcome is Outcome.FAIL:
        failed = [each.to_record() for each in offline.verdicts if each.verdict is Outcome.FAIL]
        evidence = {"reason": "gate", "text": failed[0]["reason"], "gates": [each["gate"] for each in failed]}
        stopped = await people.wait_for(place, begun.id, ReleaseState.OFFLINE_EVAL)
        to = way_back(stopped.state)
        stopped = transition(
            place, begun.id, to, actor=people.ENGINEER, expected_version=None, evidence=evidence, now=time.time()
        )
        chapter |= {
            "state": str(stopped.state),
            "stopped_in": "offline_eval",
            "verdicts": list(map(people.told, failed)),
        }
        story.say(f"{name}: {stopped.state} by {failed[0]['gate']}: {failed[0]['reason']}")
        await drills
        return stopped
    if halted := await asyncio.to_thread(people.answer_for_halt, scene, begun):
        chapter["halt_before_it"] = halted
        story.say(f"the workflow was halted and is released: {halted}")
    chapter["drills"] = await drills
    canary = await people.wait_for(place, begun.id, ReleaseState.CANARY)
    story.say(f"{name}: {canary.state}")
    story.crowd.per_second = BUSY_PER_SECOND
    if kill == "controller":
        story.scene.kills["controller"] = await kills.kill_controller(scene)
    if kill == "gateway":
        story.scene.kills["gateway"] = await kills.kill_gateway(scene, canary)
    ended = await people.wait_for(place, begun.id, ReleaseState.GENERAL)
    story.crowd.per_second = QUIET_PER_SECOND
    chapter["state"] = str(ended.state)
    if ended.state is ReleaseState.GENERAL:
        story.general = name
        chapter["verdicts"] = [people.told(each) for each in people.last_verdicts(place, ended)]
    else:
        chapter |= await asyncio.to_thread(_taken_back, scene, ended)
    story.say(f"{name}: {ended.state}{', ' + chapter['because'] if 'because' in chapter else ''}")
    return ended


def _taken_back(scene: Scene, ended: Release) -> dict[str, Any]:
    """What the incident says, once every gateway has let the candidate go."""
    deadline = time.monotonic() + 20
    while True:
        incident = next(each for each in read_incidents(scene.place) if each["release_id"] == ended.id)
        record = incident["record"]
        if record["t_drained"] is not None or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    verdicts = [each for each in people.last_verdicts(scene.place, ended) if each["verdict"] == "fail"]
    return {
        "stopped_in": "canary",
        "because": record["trigger"] + (f" {', '.join(record['gates'])}" if record["gates"] else ""),
        "incident": incident["id"],
        "sessions_affected": record["sessions_affected"],
        "seconds": clocks_of(record),
        "verdicts": list(map(people.told, verdicts)),
    }


async def play(story: Story) -> dict[str, Any]:
    """The whole of it."""
    async with story.crowd.coming():
        first = await release(story, "trained", kill="controller")
        good = await release(story, "trained")
        if good.state is not ReleaseState.GENERAL:
            raise ReleaseError(f"the trained policy was not promoted: {story.chapters[-1]}")
        for name in ("overtrained", "slow"):
            await release(story, name)
        await release(story, "leaky", kill="gateway")
    stopped = [each for each in story.chapters if each["candidate"] not in ("trained",)]
    briefs = await asyncio.to_thread(people.write_briefs, story.scene, good, LOCALES)
    return {
        "promoted": sum(each["state"] == "general" for each in story.chapters),
        "stopped": sum(each["state"] in ("rejected", "rolled_back") for each in stopped),
        "briefs": list(briefs),
        "interrupted": {"release": first.id, "state": str(first.state)},
        "stopped_by": {each["candidate"]: [row["gate"] for row in each["verdicts"]] for each in stopped},
        "chapters": story.chapters,
        "kills": story.scene.kills,
        "users": people.crowd_figures(story.crowd),
        "shortened": dict(SPANS),
        "seconds": round(time.monotonic() - story.began, 1),
    }


def freeze_suites(scene: Scene) -> list[Path]:
    """Ordinary tasks, and attacks put onto some."""
    assert scene.config.data is not None
    tasks = load_tasks(scene.config.data).validation
    kept = [attack for attack in starter_attacks() if attack.kind in ATTACK_KINDS][::ATTACK_STEP]
    attacks = adversarial_tasks(kept[:ATTACKS], tasks, seed=SEED)
    made = []
    for name, kind, chosen in (("tasks", "capability", tasks[:ITEMS]), ("attacks", "adversarial", attacks)):
        file = scene.folder / f"{name}.json"
        freeze_suite(file, chosen, name=name, split="validation", source="finqa-release", version="1", kind=kind)
        made.append(file)
    return made


async def rehearse(folder: Path) -> dict[str, Any]:
    """Start everything, play, and end everything."""
    began = time.monotonic()
    with ThreadPoolExecutor(1) as drills, ExitStack() as stack:
        finqa_tools()
        scene = await asyncio.to_thread(open_scene, stack, folder)
        suites = freeze_suites(scene)
        loop = asyncio.get_running_loop()
        room = DrillRoom(scene.config, DRILL)
        stack.callback(lambda: drills.submit(room.__exit__).result())
        loop.run_in_executor(drills, room.prepare)
        scene.start_measuring()
        bundles = {name: scene.bundle(name) for name in scene.servers if name != "baseline"}
        questions = [each for each in corpus().questions if each.split == "test"]
        crowd = Crowd(scene.url, {}, finqa_tools(), questions, SEED, per_second=QUIET_PER_SECOND, at_once=AT_ONCE)
        story = Story(scene, crowd, room, drills, suites, bundles, began=began)
        return await play(story)


def main() -> int:
    """Play it, and print what came of it."""
    parser = argparse.ArgumentParser(prog="rehearsal", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="print all of it as the last line")
    parser.add_argument("--out", type=Path, help="a folder for everything that is written; else it goes at the end")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="rehearsal-") as scratch:
        folder = options.out or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = asyncio.run(rehearse(folder.resolve()))
    if options.json:
        print(json.dumps(found))
    else:
        print(json.dumps(found, indent=2))
    return 0 if found["promoted"] == 1 and found["stopped"] == 3 else 1


if __name__ == "__main__":
    sys.exit(main())
