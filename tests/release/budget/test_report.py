"""The frame and the phases are filled from the records; what is not recorded never speaks for going on."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentrl.release.budget.kept import read_budgets
from agentrl.release.budget.report import budget_document, budget_report
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from tests.release.story import COSTS, NOW, incident, release_config, tell

GENEROUS = release_config(costs={**COSTS, "value_per_success": 5.0})


def report(place: ReleasePlace, config: Any = GENEROUS, **more: Any) -> dict[str, Any]:
    return budget_report(place, config, "2026-W45", weeks=5, now=NOW, **more)


def test_a_release_that_served_a_quiet_week_is_go_in_all_phases(place: ReleasePlace) -> None:
    tell(place)
    found = report(place)
    assert [(axis["name"], axis["says"]) for axis in found["frame"]] == [
        ("unit economics", "for"),
        ("quality", "for"),
        ("velocity", "for"),
        ("credibility", "for"),
    ]
    assert [(phase["name"], phase["is_go"]) for phase in found["phases"]] == [
        ("validation", True),
        ("reliability", True),
        ("expansion", True),
    ]


def test_nothing_recorded_is_no_go_and_unknown(place: ReleasePlace) -> None:
    found = report(place, release_config(costs={}, owners={}))
    assert {axis["says"] for axis in found["frame"]} == {"unknown"}
    assert not any(phase["is_go"] for phase in found["phases"])
    missing = [each["missing"] for phase in found["phases"] for each in phase["conditions"] if not each["is_met"]]
    assert "none has" in missing
    assert "not measured: capability, adversarial, frozen" in missing
    assert "0 of 3 are recorded" in missing
    assert "release.owners lacks: ml, platform, product" in missing


def test_a_score_of_fewer_than_three_weeks_says_nothing_for_quality(place: ReleasePlace) -> None:
    tell(place)
    quality = budget_report(place, GENEROUS, "2026-W45", weeks=2, now=NOW)["frame"][1]
    assert (quality["name"], quality["says"]) == ("quality", "unknown")
    assert quality["because"] == "whether the reliability score falls takes 3 weeks; it is known of 2"


def test_people_whose_every_line_is_missing_cost_no_zero(place: ReleasePlace) -> None:
    tell(place)
    told = budget_document(report(place, release_config(costs={})))
    table = told.sections[0].parts[0]
    assert {row[5] for row in table.rows} == {"n/a"}


def test_a_draft_is_no_go_and_says_what_lacks(place: ReleasePlace) -> None:
    tell(place, state=ReleaseState.DRAFT)
    (validation, *_) = report(place)["phases"]
    lacks = {each["what"]: each["missing"] for each in validation["conditions"]}
    assert lacks["all offline gates pass"] == "none of 2 was looked at"


def test_an_open_incident_speaks_against_it(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=200)
    incident(place, story.release.id, NOW - 86400, is_closed=False)
    found = report(place)
    assert found["frame"][3]["says"] == "against"
    stable = next(each for each in found["phases"][1]["conditions"] if each["what"] == "stable for a week")
    assert "1 incident in the last 7 days" in stable["missing"]


def test_an_audit_log_that_was_altered_speaks_against_it(place: ReleasePlace) -> None:
    """T16."""
    tell(place, canary_sessions=200)
    lines = place.audit_log.read_text("utf-8").splitlines(keepends=True)
    place.audit_log.write_text("".join([lines[0], lines[1].replace("amina", "alina"), *lines[2:]]), "utf-8")
    axis = report(place)["frame"][3]
    assert axis["says"] == "against"
    assert ":2:" in axis["because"]


def test_missing_lines_print_optimistic_by_default_and_no_zero(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    text = budget_document(report(place, release_config(costs={}))).to_text()
    for line in ("relabelling", "suite_upkeep", "incidents"):
        (row,) = [each for each in text.splitlines() if each.startswith(f"{line} ") and "not given" in each]
        assert "optimistic by default" in row
        assert "0.00" not in row


def test_weeks_are_kept_once_each_and_only_on_request(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    report(place)
    assert read_budgets(place.store, place.workflow) == []
    report(place, keep=True)
    report(place, keep=True)
    kept = read_budgets(place.store, place.workflow)
    assert [each["week"] for each in kept] == ["2026-W41", "2026-W42", "2026-W43", "2026-W44", "2026-W45"]
    assert kept[-1]["figures"]["score"] is not None


@pytest.mark.parametrize("form", ["to_text", "to_markdown", "to_html"])
def test_names_of_lines_are_text(place: ReleasePlace, form: str) -> None:
    """T17."""
    tell(place, state=ReleaseState.DRAFT)
    config = release_config(costs={"other": {"<script>\x1b[2J": {"amount": 1.0}}})
    written = getattr(budget_document(report(place, config)), form)()
    assert "\x1b" not in written
    assert form == "to_text" or "<script" not in written.replace(r"\<", "")


def test_the_same_store_gives_the_same_report(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    assert json.dumps(report(place)) == json.dumps(report(place))
