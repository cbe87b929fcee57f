"""The JSON twin: every number with its source, the same from the same store, honest where there is nothing."""

from __future__ import annotations

import json
import math
import random

import pytest

from agentrl.errors import ConfigError
from agentrl.release.brief.figure import figures_in
from agentrl.release.brief.records import find_release, read_records
from agentrl.release.brief.twin import BLOCKS, brief_twin, twin_digest
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from tests.release.brief.sources import value_at
from tests.release.story import PROMOTED, incident, keep_sessions, keep_weeks, release_config, session_row, tell


def test_every_number_is_what_its_source_says(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=800, is_shown=True)
    incident(place, story.release.id, PROMOTED - 86400)
    keep_weeks(place, release_config())
    twin = brief_twin(read_records(place.store, story.release.id))
    found = list(figures_in(twin))
    assert len(found) > 150
    for path, figure in found:
        told = value_at(place, twin, figure["source"])
        if figure["value"] is None:
            assert not isinstance(told, int | float) or math.isnan(told), path
        else:
            assert told == pytest.approx(figure["value"], rel=1e-12), (path, figure["source"])


def test_numbers_stand_nowhere_but_in_figures(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=300)
    twin = brief_twin(read_records(place.store, story.release.id))

    def bare(part: object) -> bool:
        if isinstance(part, dict):
            return part.keys() != {"value", "unit", "source"} and any(bare(each) for each in part.values())
        if isinstance(part, list):
            return any(bare(each) for each in part)
        return isinstance(part, int | float) and not isinstance(part, bool)

    assert not bare(twin)


def test_the_same_store_gives_the_same_bytes(place: ReleasePlace) -> None:
    story = tell(place, state=ReleaseState.SHADOW)
    first, second = (brief_twin(read_records(place.store, story.release.id)) for _ in range(2))
    assert json.dumps(first) == json.dumps(second)
    assert twin_digest(first) == twin_digest(second)
    assert list(first)[1:] == list(BLOCKS)


def test_a_release_without_evidence_says_so(place: ReleasePlace) -> None:
    story = tell(place, state=ReleaseState.DRAFT)
    twin = brief_twin(read_records(place.store, story.release.id))
    assert not twin["header"]["has_evidence"]
    assert twin["header"]["counts"]["pass"]["value"] == 0
    assert {row["verdict"] for row in twin["gates"]["rows"]} == {"missing"}
    assert twin["tested"]["missing"] == ["capability", "adversarial", "frozen"]
    assert twin["live"]["sessions"]["candidate"]["value"] == 0
    assert all(row["candidate"]["value"] is None for row in twin["live"]["rows"])


def test_what_is_inconclusive_is_told_as_such(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=100)
    twin = brief_twin(read_records(place.store, story.release.id))
    canary = [row for row in twin["gates"]["rows"] if row["stage"] == "canary"]
    assert {row["verdict"] for row in canary} == {"inconclusive"}
    assert {row["gate"] for row in canary} <= set(twin["limits"]["undecided"])


def test_each_part_of_the_bundle_is_changed_or_unchanged_by_its_digest(place: ReleasePlace) -> None:
    story = tell(place, state=ReleaseState.OFFLINE_EVAL)
    states = {
        row["part"]: row["state"] for row in brief_twin(read_records(place.store, story.release.id))["changed"]["rows"]
    }
    assert states == {
        "policy": "changed",
        "reward_model": "unchanged",
        "graders": "unchanged",
        "data": "unchanged",
        "prompts": "changed",
        "tools": "unchanged",
    }


def test_sessions_that_an_admin_forced_are_not_counted(place: ReleasePlace) -> None:
    """T15."""
    story = tell(place, canary_sessions=100)
    before = brief_twin(read_records(place.store, story.release.id))["live"]["sessions"]
    row = session_row(
        place,
        999_999,
        PROMOTED - 5 * 86400,
        random.Random(0),
        release_id=story.release.id,
        channel="canary",
        is_forced=True,
    )
    keep_sessions(place, [row])
    assert brief_twin(read_records(place.store, story.release.id))["live"]["sessions"] == before


def test_secrets_that_people_wrote_into_an_incident_are_not_printed(place: ReleasePlace) -> None:
    """T8."""
    story = tell(place, state=ReleaseState.DRAFT)
    incident(place, story.release.id, PROMOTED, cause="key sk-proj-abcdefghijklmnopqrstuvwxyz0123456789 leaked")
    assert "sk-proj" not in json.dumps(brief_twin(read_records(place.store, story.release.id)))


def test_a_release_is_found_by_the_beginning_of_its_id(place: ReleasePlace) -> None:
    tell(place, state=ReleaseState.DRAFT, release_id="support-1")
    tell(place, state=ReleaseState.DRAFT, release_id="support-2", is_first=False)
    assert find_release(place.store, "support-1") == "support-1"
    assert find_release(place.store, "latest") in ("support-1", "support-2")
    with pytest.raises(ConfigError, match="2 releases"):
        find_release(place.store, "support-")
    with pytest.raises(ConfigError, match="no such release"):
        find_release(place.store, "other")
