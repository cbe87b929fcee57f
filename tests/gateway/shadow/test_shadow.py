"""The queue of copies: bounded, counted, never in a user's way; and the rows that become paired evidence."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from agentrl.config.gateway import ShadowConfig
from agentrl.errors import ReleaseError
from agentrl.gateway.feedback import FeedbackEvent
from agentrl.gateway.shadow import Shadow
from agentrl.gateway.shadow import shadow as shadow_module
from agentrl.gateway.shadow.copies import CopiedTurn
from agentrl.gateway.shadow.rows import keep_copy
from agentrl.gateway.turns import FinishedTurn
from agentrl.gateway.upstream import UpstreamFailure
from agentrl.release.evidence import live_evidence
from agentrl.release.records import Arm
from agentrl.release.store import Store
from agentrl.release.store.tables import sessions
from agentrl.types import Grade
from tests.gateway.shadow.turns import Candidate, call, finished, in_loop, routing, says
from tests.release_fixtures import postgres_schema, store, store_url

__all__ = ["postgres_schema", "store", "store_url"]


def make(store: Store, candidate: Candidate, **options: Any) -> Shadow:
    config = options.pop("config", None) or ShadowConfig()
    return Shadow({"new": candidate}, config, store, **options)  # type: ignore[dict-item]


async def shadowed(shadow: Shadow, *turns: FinishedTurn) -> None:
    shadow.start()
    for turn in turns:
        shadow.watch(turn)
    await shadow.drained()
    await shadow.aclose()


def rows(store: Store) -> list[dict[str, Any]]:
    with store.read() as connection:
        found = connection.execute(select(sessions).order_by(sessions.c.session_id, sessions.c.arm)).mappings()
        return [dict(row) for row in found]


def put_baseline(store: Store, session_id: str = "s1", **fields: Any) -> None:
    row = {
        "workflow": "support", "release_id": "rel_1", "session_id": session_id, "arm": "baseline",
        "channel": "shadow", "assigned_at": 900.0, "last_at": 1000.0, "status": "closed", "closed_at": 1000.0,
        "seconds": 0.5, **fields,
    }  # fmt: skip
    with store.write() as connection:
        connection.execute(sessions.insert().values(**row))


@in_loop
async def test_both_arms_have_a_row_of_the_session_and_are_a_pair(store: Store) -> None:
    put_baseline(store)
    await shadowed(make(store, Candidate(says("it is 42"))), finished())
    pair = live_evidence(store, "support", "rel_1", "shadow")
    assert [(each.arm, each.pair, each.at) for each in pair] == [
        (Arm.BASELINE, "s1", 900.0),
        (Arm.CANDIDATE, "s1", 900.0),
    ]
    mine = rows(store)[1]
    assert (mine["upstream"], mine["bundle"], mine["status"]) == ("new", "sha256:new", "closed")
    assert (mine["cluster"], mine["intent"], mine["tool_calls"]) == ("u1", "billing", 0)
    assert mine["success"] is mine["quality"] is mine["human_override"] is None


@in_loop
async def test_turns_of_a_session_are_added_up_and_a_repeated_one_counts_once(store: Store) -> None:
    earlier = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]
    second = finished(earlier=earlier, at=1010.0)
    config = ShadowConfig(concurrency=1)
    await shadowed(make(store, Candidate(says("x", tokens=(7, 3))), config=config), finished(), second, second)
    [mine] = rows(store)
    assert (mine["requests"], mine["tokens_in"], mine["last_at"], mine["assigned_at"]) == (2, 14, 1010.0, 1000.0)


@in_loop
async def test_a_candidate_that_fails_is_no_success(store: Store) -> None:
    shadow = make(store, Candidate(UpstreamFailure("connect", "refused")))
    await shadowed(shadow, finished())
    [mine] = rows(store)
    assert (mine["success"], mine["status"], mine["seconds"], mine["errors"]) == (False, "failed", None, 1)
    assert (shadow.counts.copied, shadow.counts.failed) == (1, 1)


@in_loop
async def test_a_full_queue_drops_and_counts_and_the_user_never_waits(store: Store) -> None:
    """F20: `watch` is no coroutine and returns while the candidate answers nobody."""
    hold = asyncio.Event()
    candidate = Candidate(says("42"), hold=hold)
    shadow = make(store, candidate, config=ShadowConfig(queue=3, concurrency=2))
    shadow.start()
    for number in range(2):
        shadow.watch(finished(session_id=f"s{number}"))
    while candidate.in_flight < 2:
        await asyncio.sleep(0)
    for number in range(2, 102):
        shadow.watch(finished(session_id=f"s{number}"))
    assert (shadow.waiting, shadow.counts.dropped, candidate.most_in_flight) == (3, 97, 2)
    hold.set()
    await shadow.drained()
    await shadow.aclose()
    assert (shadow.counts.copied, candidate.most_in_flight) == (5, 2)
    kept = {row["session_id"]: row for row in rows(store)}
    assert len(kept) == 102
    assert kept["s50"]["seconds"] is kept["s50"]["tool_calls"] is None  # it is told that nothing is known of it
    assert kept["s4"]["seconds"] is not None


@in_loop
async def test_a_few_endless_conversations_fill_the_queue_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow_module, "MAX_WAITING_CHARS", 1000)
    shadow = make(store, Candidate(says("42")))
    shadow.watch(finished(question="x" * 900))
    shadow.watch(finished(question="y" * 200, session_id="s2"))
    assert (shadow.waiting, shadow.counts.dropped) == (1, 1)
    await shadowed(shadow)
    shadow.watch(finished(question="z" * 900, session_id="s3"))  # the first has made room
    assert shadow.waiting == 1


@in_loop
async def test_a_copy_that_is_lost_is_counted_and_the_worker_goes_on(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def bug(*_: Any, **__: Any) -> Any:
        raise LookupError("a bug")

    shadow = make(store, Candidate(says("42")), config=ShadowConfig(concurrency=1))
    monkeypatch.setattr(shadow_module, "copied_turn", bug)
    shadow.start()
    shadow.watch(finished())
    await shadow.drained()
    monkeypatch.undo()
    shadow.watch(finished(session_id="s2"))
    await shadow.drained()
    await shadow.aclose()
    assert (shadow.counts.dropped, shadow.counts.copied) == (1, 1)
    assert [row["seconds"] is None for row in rows(store)] == [True, False]


def test_two_replicas_that_copy_turns_of_one_session_lose_none(store: Store) -> None:
    put_baseline(store)
    history = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]

    def one(number: int) -> None:
        copied = CopiedTurn(number=number, at=1000.0 + number, requests=1, tokens_in=1, tokens_out=1, seconds=1.0)
        keep_copy(store, finished(earlier=history * number), copied)

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(one, range(1, 19)))
    mine = rows(store)[1]
    assert (mine["requests"], mine["seconds"], len(mine["shadow"]["turns"])) == (18, 18.0, 18)


@in_loop
async def test_a_session_with_a_dropped_turn_has_no_sums(store: Store) -> None:
    earlier = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b"}]
    shadow = make(store, Candidate(says("42")), config=ShadowConfig(queue=1, concurrency=1))
    shadow.watch(finished())  # nobody works yet: one waits, the next is dropped
    shadow.watch(finished(earlier=earlier))
    await shadowed(shadow)
    [mine] = rows(store)
    assert (mine["seconds"], mine["tokens_in"], mine["requests"]) == (None, None, 1)


@in_loop
async def test_only_the_baselines_own_turns_under_a_running_shadow_are_copied(store: Store) -> None:
    candidate = Candidate(says("42"))
    await shadowed(
        make(store, candidate),
        finished(arm=Arm.CANDIDATE),
        finished(is_forced=True),
        finished(routing=routing("canary")),
        finished(routing=routing(release_id="rel_2")),
        finished(routing=None),
        finished(reply={"role": "assistant", "content": None, "tool_calls": [call("look")]}),
    )
    assert candidate.bodies == []
    assert rows(store) == []


@in_loop
async def test_a_shadow_that_has_ended_asks_nothing_more(store: Store) -> None:
    candidate = Candidate(says("42"))
    shadow = make(store, candidate, is_wanted=lambda _: False)
    await shadowed(shadow, finished())
    assert (candidate.bodies, shadow.counts.dropped) == ([], 1)
    gone = make(store, candidate)
    await shadowed(gone, finished(routing=routing(candidate_upstream="elsewhere")))
    assert gone.counts.dropped == 1


@in_loop
async def test_what_cannot_be_copied_is_counted_by_reason(store: Store) -> None:
    shadow = make(store, Candidate(says("42")))
    await shadowed(shadow, finished(request={"messages": []}), finished(path="embeddings"))
    assert shadow.counts.as_dict()["not_copied"] == {"no message of a user": 1, "other path": 1}


@in_loop
async def test_a_store_that_cannot_be_written_costs_the_row_and_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ReleaseError("disk full")

    monkeypatch.setattr(shadow_module, "keep_copy", refuse)
    shadow = make(store, Candidate(says("42")))
    await shadowed(shadow, finished(), finished(session_id="s2"))
    assert (shadow.counts.copied, shadow.counts.unwritten) == (2, 2)


@in_loop
async def test_a_slow_database_holds_up_no_loop(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows are written by a thread: the loop that answers users goes on."""
    entered, leave = threading.Event(), threading.Event()

    def wait(*_: Any, **__: Any) -> list[Any]:
        entered.set()
        assert leave.wait(30)
        return []

    monkeypatch.setattr(shadow_module, "keep_copy", wait)
    shadow = make(store, Candidate(says("42")))
    shadow.start()
    shadow.watch(finished())
    while not entered.is_set():  # reached only if the loop runs while the row is being written
        await asyncio.sleep(0)
    leave.set()
    await shadow.drained()
    await shadow.aclose()


class HalfGrader:
    """Gives 1.0 to answers with 42 in them, else 0.25."""

    pass_threshold = 0.5
    version = "half-1"

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.is_closed = False

    async def grade_submission(self, submission: Any) -> Grade:
        self.seen.append(submission)
        return Grade(1.0 if "42" in submission.answer else 0.25)

    async def aclose(self) -> None:
        self.is_closed = True


@in_loop
async def test_both_answers_are_graded_by_one_grader_and_the_baselines_goes_where_grades_go(store: Store) -> None:
    from agentrl.gateway.shadow.grades import Grading

    events: list[FeedbackEvent] = []

    async def record(some: Any) -> None:
        events.extend(some)

    put_baseline(store)
    grader = HalfGrader()
    grading = Grading(grader, pass_threshold=0.5)  # type: ignore[arg-type]
    candidate = Candidate(says(None, call("look", a=1)), says("no idea"))
    await shadowed(
        make(store, candidate, grading=grading, record=record, wall=lambda: 2000.0),
        finished((call("look", a=1), "found")),
    )
    mine = rows(store)[1]
    assert (mine["quality"], mine["success"]) == (0.25, False)
    told = [(event.kind, dict(event.payload), event.session_id, event.at) for event in events]
    by = {"grader_version": "half-1"}
    assert told == [("grade", {"score": 1.0} | by, "s1", 1000.0), ("outcome", {"success": True} | by, "s1", 1000.0)]
    assert (mine["grader_version"], mine["judged_at"]) == ("half-1", 1000.0)
    assert [each.trace_id for each in grader.seen] == ["shadow_s1_1_candidate", "shadow_s1_1_baseline"]
    assert [each["function"]["name"] for each in grader.seen[0].sample["output_tools"]] == ["look"]
    assert grader.seen[0].item["messages"] == [{"role": "user", "content": "how much?"}]
    assert grader.is_closed


@in_loop
async def test_nobody_is_graded_where_one_answer_has_no_score(store: Store) -> None:
    from agentrl.gateway.shadow.grades import Grading

    class Silent(HalfGrader):
        async def grade_submission(self, submission: Any) -> Grade:
            return Grade(None, "down") if "baseline" in submission.trace_id else Grade(1.0)

    shadow = make(store, Candidate(says("42")), grading=Grading(Silent(), pass_threshold=0.5))  # type: ignore[arg-type]
    await shadowed(shadow, finished())
    [mine] = rows(store)
    assert mine["quality"] is mine["success"] is None


@in_loop
async def test_no_word_that_anybody_said_is_kept(store: Store) -> None:
    """T9: names of tools, counts and digests; the conversation stays out of the row."""
    candidate = Candidate(says(None, call("look", secret="swordfish")), says("SECRET-ANSWER"))
    await shadowed(make(store, candidate), finished(question="PRIVATE?", answer="BASELINE-WORDS"))
    text = str(rows(store))
    assert "look" in text
    for word in ("swordfish", "SECRET-ANSWER", "PRIVATE", "BASELINE-WORDS"):
        assert word not in text
