"""Blocks 6, 7 and 8: the way back, what is not covered, what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.release.brief.evidence_blocks import smallest_effects
from agentrl.release.brief.figure import Figure, figure
from agentrl.release.brief.records import Record, ReleaseRecords
from agentrl.release.brief.release_blocks import Block

TOLD = ("trigger", "text", "severity", "class", "owner", "cause", "invalidated_assumption", "follow_up")
"""What is told of an incident in words."""


def rollback(records: ReleaseRecords) -> Block:
    """The slowest drill and the slowest real rollback, seeing apart from acting; what open sessions meet."""
    counted = [row for row in records.drills if row["is_counted"]]
    worst = max(
        (row for row in counted if row["rollback_seconds"] is not None),
        key=lambda row: row["rollback_seconds"],
        default=None,
    )
    real = max(
        (row for row in records.incidents if between(row, "t_decision", "t_drained")["value"] is not None),
        key=lambda row: between(row, "t_decision", "t_drained")["value"],
        default=None,
    )
    release = records.release["id"]
    return {
        "drills": figure(len(counted), "count", f"drills[release={release},is_counted=true]#count"),
        "drill": _drill(worst),
        "real": _real(real),
        "recovery": _last_recovery(records.incidents),
        "drain_seconds": figure(
            records.gateway.get("drain_seconds"), "seconds", f"releases/{release}#config.gateway.drain_seconds"
        ),
        "lease_seconds": figure(
            records.config.get("lease_seconds"), "seconds", f"releases/{release}#config.release.lease_seconds"
        ),
    }


def limits(records: ReleaseRecords, gates: Block, tested: Block) -> Block:
    """What nobody measured, what a person must allow, and the smallest difference that the evidence could have seen."""
    manifest = (records.candidate or {}).get("manifest") or {}
    undecided = [row for row in gates["rows"] if row["verdict"] in ("inconclusive", "invalid", "missing")]
    return {
        "known": [str(limit) for limit in records.config.get("limits") or ()],
        "suites_missing": tested["missing"],
        "undecided": sorted({row["gate"] for row in undecided}),
        "approval_tools": approval_tools(manifest),
        "effects": smallest_effects(gates["rows"]),
        "is_recorded": bool(manifest),
    }


def incidents(records: ReleaseRecords) -> Block:
    """Those opened since the release before this one began, and all that are still open."""
    since = records.previous["created_at"] if records.previous else 0.0
    rows = [_incident(row) for row in records.incidents if row["opened_at"] >= since or row["closed_at"] is None]
    rows.sort(key=lambda row: (row["is_closed"], -row["opened"]["value"], row["id"]))
    return {
        "rows": rows,
        "count": figure(len(rows), "count", "twin:len(incidents.rows)"),
        "open": figure(
            sum(not row["is_closed"] for row in rows), "count", "twin:count(incidents.rows,is_closed=False)"
        ),
        "previous": records.previous["id"] if records.previous else "",
    }


def approval_tools(manifest: Mapping[str, Any]) -> list[str]:
    """Names of the tools that the bundle's tool policy lets nobody call without a person's word."""
    policy = manifest.get("tool_policy")
    rules = policy.get("rules") if isinstance(policy, Mapping) else None
    found = []
    for rule in rules if isinstance(rules, list | tuple) else ():
        if isinstance(rule, Mapping) and str(rule.get("decision") or rule.get("action")) in (
            "approve",
            "needs_approval",
        ):
            found.append(str(rule.get("tool") or ""))
    return sorted(set(found) - {""})


def between(row: Record, start: str, end: str) -> Figure:
    """Seconds from one of an incident's times to another; None where one of them is not known."""
    times = [figure(row["record"].get(name), "date", "")["value"] for name in (start, end)]
    seconds = None if None in times else times[1] - times[0]
    return figure(seconds, "seconds", f"incidents/{row['id']}#{end}-{start}")


def _drill(row: Record | None) -> dict[str, Any]:
    record = row["record"] if row else {}
    source = f"drills/{row['id']}" if row else "drills"
    return {
        "id": row["id"] if row else "",
        "detection": figure(record.get("detection_seconds"), "seconds", f"{source}#detection_seconds"),
        "rollback": figure(row and row["rollback_seconds"], "seconds", f"{source}#rollback_seconds"),
    }


def _real(row: Record | None) -> dict[str, Any]:
    if row is None:
        none = figure(None, "seconds", "incidents")
        return {"id": "", "detection": none, "rollback": none}
    return {
        "id": row["id"],
        "detection": between(row, "t_breach", "t_decision"),
        "rollback": between(row, "t_decision", "t_drained"),
    }


def _last_recovery(rows: Sequence[Record]) -> Figure:
    found = [between(row, "t_breach", "recovered_at") for row in rows]
    known = [each for each in found if each["value"] is not None]
    return known[-1] if known else figure(None, "seconds", "incidents")


def _incident(row: Record) -> dict[str, Any]:
    record = row["record"]
    source = f"incidents/{row['id']}"
    return {
        "id": row["id"],
        "release": row["release_id"],
        "opened": figure(row["opened_at"], "date", f"{source}#opened_at"),
        "is_closed": row["closed_at"] is not None,
        **{
            name: str(record.get(name) or "")
            for name in (
                "trigger",
                "text",
                "severity",
                "class",
                "owner",
                "cause",
                "invalidated_assumption",
                "follow_up",
            )
        },
        "recovery": between(row, "t_breach", "recovered_at"),
    }
