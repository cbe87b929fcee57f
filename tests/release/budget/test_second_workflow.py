"""A second workflow is refused until the first is stable for a week and pays."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ReleaseError
from agentrl.release.budget.second_workflow import check_second_workflow, second_workflow_problems
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.store.tables import verdicts, workflows
from tests.release.story import COSTS, DAY, NOW, PROMOTED, incident, keep_weeks, release_config, tell

GENEROUS = release_config(costs={**COSTS, "value_per_success": 5.0})


def problems(place: ReleasePlace, now: float = NOW) -> str:
    return "\n".join(second_workflow_problems(place.store, "billing", now=now))


def test_the_first_workflow_is_never_refused(place: ReleasePlace) -> None:
    check_second_workflow(place.store, place.workflow, now=NOW)
    tell(place, state=ReleaseState.SHADOW)
    check_second_workflow(place.store, place.workflow, now=NOW)


def test_a_second_starts_once_the_first_is_stable_and_pays(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    keep_weeks(place, GENEROUS)
    check_second_workflow(place.store, "billing", now=NOW)


def test_a_first_that_never_served_users_holds_nobody_up(place: ReleasePlace) -> None:
    tell(place, state=ReleaseState.OFFLINE_EVAL)
    check_second_workflow(place.store, "billing", now=NOW)


def test_it_waits_for_the_money_to_be_kept(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    with pytest.raises(ReleaseError, match="whether it pays is not known"):
        check_second_workflow(place.store, "billing", now=NOW)
    keep_weeks(place, GENEROUS, now=NOW - 21 * DAY)
    assert "was last kept for 2026-W43" in problems(place)


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({**COSTS, "value_per_success": 0.001}, "does not pay"),
        ({key: value for key, value in COSTS.items() if key != "suite_upkeep"}, "optimistic by default"),
        ({key: value for key, value in COSTS.items() if key != "value_per_success"}, "value_per_success is not given"),
    ],
    ids=["loss", "line missing", "no value"],
)
def test_it_waits_until_the_first_pays(place: ReleasePlace, costs: dict[str, Any], said: str) -> None:
    tell(place, canary_sessions=200)
    keep_weeks(place, release_config(costs=costs))
    assert said in problems(place)


def test_it_waits_a_week_from_the_promotion(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    keep_weeks(place, GENEROUS)
    assert "is general for 6.0 days" in problems(place, PROMOTED + 6 * DAY)
    assert "is general for" not in problems(place, PROMOTED + 7 * DAY)


def test_it_waits_a_week_from_the_last_incident_and_for_open_ones(place: ReleasePlace) -> None:
    story = tell(place, canary_sessions=200)
    keep_weeks(place, GENEROUS)
    incident(place, story.release.id, NOW - 3 * DAY)
    assert "1 incident in the last 7 days" in problems(place)
    assert "incident" not in problems(place, NOW + 5 * DAY)
    incident(place, story.release.id, NOW - 20 * DAY, is_closed=False)
    assert "1 older incident not closed" in problems(place, NOW + 5 * DAY)


def test_it_waits_for_a_halt_and_a_failed_gate(place: ReleasePlace) -> None:
    tell(place, canary_sessions=200)
    keep_weeks(place, GENEROUS)
    with place.store.write() as connection:
        connection.execute(workflows.insert().values(name=place.workflow, halted_at=NOW - DAY, halt={}))
        row = connection.execute(verdicts.select().limit(1)).one()
        values = {**row._mapping, "id": "sha256:failed", "verdict": "fail", "at": NOW - DAY}
        connection.execute(verdicts.insert().values(**values))
    assert "is halted" in problems(place)
    assert "1 gate failed in the last 7 days" in problems(place)
