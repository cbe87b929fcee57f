"""What a drill measured, and whether it counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from agentrl.release.drill.clocks import Moment

ROUTING_SECONDS = 1.0
"""From the decision to the last session that the candidate is given."""
GRACE_SECONDS = 1.0
"""Beyond a lease, or beyond the time that answers are given to end: for polls, and for processes to be woken."""


class Kind(StrEnum):
    """What is done to it."""

    ROLLBACK = "rollback"
    """A violation is reported, and the controller decides."""
    CONTROLLER_KILLED = "controller-killed"
    """No one is left to decide: the lease ends."""
    GATEWAY_KILLED = "gateway-killed"
    """A violation, a decision, and the gateway dies while it drains; it is started again."""


@dataclass(frozen=True)
class Bar:
    """A limit, and what was measured."""

    name: str
    seconds: float | None
    """None: it did not come to that."""
    limit: float

    @property
    def is_met(self) -> bool:
        return self.seconds is not None and self.seconds <= self.limit


@dataclass(frozen=True)
class Drill:
    """One drill. The four times are of the machine's steady clock, and of the wall clock."""

    id: str
    release_id: str
    kind: Kind
    replicas: int
    in_flight: int
    """Answers of the candidate under way when it was decided; without any, a drill does not count."""
    t_breach: Moment | None
    """The first record that makes the verdict true; none where the controller is killed."""
    t_decision: Moment
    """The rollback is on disk; where the controller is killed, the kill."""
    t_route_zero: Moment
    """The last new session of the candidate, or the decision where that is later."""
    t_drained: Moment | None
    """The last answer of the candidate ended, or was cut, and every replica said so; None: it did not end."""
    t_recovered: Moment | None
    """From here on all new sessions were answered whole."""
    streams: Mapping[str, int]
    """Of the candidate's users, how many answers ended how."""
    others: Mapping[str, int]
    """Of everybody else's."""
    candidates_after_restart: int
    lease_seconds: float
    drain_seconds: float
    poll_seconds: float
    database: str
    clock_was_moved: bool
    """The wall clock jumped meanwhile; the figures are of the steady one."""

    @property
    def detection_seconds(self) -> float | None:
        """From the breach to the decision."""
        return None if self.t_breach is None else self.t_decision.steady - self.t_breach.steady

    @property
    def routing_seconds(self) -> float:
        """From the decision to the candidate's last new session."""
        return self.t_route_zero.steady - self.t_decision.steady

    @property
    def rollback_seconds(self) -> float | None:
        """From the decision until nobody talks to the candidate."""
        return None if self.t_drained is None else self.t_drained.steady - self.t_decision.steady

    @property
    def recovery_seconds(self) -> float | None:
        """From the breach until all new sessions are answered whole again; no breach: from the decision."""
        start = self.t_breach or self.t_decision
        return None if self.t_recovered is None else self.t_recovered.steady - start.steady

    @property
    def bars(self) -> tuple[Bar, ...]:
        """What must hold."""
        lease = self.lease_seconds if self.kind is Kind.CONTROLLER_KILLED else 0.0
        routing = ROUTING_SECONDS if not lease else lease + GRACE_SECONDS
        return (
            Bar("last session of the candidate", self.routing_seconds, routing),
            Bar("candidate drained", self.rollback_seconds, lease + self.drain_seconds + GRACE_SECONDS),
        )

    @property
    def is_counted(self) -> bool:
        """Whether it is evidence, good or bad: something was there to be given up."""
        return self.in_flight > 0

    @property
    def problems(self) -> tuple[str, ...]:
        """What did not go as it must; empty: all did."""
        found = []
        if not self.is_counted:
            found.append("no answer of the candidate was under way: the drill does not count")
        if self.candidates_after_restart:
            found.append(f"{self.candidates_after_restart} sessions went to the candidate after the gateway's restart")
        found += [
            f"{bar.name}: {'never' if bar.seconds is None else f'{bar.seconds:.2f} s'}; allowed: {bar.limit:g} s"
            for bar in self.bars
            if not bar.is_met
        ]
        if self.t_recovered is None:
            found.append("users were not answered whole again")
        return tuple(found)

    def to_record(self) -> dict[str, Any]:
        """As plain JSON, with what follows from it."""
        return {
            **asdict(self),
            "kind": str(self.kind),
            "detection_seconds": self.detection_seconds,
            "routing_seconds": self.routing_seconds,
            "rollback_seconds": self.rollback_seconds,
            "recovery_seconds": self.recovery_seconds,
            "bars": [{**asdict(bar), "is_met": bar.is_met} for bar in self.bars],
            "problems": list(self.problems),
            "is_counted": self.is_counted,
        }
