"""Feedback: what it may say, that it counts once, in any order, and that what was acknowledged is there."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentrl.gateway.errors import ApiError
from agentrl.gateway.feedback import folded, merged, read_event
from agentrl.release.place import ReleasePlace
from tests.gateway.world import world

NOW = 1_800_000_000.0
ROW = {"arm": "baseline", "status": "closed", "fallbacks": 0, "model_cost_usd": 0.5, "unpriced": 0, "proposed_calls": 3}
GOOD = {"event_id": "e", "session_id": "s", "kind": "outcome", "success": True}


def columns_of(events: list[dict[str, Any]], **changed: Any) -> dict[str, Any]:
    return folded({**ROW, **changed, "told": merged(None, events)})


payloads: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "outcome": st.fixed_dictionaries({"success": st.booleans()}),
    "override": st.fixed_dictionaries({"override": st.booleans()}),
    "grade": st.fixed_dictionaries({"score": st.floats(-10, 10)}),
    "metric": st.fixed_dictionaries({"name": st.sampled_from(["csat", "nps"]), "value": st.floats(-5, 5)}),
    "cost": st.fixed_dictionaries({"usd": st.sampled_from([0.0, 0.25, 1.5])}),
    "safety": st.fixed_dictionaries({"violations": st.integers(0, 3)}, optional={"zero_tolerance": st.booleans()}),
    "tool": st.fixed_dictionaries({"calls": st.integers(1, 3)}, optional={"errors": st.integers(0, 1)}),
}


@st.composite
def event_rows(draw: st.DrawFn) -> list[dict[str, Any]]:
    kinds = draw(st.lists(st.sampled_from(sorted(payloads)), max_size=12))
    return [
        {
            "event_id": f"e{n}",
            "kind": kind,
            "at": draw(st.sampled_from([1.0, 2.0, 3.0])),
            "payload": draw(payloads[kind]),
        }
        for n, kind in enumerate(kinds)
    ]


@given(event_rows(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(events: list[dict[str, Any]], chance: random.Random) -> None:
    """F49"""
    other = chance.sample(events, len(events))
    cut = chance.randint(0, len(events))
    told = merged(merged(None, other[:cut]), other[cut:])
    assert told == merged(None, events)
    assert columns_of(events) == folded({**ROW, "told": told})


def at(event_id: str, when: float, kind: str, **payload: Any) -> dict[str, Any]:
    return {"event_id": event_id, "at": when, "kind": kind, "payload": payload}


def test_the_later_one_counts_and_counts_add_up() -> None:
    columns = columns_of(
        [
            at("2", 2.0, "outcome", success=False),
            at("1", 1.0, "outcome", success=True),
            at("3", 1.0, "cost", usd=0.25),
            at("4", 1.0, "cost", usd=0.25),
            at("5", 1.0, "safety", violations=1, zero_tolerance=True),
            at("6", 9.0, "safety", violations=0),
            at("7", 1.0, "tool", calls=4, errors=1),
            at("8", 1.0, "override", override=True, by="ana"),
            at("9", 1.0, "metric", name="csat", value=4.0),
        ],
    )
    assert columns["success"] is False
    assert columns["cost_usd"] == 1.0
    assert (columns["safety_violations"], columns["zero_tolerance"]) == (1, True)
    assert (columns["tool_calls"], columns["tool_errors"], columns["tool_infra_errors"]) == (4, 1, 0)
    assert (columns["human_override"], columns["human_override_by"]) == (True, "ana")
    assert columns["extra"] == {"csat": 4.0}


def test_what_nobody_said_is_not_known() -> None:
    columns = columns_of([])
    unknown = ("success", "quality", "safety_violations", "tool_errors")
    assert [columns[name] for name in unknown] == [None] * 4
    assert "human_override" not in columns  # that is for the end of the window to say
    assert columns["cost_usd"] == 0.5
    assert columns_of([at("1", 1.0, "cost", usd=1.0)], unpriced=1)["cost_usd"] is None


@pytest.mark.parametrize(
    ("changed", "param"),
    [
        ({"kind": "outcom"}, "kind"),
        ({"kind": None}, "kind"),
        ({"event_id": ""}, "event_id"),
        ({"session_id": 7}, "session_id"),
        ({"success": "yes"}, "success"),
        ({"success": None}, "success"),
        ({"sucess": True}, "sucess"),
        ({"at": "yesterday"}, "at"),
        ({"at": "2026-01-01T00:00:00"}, "at"),
        ({"at": NOW + 301}, "at"),
        ({"at": -1}, "at"),
        ({"at": float("nan")}, "at"),
        ({"kind": "grade", "success": None, "score": True}, "success"),
    ],
    ids=str,
)
def test_an_event_that_is_none_is_refused_with_its_place(changed: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiError) as caught:
        read_event(GOOD | changed, "app", NOW)
    assert (caught.value.status, caught.value.body["error"]["param"]) == (400, param)


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "grade", "score": float("inf")},
        {"kind": "grade", "score": "0.5"},
        {"kind": "cost", "usd": -1},
        {"kind": "cost", "usd": 1e12},
        {"kind": "safety", "violations": 1.5},
        {"kind": "safety", "violations": -1},
        {"kind": "tool", "calls": 1, "errors": 2},
        {"kind": "metric", "name": "no spaces", "value": 1},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(event: dict[str, Any]) -> None:
    with pytest.raises(ApiError):
        read_event({"event_id": "e", "session_id": "s", **event}, "app", NOW)


def test_times_are_read_in_both_forms() -> None:
    assert read_event(GOOD | {"at": "2026-01-01T01:00:00+01:00"}, "app", NOW).at == 1767225600.0
    assert read_event(GOOD | {"at": 5}, "app", NOW).at == 5.0
    assert read_event(GOOD, "app", NOW).at == NOW


def test_an_id_counts_once_and_says_one_thing(place: ReleasePlace) -> None:
    """F11, F12"""

    async def run() -> None:
        async with world(place) as here:
            await here.ask(session="s")
            event = {"event_id": "e", "session_id": "s", "kind": "cost", "usd": 1.0}
            assert (await here.tell(**event)).json()["status"] == "recorded"
            assert (await here.tell(**event)).json()["status"] == "duplicate"
            conflict = await here.tell(**event | {"usd": 2.0})
            assert (conflict.status_code, conflict.json()["error"]["code"]) == (409, "conflict")
            batch = [
                {**event, "event_id": "f"},
                {**event, "event_id": "f"},
                {**event, "event_id": "f", "usd": 3.0},
                event,
            ]
            answer = await here.client.post("/v1/feedback", json={"events": batch})
            assert [each["status"] for each in answer.json()["data"]] == [
                "recorded",
                "duplicate",
                "conflict",
                "duplicate",
            ]
            assert (await here.row("s"))["cost_usd"] == pytest.approx(2.0 + 20e-6)

    asyncio.run(run())


def test_feedback_of_no_session_is_refused(one_place: ReleasePlace) -> None:
    """T15"""

    async def run() -> None:
        async with world(one_place) as here:
            answer = await here.tell(**GOOD)
            assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_session")
            for body in ({"events": []}, {"events": [GOOD] * 1001}, {"events": GOOD}, {"events": [GOOD], "more": 1}):
                assert (await here.client.post("/v1/feedback", json=body)).status_code == 400
            answer = await here.client.post("/v1/feedback", json={"events": [GOOD, {"kind": 1}]})
            assert [each["status"] for each in answer.json()["data"]] == ["unknown_session", "invalid"]

    asyncio.run(run())


def test_the_label_of_a_session_that_began_elsewhere_a_moment_ago_is_taken(place: ReleasePlace) -> None:
    async def run() -> None:
        async with world(place) as here, world(place) as there:
            await here.ask(session="s")
            assert (await there.tell(**GOOD)).status_code == 200
            assert (await here.row("s"))["success"] is True

    asyncio.run(run())


def test_two_replicas_that_are_told_of_one_session_lose_nothing(place: ReleasePlace) -> None:
    """F49: duplicates and disorder, over two replicas at once."""

    async def run() -> None:
        async with world(place) as here, world(place) as there:
            ids = [f"s{n}" for n in range(5)]
            for each in ids:
                await here.ask(session=each)
            await here.written()
            made = [
                {"event_id": f"e{n}", "session_id": ids[n % 5], "kind": "cost", "usd": 1.0, "at": n} for n in range(500)
            ]
            sent = made + made
            random.Random(3).shuffle(sent)
            batches = [sent[start : start + 50] for start in range(0, len(sent), 50)]
            answers = await asyncio.gather(
                *(
                    (here, there)[n % 2].client.post("/v1/feedback", json={"events": batch})
                    for n, batch in enumerate(batches)
                )
            )
            told = [each["status"] for answer in answers for each in answer.json()["data"]]
            assert (told.count("recorded"), told.count("duplicate")) == (500, 500)
            assert [row["cost_usd"] for row in await here.rows()] == pytest.approx([100.0 + 20e-6] * 5)

    asyncio.run(run())
