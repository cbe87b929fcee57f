"""What `agentrl release` prints of releases: a table of all, a few lines of one, or JSON."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agentrl.printable import printable

if TYPE_CHECKING:
    from agentrl.release.place import ReleasePlace
    from agentrl.release.records import Release, ReleaseState

REPORTING_SECONDS = 10.0
"""A gateway whose row is older is not counted."""


def when(at: float | None) -> str:
    """Seconds since 1970 as people read them, in UTC."""
    return "-" if at is None else f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def release_record(each: Release) -> dict[str, Any]:
    """As JSON."""
    from dataclasses import asdict

    return {**asdict(each), "state": str(each.state)}


def print_json(value: Any) -> None:
    """For machines."""
    from agentrl.runs.files import to_json

    print(to_json(value, indent=2))


def print_release(place: ReleasePlace, found: Release, as_json: bool) -> None:
    """One release, for people or for machines."""
    if as_json:
        print_json(release_record(found))
    else:
        print("\n".join(_lines(place, found)))
    sys.stdout.flush()


def release_table(found: list[Release]) -> Iterator[str]:
    """A line each, below a head."""
    width = max(len(each.id) for each in found)
    yield f"{'release':<{width}}  state         share  candidate -> baseline        since"
    for each in found:
        arms = f"{each.candidate_upstream} -> {each.baseline_upstream}"
        yield (
            f"{each.id:<{width}}  {each.state!s:<12}  {each.share_percent:>4g}%  {printable(arms):<27}  "
            f"{when(each.entered_at or each.changed_at)}"
        )


def _lines(place: ReleasePlace, found: Release) -> Iterator[str]:
    yield f"{found.id}: {found.state}, version {found.version}, since {when(found.entered_at or found.changed_at)}"
    yield f"  candidate  {printable(found.candidate_upstream)}  {found.candidate_bundle[:19] or 'no bundle'}"
    yield f"  baseline   {printable(found.baseline_upstream)}  {found.baseline_bundle[:19] or 'no bundle'}"
    if found.share_percent:
        yield f"  share      {found.share_percent:g} % of sessions"
    if found.verdicts_since and (change := _last_change(place, found)):
        yield f"  graders    {printable(change)} ({when(found.verdicts_since)})"
    if str(found.state) == "canary":
        yield f"  gateways   {_gateways(place)}"
    for gap in what_is_missing(place, found):
        yield f"  missing    {printable(gap)}"


def _last_change(place: ReleasePlace, found: Release) -> str:
    from agentrl.release.lifecycle.graders import last_change

    return last_change(place, found)


def _gateways(place: ReleasePlace) -> str:
    """How many report, and whether they hold the lease: without a controller they do not."""
    from agentrl.release.lifecycle.drain import read_replicas

    rows = [row for row in read_replicas(place) if abs(time.time() - row["seen_at"]) <= REPORTING_SECONDS]
    held = sum(row["has_lease"] for row in rows)
    return f"{len(rows)} report, {held} with a lease" + ("" if held else ": no candidate is served")


def what_is_missing(place: ReleasePlace, found: Release) -> list[str]:
    """What keeps it from its next step, a sentence each; nothing where it has none."""
    from agentrl.release.lifecycle.guards import Step, gaps
    from agentrl.release.lifecycle.read import read_workflow
    from agentrl.release.lifecycle.states import FORWARD

    to: ReleaseState | None = FORWARD.get(found.state)
    # bundles are read and servers asked when the step is taken: that takes a while
    return gaps(Step(place, found, read_workflow(place), to, time.time(), checks=None)) if to else []
