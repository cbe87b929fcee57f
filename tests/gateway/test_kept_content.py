"""What was said is kept where it was asked for, redacted, bounded, and never at the users' expense."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from sqlalchemy import select, update

from agentrl.gateway import kept_content
from agentrl.gateway.kept_content import KeptContent, content_of
from agentrl.gateway.turns import FinishedTurn
from agentrl.monitoring.session_log import read_sessions
from agentrl.release.place import ReleasePlace
from agentrl.release.store.tables import session_content, sessions
from tests.gateway.world import World, world


async def two_turns(here: World, kept: KeptContent) -> None:
    here.gateway.watch([kept])
    kept.start()
    await here.says("s1")
    body = [{"role": "user", "content": text} for text in ("first", "write to jane@example.com")]
    assert (await here.ask(session="s1", messages=body)).status_code == 200
    await here.written()  # watchers are told after the user
    await kept.aclose()


def close_all(place: ReleasePlace, here: World) -> list[dict[str, Any]]:
    with place.store.write() as connection:
        connection.execute(update(sessions).values(status="closed", closed_at=sessions.c.last_at))
    here.gateway.closing.run_once()
    return list(read_sessions(place.folder / "sessions"))


def waiting(place: ReleasePlace) -> int:
    with place.store.read() as connection:
        return len(connection.execute(select(session_content)).all())


def test_the_last_turns_conversation_joins_the_record_and_stays_with_it(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place, keep_content=True) as here:
            await two_turns(here, KeptContent(place))
            assert waiting(place) == 1
            (record,) = await asyncio.to_thread(close_all, place, here)
            texts = [message["content"] for message in record["content"]["messages"]]
            assert texts == ["first", "write to [email]", "base"]
            assert waiting(place) == 0
            assert (await here.tell(event_id="e", session_id="s1", kind="outcome", success=True)).status_code == 200
            *_, later = await asyncio.to_thread(close_all, place, here)  # a late label: the record is written again
            assert (later["success"], later["content"]) == (True, record["content"])

    asyncio.run(run())


def test_a_full_queue_drops_and_counts(one_place: ReleasePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    """F20: nobody waits."""
    monkeypatch.setattr(kept_content, "MAX_WAITING", 1)

    async def run() -> int:
        async with world(one_place) as here:
            kept = KeptContent(one_place)
            here.gateway.watch([kept])
            for _ in range(3):
                await here.says("s1")
            await here.written()
            return kept.dropped

    assert asyncio.run(run()) == 2


def test_a_store_that_cannot_be_written_costs_content_and_nothing_else(one_place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(one_place) as here:
            kept = KeptContent(one_place)

            def broken(turns: list[FinishedTurn]) -> None:
                raise OSError("no")

            kept._write = broken  # type: ignore[method-assign,assignment]
            await two_turns(here, kept)
            assert kept.dropped >= 1
            assert waiting(one_place) == 0

    asyncio.run(run())


def test_a_long_conversation_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_content, "MAX_CHARS", 300)
    messages = [{"role": "user", "content": f"{n} " + "x" * 60} for n in range(10)]
    found = content_of({"messages": messages}, {"role": "assistant", "content": "done"})
    assert found["messages"][-1]["content"] == "done"
    assert len(found["messages"]) + found["left_out"] == 11
    assert len(json.dumps(found["messages"])) < 320
    assert content_of({"input": "y" * 1000}, {"output": "z" * 1000}) == {"messages": [], "left_out": 2}
