"""The weekly review of a store: worst sessions, overrides by intent, incidents, and words that are only words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from agentrl.config.costs import CostsConfig
from agentrl.monitoring.session_log import SessionLog
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Arm, SessionEvidence
from agentrl.release.review.review import overrides_by_intent, weekly_review
from agentrl.release.review.told import review_document
from agentrl.release.review.traces import worst_sessions
from agentrl.release.review.weeks import Served
from tests.release.story import COSTS, PROMOTED, incident, tell

WEEK = "2026-W45"
SAID = "my key is sk-proj-abcdefghijklmnopqrstuvwxyz012345"


def session(number: int, **facts: object) -> Served:
    evidence = SessionEvidence(f"s{number:03d}", Arm.BASELINE, at=1.0, intent="a")
    return Served(replace(evidence, **facts), 3, "general", "")  # type: ignore[arg-type]


def test_the_worst_are_ordered_by_safety_override_low_quality_and_cost() -> None:
    told = [
        session(1, quality=0.1, cost_usd=9.0),
        session(2, quality=0.1, cost_usd=10.0),
        session(3, quality=0.9, human_override=True),
        session(4, quality=1.0, safety_violations=1),
        session(5, quality=1.0, safety_violations=2),
        session(6),
        session(7, quality=0.2),
    ]
    expected = ["s005", "s004", "s003", "s002", "s001"]
    assert [each.evidence.session_id for each in worst_sessions(told)] == expected
    assert [each.evidence.session_id for each in worst_sessions(told[::-1])] == expected


def test_equal_sessions_stand_in_the_order_of_their_ids() -> None:
    told = [session(number, quality=0.5, cost_usd=1.0) for number in (7, 3, 9, 1, 5, 2)]
    assert [each.evidence.session_id for each in worst_sessions(told)] == ["s001", "s002", "s003", "s005", "s007"]


def test_the_worst_are_of_two_intents_where_the_week_had_two() -> None:
    told = [session(number, quality=0.0) for number in range(20)] + [session(90, quality=0.9, intent="b")]
    worst = worst_sessions(told)
    assert [each.evidence.intent for each in worst] == ["a", "a", "a", "a", "b"]
    assert {each.evidence.intent for each in worst_sessions(told[:20])} == {"a"}


def test_override_concentration_is_the_share_of_overrides_over_the_share_of_sessions() -> None:
    told = [session(number, human_override=number < 6) for number in range(10)]
    told += [session(100 + number, human_override=number < 2, intent="b") for number in range(30)]
    told.append(session(999, human_override=None, intent="c"))
    found = {row["intent"]: row for row in overrides_by_intent(told)}
    assert found["a"]["concentration"] == (6 / 8) / (10 / 40)
    assert found["b"]["override_rate"] == 2 / 30
    assert "c" not in found  # nobody knows yet


def test_a_review_is_the_same_from_the_same_store(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=300)
    incident(place, story.release.id, PROMOTED - 3 * 86400)
    costs = CostsConfig.model_validate(COSTS)
    first, second = (weekly_review(place.store, place.workflow, WEEK, weeks=5, costs=costs) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert [each["week"] for each in first["weeks"]] == ["2026-W41", "2026-W42", "2026-W43", "2026-W44", WEEK]
    assert len(first["worst"]) == 5
    assert first["invalidated_assumptions"][0]["assumption"] == "users name the fiscal year"
    assert first["incidents"][0]["recovery_seconds"] == 1804.0
    assert first["frozen"][0]["estimate"] == 0.825
    assert first["budget"]["lines"][2]["how"] == "incident_hours"
    assert first["budget"]["lines"][2]["count"] == 2.0


def test_an_open_incident_leaves_its_hours_unknown(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=100)
    incident(place, story.release.id, PROMOTED - 3 * 86400, is_closed=False)
    costs = CostsConfig.model_validate(COSTS)
    found = weekly_review(place.store, place.workflow, WEEK, weeks=1, costs=costs)
    assert found["budget"]["missing"] == ("incidents",)


def test_the_worst_are_told_from_end_to_end_by_the_session_log(place: ReleasePlace, tmp_path: Path) -> None:
    tell(place, canary_sessions=100)
    costs = CostsConfig()
    worst = weekly_review(place.store, place.workflow, WEEK, weeks=1, costs=costs)["worst"][0]
    log = SessionLog(tmp_path / "sessions", clock=lambda: PROMOTED)
    log.append(
        {
            "session_id": worst["session_id"],
            "arm": worst["arm"],
            "ended_at": worst["at"],
            "tools": ["table_lookup", "calculator"],
            "stop_reason": "answered",
            "content": {
                "messages": [{"role": "user", "content": "my key is sk-proj-abcdefghijklmnopqrstuvwxyz012345"}]
            },
        }
    )
    log.close()
    found = weekly_review(place.store, place.workflow, WEEK, weeks=1, costs=costs, session_log=tmp_path / "sessions")[
        "worst"
    ][0]
    assert found["session_id"] == worst["session_id"]
    assert found["tools"] == ["table_lookup", "calculator"]
    assert found["stop_reason"] == "answered"
    assert "sk-proj" not in json.dumps(found)


def test_an_empty_week_is_told_as_such(place: ReleasePlace) -> None:
    found = weekly_review(place.store, place.workflow, "2020-W10", weeks=3, costs=CostsConfig())
    text = review_document(found).to_text()
    assert found["scaling"]["action"] == "unknown"
    assert "no session in this week" in text
    assert "n/a" in text


def test_what_models_wrote_is_text_in_the_terminal_in_markdown_and_on_the_page(place: ReleasePlace) -> None:
    """T17."""
    evil = "</td><script>alert(1)</script>\x1b[2J|`x`"
    tell(place, canary_sessions=100)
    found = weekly_review(place.store, place.workflow, WEEK, weeks=1, costs=CostsConfig())
    found["worst"][0] |= {"intent": evil, "tools": [evil], "content": [{"role": evil, "content": evil}]}
    found["workflow"] = evil
    document = review_document(found)
    assert "\x1b" not in document.to_text() + document.to_markdown() + document.to_html()
    assert "<script" not in document.to_html()
    assert "<script" not in document.to_markdown().replace(r"\<", "")
