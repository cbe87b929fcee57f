"""Blocks 6, 7 and 8: the way back, what is not covered, what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.release.brief.evidence_blocks import smallest_effects
from agentrl.release.brief.figure import Figure, figure
from agentrl.release.brief.records import Record, ReleaseRecords
from agentrl.release.brief.release_blocks import Block


def rollback(records: ReleaseRecords) -> Block:
    """The slowest drill and the slowest real rollback, seeing apart from acting; what open sessions meet."""
    counted = [row for row in records.drills if row["is_counted"]]
    worst = max(
        (row for row in counted if row["rollback_seconds"] is not None),
        key=lambda row: row["rollback_seconds"],
        default=None,
    )
    real = max(
        (row for row in records.incidents if _number(row["record"], "rollback_seconds") is not None),
        key=lambda row: row["record"]["rollback_seconds"],
        default=None,
    )
    release = records.release["id"]
    return {
        "drills": figure(len(counted), "count", f"drills[release={release},is_counted=true]#count"),
        "drill": _times("drills", worst),
        "real": _times("incidents", real),
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


def _times(table: str, row: Record | None) -> dict[str, Any]:
    record = row["record"] if row else {}
    source = f"{table}/{row['id']}" if row else table

    def seconds(name: str) -> Figure:
        value = row["rollback_seconds"] if row and name in row else record.get(name)
        return figure(value, "seconds", f"{source}#{name}")

    return {
        "id": row["id"] if row else "",
        "detection": seconds("detection_seconds"),
        "rollback": seconds("rollback_seconds"),
        "routing": seconds("routing_seconds"),
    }


def _last_recovery(rows: Sequence[Record]) -> Figure:
    for row in reversed(rows):
        if _number(row["record"], "time_to_recovery_seconds") is not None:
            source = f"incidents/{row['id']}#time_to_recovery_seconds"
            return figure(row["record"]["time_to_recovery_seconds"], "seconds", source)
    return figure(None, "seconds", "incidents")


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
            for name in ("trigger", "severity", "class", "owner", "cause", "invalidated_assumption", "follow_up")
        },
        "recovery": figure(record.get("time_to_recovery_seconds"), "seconds", f"{source}#time_to_recovery_seconds"),
    }


def _number(record: Mapping[str, Any], name: str) -> float | None:
    value = figure(record.get(name), "number", "")["value"]
    return None if value is None else float(value)
