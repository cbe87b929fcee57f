"""Blocks 1, 2, 9 and 10: which release, what it changes, who answers for it, how to check it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from agentrl.release.brief.figure import Figure, figure
from agentrl.release.brief.records import Record, ReleaseRecords

Block = dict[str, Any]

PARTS: Mapping[str, tuple[str, ...]] = {
    "policy": ("policy",),
    "reward_model": ("reward_model",),
    "graders": ("graders", "rubric"),
    "data": ("datasets", "eval_suites"),
    "prompts": ("prompts",),
    "tools": ("tool_specs", "tool_policy"),
}
"""What may change with a release, and which entries of a bundle's manifest it is."""


def header(records: ReleaseRecords, gates: Block) -> Block:
    """Which release, since when in which state, and what its gates say."""
    release = records.release
    key = f"releases/{release['id']}"
    step = _last_step(records)
    return {
        "workflow": release["workflow"],
        "release": release["id"],
        "bundle": release["candidate_bundle"],
        "baseline_bundle": release["baseline_bundle"],
        "state": release["state"],
        "since": figure(release["entered_at"] or release["changed_at"], "date", f"{key}#entered_at"),
        "started": figure(release["created_at"], "date", f"{key}#created_at"),
        "share": figure(release["share_percent"], "percent", f"{key}#share_percent"),
        "reason": _reason(step or {}),
        "is_halted": bool(records.workflow and records.workflow["halted_at"] is not None),
        "counts": {
            outcome: _counted(gates["rows"], outcome)
            for outcome in ("pass", "fail", "inconclusive", "invalid", "missing")
        },
        "gates": figure(len(gates["rows"]), "count", "twin:len(gates.rows)"),
        "has_evidence": any(row["verdict"] != "missing" for row in gates["rows"]) or bool(records.suites),
    }


def changed(records: ReleaseRecords) -> Block:
    """Each part of the two bundles, old and new: changed, unchanged, or not recorded."""
    new = records.candidate and records.candidate["manifest"]
    old = records.baseline and records.baseline["manifest"]
    rows = []
    for name, entries in PARTS.items():
        before, after = _items(old, entries), _items(new, entries)
        if before is None or after is None:
            state = "not_recorded"
        else:
            state = "unchanged" if _digests(before) == _digests(after) else "changed"
        rows.append({"part": name, "state": state, "old": _labels(before), "new": _labels(after)})
    states = [row["state"] for row in rows]
    return {
        "rows": rows,
        "changed": figure(states.count("changed"), "count", "twin:count(changed.rows,state=changed)"),
        "unchanged": figure(states.count("unchanged"), "count", "twin:count(changed.rows,state=unchanged)"),
    }


def owners(records: ReleaseRecords) -> Block:
    """Who answers for what, who approved which step, and where to ask."""
    config = records.config
    named = config.get("owners") or {}
    decisions = [
        {
            "to": row["subject"].rpartition(":")[2],
            "decision": row["decision"],
            "approver": row["approver"],
            "at": figure(row["at"], "date", f"approvals/{row['id']}#at"),
            "reason": str((row["record"] or {}).get("reason") or ""),
        }
        for row in records.approvals
    ]
    return {
        **{owner: str(named.get(owner) or "") for owner in ("ml", "platform", "product")},
        "contact": str(config.get("contact") or ""),
        "started_by": str(records.release["started_by"] or ""),
        "approvals": decisions,
        "approved_steps": [str(state) for state in config.get("approvals") or ()],
        "log": [_log_line(row) for row in records.transitions],
    }


def reproduce(records: ReleaseRecords) -> Block:
    """The end of the audit log as it was read, and how to check it and all that stands here."""
    head = records.head
    key = f"transitions/{records.release['workflow']}/{head['entry']}" if head else "transitions"
    rows, bundle = records.verdicts, records.release["candidate_bundle"]
    return {
        "audit_head": head["hash"] if head else "",
        "entry": figure(head and head["entry"], "count", f"{key}#entry"),
        "at": figure(head and head["at"], "date", f"{key}#at"),
        "code_versions": sorted({row["record"].get("code_version") or "" for row in rows} - {""}),
        "commands": [
            "agentrl audit verify CONFIG",
            *([f"agentrl bundle verify CONFIG {bundle[:19]}"] if bundle else []),
        ],
    }


def _counted(rows: Sequence[Mapping[str, Any]], outcome: str) -> Figure:
    count = sum(row["verdict"] == outcome for row in rows)
    return figure(count, "count", f"twin:count(gates.rows,verdict={outcome})")


def _last_step(records: ReleaseRecords) -> Mapping[str, Any] | None:
    steps = [row["record"] for row in records.transitions if row["kind"] == "transition"]
    return steps[-1] if steps else None


def _log_line(row: Record) -> dict[str, Any]:
    """An entry of the audit log in short; its `changes` are the store's own business."""
    record = row["record"]
    key = f"transitions/{record.get('workflow', '')}/{row['entry']}"
    return {
        "entry": figure(row["entry"], "count", f"{key}#entry"),
        "at": figure(row["at"], "date", f"{key}#at"),
        "kind": row["kind"],
        "actor": str(record.get("actor") or ""),
        "from": str(record.get("from") or ""),
        "to": str(record.get("to") or ""),
        "reason": _reason(record),
    }


def _reason(entry: Mapping[str, Any]) -> str:
    """Why, as the audit log has it."""
    evidence = entry.get("evidence") or {}
    return str(evidence.get("text") or evidence.get("reason") or "")


def _items(manifest: Mapping[str, Any] | None, entries: Sequence[str]) -> list[Mapping[str, Any]] | None:
    """What a bundle says of some of its parts; None where it was not kept, or says nothing of any."""
    if not isinstance(manifest, Mapping) or not any(entry in manifest for entry in entries):
        return None
    found: list[Mapping[str, Any]] = []
    for entry in entries:
        value = manifest.get(entry)
        for item in value if isinstance(value, list | tuple) else [value]:
            if item:
                found.append(item if isinstance(item, Mapping) else {"name": str(item)})
    return found


def _digests(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return sorted(str(item.get("sha256") or item.get("digest") or sorted(item.items())) for item in items)


def _labels(items: Sequence[Mapping[str, Any]] | None) -> list[dict[str, str]]:
    """Name, version and the beginning of the digest, as a person compares them."""
    return [
        {
            "name": str(item.get("name") or ""),
            "version": str(item.get("version") or ""),
            "digest": str(item.get("sha256") or item.get("digest") or "").removeprefix("sha256:")[:12],
        }
        for item in items or ()
    ]
