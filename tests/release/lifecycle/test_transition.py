"""The map of states, compare-and-swap, and what a step does to routing and to the workflow."""

from __future__ import annotations

import threading

import pytest

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, ConflictError, ReleaseError
from agentrl.release.lifecycle.audit_log import read_entries
from agentrl.release.lifecycle.read import list_releases, read_release, read_workflow
from agentrl.release.lifecycle.share import change_share
from agentrl.release.lifecycle.start import start_release
from agentrl.release.lifecycle.states import NEXT
from agentrl.release.lifecycle.transition import GuardError, transition
from agentrl.release.place import ReleasePlace
from agentrl.release.records import ReleaseState
from agentrl.release.registry.manifest import bundle_id
from agentrl.release.routing import read_routing
from agentrl.release.store.tables import bundles, incidents
from tests.lifecycle_story import (
    BASELINE,
    CANDIDATE,
    NOW,
    WARM,
    brought_to,
    release_config,
    rolled_back,
    started,
    step,
)

S = ReleaseState


def test_a_release_goes_from_draft_to_all_users(place: ReleasePlace) -> None:
    release = started(place)
    assert (release.state, release.version, release.started_by) == (S.DRAFT, 1, "ada")
    assert read_routing(place.store, "support") is None

    release = step(place, release, S.OFFLINE_EVAL, now=NOW + 1)
    assert read_routing(place.store, "support") is None

    release = step(place, release, S.SHADOW, now=NOW + 2)
    shadow = read_routing(place.store, "support")
    assert shadow is not None
    assert (shadow.channel, shadow.release_id, shadow.candidate_upstream) == ("shadow", release.id, "tuned")
    assert (shadow.share_percent, shadow.lease_renewal, shadow.general_upstream) == (0.0, 0, "stable")

    release = step(place, release, S.CANARY, now=NOW + 3)
    canary = read_routing(place.store, "support")
    assert canary is not None
    assert (canary.channel, canary.share_percent, canary.salt) == ("canary", 5.0, shadow.salt)
    assert canary.lease_renewal == 1
    assert canary.epoch == shadow.epoch + 1

    release = step(place, release, S.GENERAL, now=NOW + 4)
    general = read_routing(place.store, "support")
    assert general is not None
    assert (general.general_upstream, general.general_bundle) == ("tuned", CANDIDATE)
    assert (general.release_id, general.channel) == (release.id, "general")
    assert (general.candidate_upstream, general.share_percent) == ("", 0.0)
    workflow = read_workflow(place)
    assert (workflow.previous_upstream, workflow.previous_bundle) == ("stable", BASELINE)
    assert (release.version, release.entered_at) == (5, NOW + 4)
    assert release == read_release(place, release.id)


@pytest.mark.parametrize(
    ("state", "to"),
    [
        (S.DRAFT, S.SHADOW),
        (S.DRAFT, S.CANARY),
        (S.DRAFT, S.ROLLED_BACK),
        (S.OFFLINE_EVAL, S.GENERAL),
        (S.SHADOW, S.GENERAL),
        (S.SHADOW, S.OFFLINE_EVAL),
        (S.CANARY, S.SHADOW),
        (S.CANARY, S.REJECTED),
        (S.GENERAL, S.CANARY),
    ],
)
def test_a_step_that_the_map_does_not_have_names_those_that_it_has(
    place: ReleasePlace, state: ReleaseState, to: ReleaseState
) -> None:
    release = started(place) if state is S.DRAFT else brought_to(place, state)
    lines = len(read_entries(place.audit_log))
    with pytest.raises(ReleaseError, match=f"allowed: {', '.join(NEXT[state])}"):
        transition(
            place, release.id, to, actor="ada", expected_version=release.version, evidence={}, now=NOW, checks=WARM
        )
    assert read_release(place, release.id) == release
    assert len(read_entries(place.audit_log)) == lines


def test_nothing_follows_an_end(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY)
    release = rolled_back(place, release, now=NOW + 9)
    with pytest.raises(ReleaseError, match="it is an end"):
        step(place, release, S.GENERAL, now=NOW + 10)


def test_a_step_on_an_old_version_is_a_conflict(place: ReleasePlace) -> None:
    release = started(place)
    step(place, release, S.OFFLINE_EVAL, now=NOW + 1)
    with pytest.raises(ConflictError, match="version 2"):
        step(place, release, S.OFFLINE_EVAL, now=NOW + 2)


def test_of_two_who_promote_at_once_one_does(place: ReleasePlace) -> None:
    """F53."""
    release = brought_to(place, S.CANARY)
    seen: list[str] = []
    ready = threading.Barrier(4)

    def promote() -> None:
        ready.wait()
        try:
            step(place, release, S.GENERAL, now=NOW + 9)
            seen.append("won")
        except ConflictError:
            seen.append("conflict")

    threads = [threading.Thread(target=promote) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == ["conflict"] * 3 + ["won"]


@pytest.mark.parametrize("first", ["promote", "rollback"])
def test_rollback_beats_promotion_whichever_comes_first(place: ReleasePlace, first: str) -> None:
    """F53: and there is one incident (F52)."""
    release = brought_to(place, S.CANARY)
    if first == "promote":
        step(place, release, S.GENERAL, now=NOW + 9)
    rolled_back(place, release, now=NOW + 10)
    if first == "rollback":
        with pytest.raises(ConflictError):
            step(place, release, S.GENERAL, now=NOW + 11)
    assert read_release(place, release.id).state is S.ROLLED_BACK
    routing = read_routing(place.store, "support")
    assert routing is not None
    assert (routing.general_upstream, routing.share_percent, routing.release_id) == ("stable", 0.0, "")
    assert read_workflow(place).general_upstream == "stable"
    with place.store.read() as connection:
        assert len(connection.execute(incidents.select()).all()) == 1


def test_rollback_and_promotion_at_the_same_moment_end_rolled_back(place: ReleasePlace) -> None:
    """F53."""
    release = brought_to(place, S.CANARY)
    ready = threading.Barrier(2)

    def promote() -> None:
        ready.wait()
        try:
            step(place, release, S.GENERAL, now=NOW + 9)
        except ConflictError:
            return

    thread = threading.Thread(target=promote)
    thread.start()
    ready.wait()
    rolled_back(place, release, now=NOW + 9)
    thread.join()
    assert read_release(place, release.id).state is S.ROLLED_BACK
    assert read_workflow(place).general_upstream == "stable"


def test_a_second_rollback_changes_nothing(place: ReleasePlace) -> None:
    """F52: one incident, one line, one epoch."""
    release = rolled_back(place, brought_to(place, S.CANARY), now=NOW + 9)
    lines, routing = read_entries(place.audit_log), read_routing(place.store, "support")
    assert rolled_back(place, release, now=NOW + 10) == release
    assert read_entries(place.audit_log) == lines
    assert read_routing(place.store, "support") == routing


@pytest.mark.parametrize("state", [S.DRAFT, S.OFFLINE_EVAL, S.SHADOW])
def test_what_users_have_not_seen_is_rejected_and_no_incident(place: ReleasePlace, state: ReleaseState) -> None:
    release = started(place) if state is S.DRAFT else brought_to(place, state)
    ended = transition(place, release.id, S.REJECTED, actor="ada", expected_version=None, evidence={}, now=NOW + 9)
    assert ended.state is S.REJECTED
    routing = read_routing(place.store, "support")
    assert routing is None or routing.release_id == ""
    with place.store.read() as connection:
        assert connection.execute(incidents.select()).all() == []


def test_the_next_promotion_supersedes_the_last_one(place: ReleasePlace) -> None:
    first = brought_to(place, S.GENERAL)
    second = brought_to(place, S.GENERAL, candidate="third", now=NOW + 100)
    assert [each.state for each in list_releases(place)] == [S.SUPERSEDED, S.GENERAL]
    workflow = read_workflow(place)
    assert (workflow.general_upstream, workflow.previous_upstream) == ("third", "tuned")
    assert second.baseline_upstream == "tuned"
    rolled_back(place, second, now=NOW + 200)
    assert read_workflow(place).general_upstream == "tuned"
    assert read_release(place, first.id).state is S.SUPERSEDED


def test_a_general_release_that_goes_takes_the_canary_against_it_along(place: ReleasePlace) -> None:
    first = brought_to(place, S.GENERAL)
    second = brought_to(place, S.CANARY, candidate="third", now=NOW + 100)
    rolled_back(place, first, now=NOW + 200)
    assert read_release(place, second.id).state is S.ROLLED_BACK
    routing = read_routing(place.store, "support")
    assert routing is not None
    assert (routing.general_upstream, routing.candidate_upstream, routing.share_percent) == ("stable", "", 0.0)


def test_one_release_at_a_time(place: ReleasePlace) -> None:
    started(place)
    with pytest.raises(ConflictError, match="under way"):
        start_release(place, release_config(), "third", actor="ada", now=NOW + 1)


@pytest.mark.parametrize(
    ("candidate", "bundle", "message"),
    [
        ("tunned", "", "found 'tunned'; allowed: stable, tuned, third"),
        ("stable", "", "serves all users already"),
        ("tuned", "sha256:" + "f" * 64, "found sha256:ffff"),
        ("tuned", "f00d", "bundle f00d: none of that id"),
    ],
)
def test_a_start_says_what_is_wrong(place: ReleasePlace, candidate: str, bundle: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        start_release(place, release_config(), candidate, actor="ada", now=NOW, bundle=bundle)
    assert list_releases(place) == []


def test_a_start_takes_the_beginning_of_a_bundle_s_id_and_keeps_the_whole_of_it(place: ReleasePlace) -> None:
    whole = _bundle_kept(place)
    config = release_config().model_dump(include={"workflow", "release", "gateway"})
    config["gateway"]["upstreams"]["tuned"]["bundle"] = ""
    release = start_release(place, RunConfig.model_validate(config), "tuned", actor="ada", now=NOW, bundle=whole[7:13])
    assert release.candidate_bundle == whole


def test_a_config_names_bundles_by_their_whole_ids(place: ReleasePlace) -> None:
    whole = _bundle_kept(place)
    config = release_config().model_dump(include={"workflow", "release", "gateway"})
    config["gateway"]["upstreams"]["tuned"]["bundle"] = whole[:13]
    with pytest.raises(ConfigError, match=f"tuned.bundle: found '{whole[:13]}'; allowed: the whole id, {whole}"):
        start_release(place, RunConfig.model_validate(config), "tuned", actor="ada", now=NOW)


def _bundle_kept(place: ReleasePlace) -> str:
    """Id of a bundle whose manifest holds next to nothing."""
    manifest = {"name": "new"}
    row = {"id": bundle_id(manifest), "name": "new", "created_at": NOW, "manifest": manifest}
    with place.store.write() as connection:
        connection.execute(place.store.insert(bundles).values(**row))
    return bundle_id(manifest)


def test_a_larger_share_keeps_salt_and_release(place: ReleasePlace) -> None:
    release = brought_to(place, S.CANARY)
    before = read_routing(place.store, "support")
    changed = change_share(place, release.id, 10, actor="ada", expected_version=release.version, now=NOW + 9)
    after = read_routing(place.store, "support")
    assert before is not None
    assert after is not None
    assert (after.share_percent, after.salt, after.release_id) == (10.0, before.salt, release.id)
    assert after.lease_renewal == before.lease_renewal
    assert (changed.share_percent, changed.entered_at) == (10.0, release.entered_at)
    with pytest.raises(ConflictError):
        change_share(place, release.id, 20, actor="eve", expected_version=release.version, now=NOW + 10)
    with pytest.raises(ConfigError, match="up to 50"):
        change_share(place, release.id, 51, actor="eve", expected_version=changed.version, now=NOW + 10)


def test_a_bundle_that_nobody_registered_goes_nowhere(place: ReleasePlace) -> None:
    release = start_release(place, release_config(), "tuned", actor="ada", now=NOW)
    with pytest.raises(GuardError, match="none of that id"):
        transition(place, release.id, S.OFFLINE_EVAL, actor="ada", expected_version=1, evidence={}, now=NOW + 1)
