"""Harm that shows after a promotion: labels that come late, and figures that drift once all users are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.release.lifecycle.looking import Looked, Signature, failure_record, look_back
from agentrl.release.lifecycle.monitors import watch_promoted
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
        self._seen: tuple[Signature, Signature] | None = None

    def is_due(self, release: Release, now: Moment, *, every: float) -> bool:
        """Whether something new has come, and it is time; harm is always in time."""
        if release.id != self._release_id:
            self._release_id, self._looked, self._seen = release.id, None, None
        seen = (
            Signature.read(self.place, release.id, "canary"),
            Signature.read(self.place, release.id, "general"),
        )
        has_harm = self._seen is not None and any(
            new.violations > old.violations for new, old in zip(seen, self._seen, strict=True)
        )
        is_early = self._looked is not None and now.steady - self._looked < every
        if seen == self._seen or (is_early and not has_harm):
            return False
        self._looked, self._seen = now.steady, seen
        return True

    def look(self, release: Release, *, now: float) -> Found:
        """The canary's gates with the labels that have come since, then the monitors."""
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
