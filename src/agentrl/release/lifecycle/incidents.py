"""What went wrong, who owns it, how long it took, and what is believed no longer: one incident a rollback."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from agentrl.release.records import Release


def opened_incident(
    release: Release, *, actor: str, evidence: Mapping[str, Any], now: float, epoch: int
) -> dict[str, Any]:
    """The row of a rollback's incident.

    Args:
        evidence: `reason`, `text`, `t_breach`, `gates` where they are known.
        epoch: of the routing that takes the candidate's traffic away.
    """
    day = f"{datetime.fromtimestamp(now, UTC):%Y%m%d}"
    record = {
        "trigger": evidence.get("reason", "operator"),
        "text": evidence.get("text", ""),
        "gates": list(evidence.get("gates", ())),
        "severity": evidence.get("severity", "soft"),
        "from": str(release.state),
        "actor": actor,
        "epoch": epoch,
        "t_breach": evidence.get("t_breach"),
        "t_decision": now,
        "t_route_zero": None,
        "t_drained": None,
        "recovered_at": None,
        "sessions_affected": None,
        "class": None,
        "owner": None,
        "cause": None,
        "invalidated_assumption": None,
        "follow_up": None,
        "closed_by": None,
    }
    return {
        "id": f"inc-{day}-{secrets.token_hex(3)}",
        "workflow": release.workflow,
        "release_id": release.id,
        "opened_at": now,
        "closed_at": None,
        "version": 1,
        "record": record,
    }
