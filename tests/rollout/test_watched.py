"""When hold-out graders are asked: of what is watched, before its sandbox is closed, and of a second attempt."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from agentrl.grading.holdout import HoldoutGraders
from agentrl.rollout.engine import RolloutEngine
from agentrl.rollout.outage import OutageGuard
from agentrl.types import Grade, Rollout
from tests.engine_fixtures import FakeGrader
from tests.factories import make_task
from tests.rollout.test_engine import Script, make_engine
from tests.tools.test_lifecycle import Server, lifecycle


class Looking(HoldoutGraders):
    """Notes whose sandbox was open when it was asked."""

    def __init__(self, server: Server | None = None) -> None:
        super().__init__({})
        self.server, self.seen = server, dict[str, bool]()

    async def watch(self, rollout: Rollout) -> Grade:
        self.seen[rollout.id] = self.server is not None and rollout.id in self.server.alive
        return replace(rollout.grade, holdout={"looking": 0.5})


def watched_engine(holdout: Looking, grader: FakeGrader | None = None) -> RolloutEngine:
    engine = make_engine(Script("42"), grader=grader)
    engine._holdout = holdout
    return engine


def test_only_what_is_watched_is_graded_by_hold_outs() -> None:
    holdout = Looking()
    engine = watched_engine(holdout)
    [plain] = asyncio.run(engine.run([make_task()]))
    [watched] = asyncio.run(engine.run([make_task()], is_watched=True))
    assert (plain.grade.holdout, watched.grade.holdout) == ({}, {"looking": 0.5})
    assert plain.grade.score == watched.grade.score == 1.0
    assert list(holdout.seen) == [watched.id]


def test_a_hold_out_is_asked_while_the_sandbox_is_open() -> None:
    server = Server()
    holdout = Looking(server)
    engine = watched_engine(holdout)
    engine._lifecycle = lifecycle(server)
    rollouts = asyncio.run(engine.run([make_task(f"t{n}") for n in range(3)], is_watched=True))
    assert holdout.seen == {rollout.id: True for rollout in rollouts}
    assert server.alive == set()


def test_what_is_rolled_out_again_is_watched_again() -> None:
    class Failing(FakeGrader):
        async def grade(self, rollout: Rollout) -> Grade:
            first = not self.seen
            grade = await super().grade(rollout)
            return Grade(None, "out of order") if first else grade

    engine = watched_engine(Looking(), grader=Failing())
    guard = OutageGuard(engine, max_lost_fraction=0.0, max_outage_seconds=60.0, tell=lambda _: None)
    rollouts = asyncio.run(guard.run([make_task("a"), make_task("b")], is_watched=True))
    assert guard.rolled_out_again == 1
    assert all(rollout.grade.holdout == {"looking": 0.5} for rollout in rollouts)
