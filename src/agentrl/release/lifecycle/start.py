"""How a release begins: a draft, under the config's rules as they are at that instant."""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any

from agentrl.config import RunConfig
from agentrl.errors import ConfigError, ConflictError
from agentrl.release.budget.second_workflow import check_second_workflow
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_workflow, release_under_way
from agentrl.release.lifecycle.rules import frozen_rules
from agentrl.release.lifecycle.transition import release_row
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release, ReleaseState
from agentrl.release.registry import read_bundle

WHOLE_ID = re.compile(r"sha256:[0-9a-f]{64}")


def check_gates_of_canary(config: RunConfig) -> None:
    """Refuse a config under which a canary would be promoted without anything that could speak against it.

    Raises:
        ConfigError: no gate is read in the canary.
    """
    gates = config.release.gates if config.release else ()
    if not any("canary" in gate.stages for gate in gates):
        raise ConfigError(
            "release.gates: none is read in the canary, so nothing could keep a candidate from all users; the "
            "shortest: gates: [task_success_not_worse]"
        )


def start_release(
    place: ReleasePlace, config: RunConfig, candidate: str, *, actor: str, now: float, bundle: str = ""
) -> Release:
    """A draft of a new release of the upstream `candidate`, under the config's rules as they are now.

    Args:
        candidate: name of one of the config's `gateway.upstreams`.
        bundle: id of what it serves, or its beginning, where the config does not say.

    Raises:
        ConfigError: the config has no such upstream, or says another bundle; or no bundle's id begins so.
        ConflictError: another release is under way.
        ReleaseError: it cannot be recorded, or another workflow comes first (`budget/second_workflow.py`).
    """
    rules = frozen_rules(config)
    assert config.gateway is not None
    upstreams = config.gateway.upstreams
    if candidate not in upstreams:
        raise ConfigError(f"gateway.upstreams: found '{candidate}'; allowed: {', '.join(upstreams)}")
    said = _whole_id(place, candidate, upstreams[candidate].bundle)
    bundle = bundle if WHOLE_ID.fullmatch(bundle) or not bundle else read_bundle(place, bundle).id
    if said and bundle and said != bundle:
        raise ConfigError(f"gateway.upstreams.{candidate}.bundle is {said}; found {bundle}")
    with ledger(place) as books:
        if other := release_under_way(place):
            raise ConflictError(f"{other.id} is under way ({other.state}): end it first, `agentrl release rollback`")
        check_second_workflow(place.store, place.workflow, now=now)
        workflow = read_workflow(place)
        general = workflow.general_upstream or config.gateway.general
        if general not in upstreams:
            raise ConfigError(f"gateway.upstreams: '{general}' serves all users and is missing; put it back")
        if candidate == general:
            raise ConfigError(f"'{candidate}' serves all users already; a candidate is another upstream")
        release = Release(
            id=_new_id(place.workflow, now),
            workflow=place.workflow,
            candidate_bundle=said or bundle,
            candidate_upstream=candidate,
            baseline_bundle=workflow.general_bundle or _whole_id(place, general, upstreams[general].bundle),
            baseline_upstream=general,
            state=ReleaseState.DRAFT,
            version=1,
            share_percent=0.0,
            created_at=now,
            changed_at=now,
            config=rules,
            entered_at=now,
            evidence_since=0.0,
            started_by=actor,
        )
        changes: dict[str, Any] = {"releases": [release_row(release)]}
        if not workflow.general_upstream:
            served = {"general_bundle": release.baseline_bundle, "general_upstream": general}
            changes["workflows"] = [{"name": place.workflow, **served, "version": workflow.version + 1}]
        books.record("start", actor=actor, now=now, release_id=release.id, changes=changes, version=1)
    return release


def _whole_id(place: ReleasePlace, upstream: str, said: str) -> str:
    """What the config says that an upstream serves: gateways hold it against the release's id, digit by digit.

    Raises:
        ConfigError: it is only the beginning of an id.
    """
    if said and not WHOLE_ID.fullmatch(said):
        raise ConfigError(
            f"gateway.upstreams.{upstream}.bundle: found {said!r}; allowed: the whole id, {read_bundle(place, said).id}"
        )
    return said


def _new_id(workflow: str, now: float) -> str:
    """Sorts by day, reads well in a shell, and is nobody else's."""
    word = re.sub(r"[^a-z0-9]+", "-", workflow.lower()).strip("-")[:40].strip("-") or "release"
    return f"{word}-{datetime.fromtimestamp(now, UTC):%Y%m%d}-{secrets.token_hex(3)}"
