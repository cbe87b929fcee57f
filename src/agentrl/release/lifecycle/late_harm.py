"""Harm that shows after a promotion: labels that come late, and figures that drift once all users are served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentrl.release.lifecycle.looking import Signature, breach_time, look_back
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


class LateHarm:
    """Looks at a promoted release when something new has come."""

    def __init__(self, place: ReleasePlace) -> None:
        self.place = place
        self._release_id = ""
        self._looked: float | None = None
        self._seen: tuple[Signature, Signature] | None = None

    def look(self, release: Release, now: Moment, *, every: float) -> Found:
        """The canary's gates with the labels that have come since, then the monitors."""
        if release.id != self._release_id:
            self._release_id, self._looked, self._seen = release.id, None, None
        seen = (
            Signature.read(self.place, release.id, "canary"),
            Signature.read(self.place, release.id, "general"),
        )
        has_harm = self._seen is not None and any(
            new.violations > old.violations for new, old in zip(seen, self._seen, strict=True)
        )
        if not has_harm and self._looked is not None and now.steady - self._looked < every:
            return Found()
        self._looked = now.steady
        if seen == self._seen:
            return Found()
        self._seen = seen
        return self._gates(release, now) or self._monitors(release, now)

    def _gates(self, release: Release, now: Moment) -> Found | None:
        looked = look_back(self.place, release, now=now.wall)
        if not looked.failed:
            return None
        times = [breach_time(self.place, release, looked, verdict) for verdict in looked.failed]
        return Found(
            {
                "reason": "late_label",
                "text": "; ".join(looked.decision.because),
                "gates": [verdict.gate for verdict in looked.failed],
                "verdicts": [verdict.to_record() for verdict in looked.failed],
                "t_breach": min((at for at in times if at is not None), default=None),
            }
        )

    def _monitors(self, release: Release, now: Moment) -> Found:
        watched = watch_promoted(self.place, release, now=now.wall)
        if watched is None:
            return Found()
        told = tuple(alarm.text for alarm in watched.alarms)
        guilty = [alarm for alarm in watched.alarms if alarm.may_roll_back]
        if watched.is_shared_outage or not guilty:
            return Found(told=told)
        first = guilty[0]
        return Found({"reason": "monitor", "text": first.text, "gates": [], "t_breach": first.at}, told)
