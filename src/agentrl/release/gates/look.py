"""When and at what a gate is read. The clock is the caller's, and so is everything else that is not in the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class Look:
    """One reading of a stage's gates."""

    release_id: str
    stage: str
    """offline_eval, shadow, canary; or general, after a promotion."""
    at: datetime
    """UTC."""
    look_no: int
    share_percent: float | None
    """Of sessions that the candidate is to serve; None where there is no such share, as in shadow."""
    started_at: float
    """When the share in force began, in seconds since 1970: earlier sessions had another, and do not count."""
    drills: Sequence[float] = ()
    """Seconds that each rollback drill of the release took; only drills that count."""
    assigned: tuple[int, int] | None = None
    """Sessions assigned to (candidate, baseline) since `started_at`, open ones too, for the check of the split. None:
    those of the evidence, where the arm whose sessions last longer lags a little behind."""
    told: str = ""
    """What verdicts on sessions are to say of this look, such as that evidence began anew; it decides nothing."""

    @property
    def seconds(self) -> float:
        """`at`, in seconds since 1970."""
        return self.at.timestamp()

    @property
    def is_live(self) -> bool:
        """Whether sessions come in while it is looked at."""
        return self.stage != "offline_eval"

    def at_text(self) -> str:
        """`at` as ISO 8601 in UTC, to the microsecond that it has."""
        return self.at.astimezone(UTC).isoformat()
