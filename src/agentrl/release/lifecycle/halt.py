"""Two failures within a week stop a workflow: no new canary and no larger share, until a person releases it.

One failure is the first `fail` of a gate in a release; later looks at the same broken gate are the same failure.
`count_by: incident` takes all gates that one release broke for one. A week is 168 hours, its end included, between
two instants in UTC: neither the calendar nor the order in which failures are told matters.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from sqlalchemy import select

from agentrl.errors import ConfigError, ReleaseError
from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import Workflow, read_release, read_workflow
from agentrl.release.lifecycle.rules import rules_of
from agentrl.release.lifecycle.verdicts import latest_verdicts
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Outcome, ReleaseState
from agentrl.release.store import tables

WEEK = timedelta(hours=168)
EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, order=True)
class Failure:
    """One `fail` of a gate."""

    at: datetime
    """UTC."""
    release_id: str
    gate: str


def halting_pair(
    failures: Iterable[Failure],
    *,
    count_from: datetime = EVER,
    count_by: Literal["failure", "incident"] = "failure",
) -> tuple[Failure, Failure] | None:
    """The first two distinct failures that lie at most a week apart; None where there are none.

    Args:
        failures: in any order, each as often as one likes.
        count_from: a failure that began at this instant or earlier was answered for by a person.
        count_by: incident: what one release broke is one failure.
    """
    first: dict[tuple[str, str], Failure] = {}
    # datetimes of one zone are subtracted by their clock faces, which leap at the end of summer time
    told = {replace(each, at=each.at.astimezone(UTC)) for each in failures}
    for each in sorted(told):
        first.setdefault((each.release_id, "" if count_by == "incident" else each.gate), each)
    counted = [each for each in first.values() if each.at > count_from]  # in the order of time
    for earlier, later in itertools.pairwise(counted):
        if later.at - earlier.at <= WEEK:
            return earlier, later
    return None


def read_failures(place: ReleasePlace) -> list[Failure]:
    """All looks of the workflow's releases that failed a gate."""
    verdicts, releases = tables.verdicts.c, tables.releases.c
    with place.store.read() as connection:
        records = connection.execute(
            select(verdicts.record)
            .join(tables.releases, releases.id == verdicts.release_id)
            .where(releases.workflow == place.workflow, verdicts.verdict == str(Outcome.FAIL))
        ).scalars()
        return [
            Failure(datetime.fromisoformat(record["at"]), record["release_id"], record["gate"])
            for record in records
            if not record["is_shown_only"]
        ]


def halt_if_needed(place: ReleasePlace, *, count_by: Literal["failure", "incident"], now: float) -> Workflow:
    """Halt the workflow if two failures say so; returns its row. Asked again, it does nothing again."""
    workflow = read_workflow(place)
    if workflow.is_halted or _pair(place, workflow, count_by) is None:
        return workflow
    with ledger(place) as books:
        workflow = read_workflow(place)
        pair = _pair(place, workflow, count_by)
        if workflow.is_halted or pair is None:
            return workflow
        failures = [{**asdict(each), "at": each.at.isoformat()} for each in pair]
        said = " and ".join(f"{each.gate} of {each.release_id} at {each.at:%Y-%m-%d %H:%M} UTC" for each in pair)
        reason = f"two failures within a week: {said}"
        changes = _halted(workflow, reason, failures, now)
        books.record("halt", actor="controller", now=now, release_id=pair[1].release_id, changes=changes)
    return read_workflow(place)


def halt(place: ReleasePlace, *, actor: str, reason: str, now: float) -> Workflow:
    """Halt the workflow by hand.

    Raises:
        ConfigError: no reason is given.
    """
    if not reason.strip():
        raise ConfigError("--reason is needed: the one who releases the halt reads it")
    with ledger(place) as books:
        workflow = read_workflow(place)
        if not workflow.is_halted:
            books.record("halt", actor=actor, now=now, changes=_halted(workflow, reason, [], now))
    return read_workflow(place)


def resume(place: ReleasePlace, *, actor: str, reason: str, fix: str, rerun: str, now: float) -> Workflow:
    """Release a halt: failures count anew from this instant.

    Args:
        fix: where what was repaired can be seen, such as the address of a change.
        rerun: a release whose offline gates were all read after the halt, and passed.

    Raises:
        ConfigError: a reason or a fix is not given, or there is no such release.
        ReleaseError: the workflow is not halted, or the re-run did not pass.
    """
    for option, text in (("--reason", reason), ("--fix", fix)):
        if not text.strip():
            raise ConfigError(f"{option} is needed to release a halt")
    with ledger(place) as books:
        workflow = read_workflow(place)
        if workflow.halted_at is None:
            raise ReleaseError(f"{place.workflow} is not halted")
        release = read_release(place, rerun)
        passed = latest_verdicts(place, release, ReleaseState.OFFLINE_EVAL)
        wanted = [gate.name for gate in rules_of(release).gates if "offline_eval" in gate.stages]
        for name in [*wanted, *passed]:
            verdict = passed.get(name)
            if verdict is None or datetime.fromisoformat(verdict.at).timestamp() <= workflow.halted_at:
                raise ReleaseError(f"{release.id}: gate {name} was not read offline since the halt")
            if verdict.verdict is not Outcome.PASS:
                raise ReleaseError(f"{release.id}: gate {name}: {verdict.verdict} offline ({verdict.reason})")
        if not passed:
            raise ReleaseError(f"{release.id} has no verdict of an offline evaluation since the halt")
        row = {
            "name": workflow.name,
            "halted_at": None,
            "halt": None,
            "failures_count_from": now,
            "version": workflow.version + 1,
        }
        books.record(
            "resume",
            actor=actor,
            now=now,
            release_id=release.id,
            changes={"workflows": [row]},
            reason=reason,
            fix=fix,
            rerun=[verdict.to_record() for verdict in passed.values()],
            was=dict(workflow.halt or {}),
        )
    return read_workflow(place)


def _pair(
    place: ReleasePlace, workflow: Workflow, count_by: Literal["failure", "incident"]
) -> tuple[Failure, Failure] | None:
    since = datetime.fromtimestamp(workflow.failures_count_from, UTC)
    return halting_pair(read_failures(place), count_from=since, count_by=count_by)


def _halted(workflow: Workflow, reason: str, failures: list[dict[str, Any]], now: float) -> dict[str, Any]:
    row = {
        "name": workflow.name,
        "halted_at": now,
        "halt": {"reason": reason, "failures": failures},
        "version": workflow.version + 1,
    }
    return {"workflows": [row], "alerts": [_alert(workflow.name, reason, now)]}


def _alert(workflow: str, reason: str, now: float) -> dict[str, Any]:
    return {"id": f"halt-{workflow[:40]}-{now:.3f}", "workflow": workflow, "at": now, "kind": "halt", "text": reason}
