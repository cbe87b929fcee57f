from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from agentrl.errors import TrainingStopped
from agentrl.rollout.outage import Outage, OutageGuard, describe_outage
from agentrl.types import FailureClass, Grade, Rollout, StopReason
from tests.engine_fixtures import FakeGrader
from tests.factories import make_rollout, make_task
from tests.rollout.test_engine import Script, make_engine

TASKS = [make_task(f"t{n}") for n in range(5)]
Fails = Callable[[int, Rollout], bool]


class Grader(FakeGrader):
    """Gives no score while `fails(how many it was asked for, rollout)`; the score is the rollout's seed."""

    def __init__(self, fails: Fails) -> None:
        super().__init__()
        self.fails = fails

    async def grade(self, rollout: Rollout) -> Grade:
        self.seen.append(rollout)
        is_down = self.fails(len(self.seen), rollout)
        return Grade(None, "grader toy at http://h: answered 503") if is_down else Grade(float(rollout.seed % 7))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentrl.rollout.outage.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("agentrl.rollout.outage.MAX_PAUSE_SECONDS", 0.02)


def guarded(fails: Fails, *, seconds: float = 20.0, limit: float = 0.1) -> tuple[OutageGuard, Grader, list[str]]:
    grader, said = Grader(fails), list[str]()
    engine = make_engine(Script("x"), grader=grader)
    guard = OutageGuard(engine, max_lost_fraction=limit, max_outage_seconds=seconds, tell=said.append)
    return guard, grader, said


def roll_out(guard: OutageGuard, **options: Any) -> list[Rollout]:
    return asyncio.run(guard.run(TASKS, samples_per_task=4, seed="s", **options))


def facts(rollouts: list[Rollout]) -> list[Any]:
    return [(r.task.id, r.sample_index, r.seed, r.grade.score, [turn.token_ids for turn in r.turns]) for r in rollouts]


def test_after_an_outage_the_batch_is_what_it_would_have_been() -> None:
    expected = facts(roll_out(guarded(lambda *_: False)[0]))
    guard, grader, said = guarded(lambda asked, _: 5 < asked <= 23)  # the rest of the batch, and three probes
    rollouts = roll_out(guard)
    assert facts(rollouts) == expected
    assert len({rollout.id for rollout in rollouts}) == 20
    assert len(grader.seen) == 20 + 3 + 15  # only what was lost is rolled out again
    assert guard.rolled_out_again == 15
    assert guard.seconds_paused > 0
    assert len(said) == 5
    cause = "15 of 20 rollouts are lost to infrastructure (at most 10% may be): 15 x grader toy at http://h: answered"
    assert said[0].startswith(f"paused: {cause} 503; waiting up to 20 s")
    assert said[-1].endswith("15 rollouts were rolled out again")


def test_an_outage_in_the_middle_of_the_recovery_is_waited_out_too() -> None:
    guard, _, _ = guarded(lambda asked, _: asked <= 20 or 25 < asked <= 60)
    rollouts = roll_out(guard)
    assert all(rollout.is_valid for rollout in rollouts)
    assert guard.rolled_out_again == 20


def test_a_few_losses_are_no_outage() -> None:
    guard, grader, said = guarded(lambda asked, _: asked in (3, 7))
    rollouts = roll_out(guard)
    assert [rollout.is_valid for rollout in rollouts].count(False) == 2
    assert (len(grader.seen), said, guard.rolled_out_again) == (20, [], 0)
    guard, grader, _ = guarded(lambda asked, _: asked in (3, 7, 9))
    assert all(rollout.is_valid for rollout in roll_out(guard))
    assert guard.rolled_out_again == 3


def test_a_single_rollout_is_never_lost_in_silence() -> None:
    guard, grader, _ = guarded(lambda asked, _: asked == 1, limit=1.0)
    [rollout] = asyncio.run(guard.run(TASKS[:1]))
    assert rollout.is_valid
    assert len(grader.seen) == 2


def test_no_task_is_no_outage() -> None:
    assert asyncio.run(guarded(lambda *_: True)[0].run([])) == []


def test_a_task_that_is_broken_by_itself_does_not_hold_up_the_others() -> None:
    """Two probes in turn: the broken task's fail, the others' do not."""
    guard, _, _ = guarded(lambda asked, rollout: asked <= 20 or (rollout.task.id == "t0" and rollout.sample_index < 2))
    rollouts = roll_out(guard)
    assert [(r.task.id, r.sample_index) for r in rollouts if not r.is_valid] == [("t0", 0), ("t0", 1)]


def test_an_outage_that_lasts_too_long_names_its_cause_and_stops_the_run() -> None:
    guard, _, said = guarded(lambda *_: True, seconds=0.05)
    with pytest.raises(
        Outage, match=r"20 of 20 rollouts are lost .* 20 x grader toy at http://h: answered 503; waited 0.05"
    ):
        roll_out(guard)
    assert said[0].startswith("paused")
    guard, _, said = guarded(lambda *_: True, seconds=0)
    with pytest.raises(TrainingStopped) as caught:
        roll_out(guard)
    assert caught.value.rule == "ungraded"
    assert isinstance(caught.value, Outage)
    assert len(caught.value.rollouts) == 20
    assert said == []


class WrongGrader(FakeGrader):
    """Never gives a score, and raises these flags."""

    def __init__(self, *flags: str) -> None:
        super().__init__()
        self.flags = flags

    async def grade(self, rollout: Rollout) -> Grade:
        self.seen.append(rollout)
        return Grade(None, "grader toy: KeyError: 'x' (line 2, in grade)", errors=self.flags)


@pytest.mark.parametrize(
    "flags", [("python_grader_runtime_error",), ("formula_parse_error", "sample_parse_error"), ("sample_parse_error",)]
)
def test_a_grader_that_is_wrong_itself_is_not_waited_for(flags: tuple[str, ...]) -> None:
    grader, said = WrongGrader(*flags), list[str]()
    engine = make_engine(Script("x"), grader=grader)
    guard = OutageGuard(engine, max_lost_fraction=0.1, max_outage_seconds=3600, tell=said.append)
    with pytest.raises(
        Outage, match=r"20 of 20 rollouts cannot be graded .* KeyError: 'x' \(line 2, in grade\); no wait mends that"
    ):
        roll_out(guard)
    assert (len(grader.seen), said) == (20, [])


def test_beside_a_server_that_failed_a_wrong_answer_is_no_reason_to_give_up() -> None:
    grader, said = WrongGrader("sample_parse_error", "model_grader_server_error"), list[str]()
    engine = make_engine(Script("x"), grader=grader)
    guard = OutageGuard(engine, max_lost_fraction=0.1, max_outage_seconds=0.05, tell=said.append)
    with pytest.raises(Outage, match=r"waited 0\.05"):
        roll_out(guard)
    assert said


def test_the_cause_names_each_endpoint_with_what_it_said() -> None:
    def broken(error: str) -> Rollout:
        return make_rollout(
            stop_reason=StopReason.INFRASTRUCTURE, broken_by=FailureClass.TOOL, error=error, grade=Grade(None, error)
        )

    lost = [
        broken("ToolError: tool look at http://h:1/look: answered 500: KeyError: x"),
        broken("ToolError: tool look at http://h:1/look: connection refused"),
        broken("ToolError: tool find at http://h:1/find: no complete answer within 30 s"),
        make_rollout(score=None),
    ]
    assert describe_outage(lost, 8, 0.1) == (
        "4 of 8 rollouts are lost to infrastructure (at most 10% may be): "
        "2 x ToolError: tool look at http://h:1/look: connection refused; "
        "1 x ToolError: tool find at http://h:1/find: no complete answer within 30 s; "
        "1 x grader refused the connection"
    )


def test_a_pause_can_be_interrupted() -> None:
    guard, _, _ = guarded(lambda *_: True)

    async def story() -> None:
        task = asyncio.create_task(guard.run(TASKS))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(story())


def test_the_guard_knows_the_tools() -> None:
    guard, _, _ = guarded(lambda *_: False)
    assert guard.tools == ("look",)
