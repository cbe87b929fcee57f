"""People's word: bound to what was seen, for a while, once."""

from __future__ import annotations

from typing import Any

import pytest

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.approvals import approve
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.share import change_share
from agentrl.release.lifecycle.transition import GuardError
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Outcome, Release, ReleaseState
from agentrl.release.store.tables import approvals
from tests.lifecycle_story import NOW, brought_to, keep_verdict, step

S = ReleaseState
RULES: dict[str, Any] = {
    "approvals": ["general"],
    "gates": [{"name": "task_success_not_worse", "stages": ["canary"]}],
}


def canary(place: ReleasePlace, **rules: Any) -> Release:
    release = brought_to(place, S.CANARY, **RULES | rules)
    keep_verdict(place, release.id, "task_success_not_worse", Outcome.PASS, at=NOW + 10)
    return release


def test_without_a_word_there_is_no_step(place: ReleasePlace) -> None:
    with pytest.raises(GuardError, match="nobody has approved general; `agentrl release approve"):
        step(place, canary(place), S.GENERAL, now=NOW + 20)


def test_with_it_there_is_and_it_is_used_up(place: ReleasePlace) -> None:
    release = canary(place)
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 15)
    assert step(place, release, S.GENERAL, now=NOW + 20).state is S.GENERAL
    with place.store.read() as connection:
        (row,) = connection.execute(approvals.select()).all()
    assert (row.approver, row.used_at) == ("grace", NOW + 20)


def test_another_look_that_finds_the_same_leaves_it_standing(place: ReleasePlace) -> None:
    release = canary(place)
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 15)
    keep_verdict(place, release.id, "task_success_not_worse", Outcome.PASS, at=NOW + 16, look_no=2)
    step(place, release, S.GENERAL, now=NOW + 20)


@pytest.mark.parametrize("what", ["a gate turned and turned back to another row", "another share", "another gate"])
def test_what_changed_since_is_not_what_was_approved(place: ReleasePlace, what: str) -> None:
    """T13: an old approval of a changed context does not count."""
    release = canary(place)
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 15)
    if what == "another share":
        release = change_share(place, release.id, 10, actor="ada", expected_version=release.version, now=NOW + 16)
    elif what == "another gate":
        keep_verdict(place, release.id, "latency", Outcome.PASS, at=NOW + 16)
    else:
        keep_verdict(place, release.id, "task_success_not_worse", Outcome.INCONCLUSIVE, at=NOW + 16, look_no=2)
    with pytest.raises(GuardError, match="what grace approved for general has changed since"):
        step(place, release, S.GENERAL, now=NOW + 20)


def test_it_ends_with_time(place: ReleasePlace) -> None:
    release = canary(place, approval_valid="PT60S")
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 15)
    with pytest.raises(GuardError, match="has expired"):
        step(place, release, S.GENERAL, now=NOW + 75)
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 76)
    step(place, release, S.GENERAL, now=NOW + 77)


def test_a_later_no_takes_it_away(place: ReleasePlace) -> None:
    release = canary(place)
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 15)
    approve(place, release.id, S.GENERAL, approver="eve", now=NOW + 16, is_denied=True)
    with pytest.raises(GuardError, match="eve said no"):
        step(place, release, S.GENERAL, now=NOW + 20)


def test_who_started_it_is_refused_where_the_rules_ask_for_another(place: ReleasePlace) -> None:
    release = canary(place, approver_is_other=True)
    with pytest.raises(ConfigError, match="ada started"):
        approve(place, release.id, S.GENERAL, approver="ada", now=NOW + 15)
    approve(place, release.id, S.GENERAL, approver="ada", now=NOW + 16, is_denied=True)
    approve(place, release.id, S.GENERAL, approver="grace", now=NOW + 17)
    step(place, release, S.GENERAL, now=NOW + 20)


@pytest.mark.parametrize("to", [S.ROLLED_BACK, S.REJECTED, S.SHADOW])
def test_only_the_next_step_can_be_approved(place: ReleasePlace, to: ReleaseState) -> None:
    release = canary(place)
    with pytest.raises((ReleaseError, ConfigError), match="allowed"):
        approve(place, release.id, to, approver="grace", now=NOW + 15)
    assert read_release(place, release.id) == release


def test_nobody_is_no_approver(place: ReleasePlace) -> None:
    with pytest.raises(ConfigError, match="needs a name"):
        approve(place, canary(place).id, S.GENERAL, approver="  ", now=NOW + 15)
