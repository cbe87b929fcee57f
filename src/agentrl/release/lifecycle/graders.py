"""Which version of the team's graders a release's evidence is of, and what happens when another one begins to judge.

Sessions that two versions judged are never combined. The first look that sees a version which has not judged this
release before begins the evidence anew under it: verdicts from before count no more, sessions count from the first one
that it judged, and the audit log says from which version to which. That is no failure of anything.

A version that was replaced never comes back by itself: what it says late, or in between, counts no more, and evidence
does not go to and fro while two of them judge side by side. Whoever returns to an older grader gives it a new name.
Sessions that were judged without a version are of one that has none: alone they are combined as they always were, and
beside a named version they are of another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import func, select

from agentrl.release.lifecycle.ledger import ledger
from agentrl.release.lifecycle.read import read_release
from agentrl.release.lifecycle.transition import release_row
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release
from agentrl.release.store import tables

KIND = "graders"
"""Of the audit log's entry."""


@dataclass(frozen=True)
class Graders:
    """Of a release, in one channel."""

    version: str = ""
    """Sessions under it count; empty: none was ever named, and all count."""
    before: str | None = None
    """What it replaced: empty where that had no version; None where it replaced nothing."""
    is_new: bool = False
    """Evidence has not been begun anew under it yet."""
    is_first: bool = False
    """It is the first one that was named, and that has not been noted yet; nothing begins anew."""
    first_assigned: float = 0.0
    """Of the sessions that it judged, in seconds since 1970."""

    @property
    def reason(self) -> str:
        """For verdicts and people; empty where nothing was replaced."""
        if self.before is None:
            return ""
        return f"evidence began anew: the grader's version is {self.version}, it was {self.before or 'not named'}"


def read_graders(place: ReleasePlace, release: Release, channel: str, *, since: float) -> Graders:
    """Which version counts now; of several new ones that whose first word, by the events' own time, is the latest.

    Args:
        since: sessions that were assigned earlier are not asked.

    Raises:
        ReleaseError: the store cannot be read.
    """
    changes = _changes(place, release)
    known = [version for change in changes for version in change if version is not None]
    columns = tables.sessions.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(columns.grader_version, func.min(columns.judged_at), func.min(columns.assigned_at))
            .where(
                columns.workflow == place.workflow,
                columns.release_id == release.id,
                columns.channel == channel,
                columns.assigned_at >= since,
                columns.is_forced.is_(False),
                columns.grader_version.is_not(None),
            )
            .group_by(columns.grader_version)
        ).all()
    found = sorted((judged_at, version, assigned_at) for version, judged_at, assigned_at in rows)
    is_first = not known and bool(found) and bool(found[0][1])
    if not known and found:
        known = [found[0][1]]
    new = [each for each in found if each[1] and each[1] not in known]
    if new:
        return Graders(new[-1][1], before=known[-1], is_new=True, first_assigned=new[-1][2])
    if not known:
        return Graders()
    return Graders(known[-1], before=changes[-1][0] if changes else None, is_first=is_first)


def note_first(place: ReleasePlace, release: Release, graders: Graders, *, now: float) -> None:
    """Record which version judges: one that judges all of it again later is then known to be another.

    Raises:
        ReleaseError: it cannot be recorded.
    """
    with ledger(place) as books:
        if not _changes(place, release):
            reason = f"the grader's version is {graders.version}"
            said = {"from": None, "to": graders.version}
            books.record(KIND, actor="controller", now=now, release_id=release.id, changes={}, reason=reason, **said)


def begin_anew(place: ReleasePlace, release: Release, graders: Graders, *, now: float) -> Release:
    """Record that evidence counts under another version from here on; the release as it is then.

    Of a release that somebody has changed meanwhile nothing is recorded: the next look sees the version again.

    Raises:
        ReleaseError: it cannot be recorded.
    """
    with ledger(place) as books:
        current = read_release(place, release.id)
        if current.version != release.version:
            return release
        changed = replace(
            current,
            evidence_since=max(current.evidence_since, graders.first_assigned),
            verdicts_since=now,
            changed_at=now,
            version=current.version + 1,
        )
        books.record(
            KIND,
            actor="controller",
            now=now,
            release_id=release.id,
            changes={"releases": [release_row(changed)]},
            version=changed.version,
            reason=graders.reason,
            **{"from": graders.before or "", "to": graders.version},
        )
    return changed


def last_change(place: ReleasePlace, release: Release) -> str:
    """Why evidence last began anew under another version; empty where it did not."""
    changes = _changes(place, release)
    return Graders(changes[-1][1], before=changes[-1][0]).reason if changes else ""


def _changes(place: ReleasePlace, release: Release) -> list[tuple[str | None, str]]:
    """(from, to) since the release's bundle last changed, as that begins everything anew; from None is the first."""
    table = tables.transitions.c
    with place.store.read() as connection:
        rows = connection.execute(
            select(table.kind, table.record)
            .where(table.workflow == place.workflow, table.release_id == release.id, table.kind.in_((KIND, "bundle")))
            .order_by(table.entry)
        ).all()
    found: list[tuple[str | None, str]] = []
    for row in rows:
        if row.kind == KIND:
            found.append((row.record["from"], row.record["to"]))
        else:
            found.clear()
    return found
