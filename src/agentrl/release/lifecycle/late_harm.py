"""Harm that shows after a promotion: labels that come late, and figures that drift once all users are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.release.lifecycle.looking import Looked, Signature, failure_record, look_back, look_for_events
from agentrl.release.lifecycle.monitors import forbidden_by, watch_promoted
from agentrl.release.lifecycle.read import release_under_way
from agentrl.release.lifecycle.sight import Moment
from agentrl.release.place import ReleasePlace
from agentrl.release.records import Release


@dataclass(frozen=True)
class Found:
    """What a look after a promotion found."""

    evidence: Mapping[str, Any] | None = None
    """Of a rollback; None: nothing that asks for one."""
    told: tuple[str, ...] = ()
    looked: Looked | None = None
    """What failed, where it was a gate."""


class LateHarm:
    """Looks at a promoted release when something new has come."""

    def __init__(self, place: ReleasePlace) -> None:
        self.place = place
        self._release_id = ""
        self._looked: float | None = None
        self._seen: tuple[Signature, Signature, int, Signature | None] | None = None

    def is_due(self, release: Release, now: Moment, *, every: float) -> bool:
        """Whether something new has come, and it is time; harm is always in time."""
        if release.id != self._release_id:
            self._release_id, self._looked, self._seen = release.id, None, None
        seen = (
            Signature.read(self.place, release.id, "canary"),
            Signature.read(self.place, release.id, "general"),
            len(forbidden_by(self.place, release)),
            self._of_next(),
        )
        before = self._seen
        has_harm = before is not None and (seen[0].violations > before[0].violations or seen[2] > before[2])
        is_early = self._looked is not None and now.steady - self._looked < every
        if seen == self._seen or (is_early and not has_harm):
            return False
        self._looked, self._seen = now.steady, seen
        return True

    def _of_next(self) -> Signature | None:
        """Of the release that is tried by now: its baseline's sessions are the promoted one's."""
        other = release_under_way(self.place)
        return None if other is None else Signature.read(self.place, other.id, str(other.state))

    def look(self, release: Release, *, now: float) -> Found:
        """What one event decides, then the canary's gates with the labels that have come since, then the monitors."""
        if event := look_for_events(self.place, release, now=now):
            is_late = all(each.at < release.entered_at for each in event.evidence)
            return Found(failure_record(event, "late_label" if is_late else "gate"), looked=event)
        looked = look_back(self.place, release, now=now)
        if looked.failed:
            return Found(failure_record(looked, "late_label"), looked=looked)
        return self._monitors(release, now)

    def _monitors(self, release: Release, now: float) -> Found:
        watched = watch_promoted(self.place, release, now=now)
        if watched is None:
            return Found()
        told = tuple(alarm.text for alarm in watched.alarms)
        guilty = [alarm for alarm in watched.alarms if alarm.may_roll_back]
        if watched.is_shared_outage or not guilty:
            return Found(told=told)
        first = guilty[0]
        return Found({"reason": "monitor", "text": first.text, "gates": [], "t_breach": first.at}, told)
