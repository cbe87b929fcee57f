"""The JSON twin of a brief: the ten blocks in their order, the same in every language."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from agentrl.monitoring.redaction import redact_text
from agentrl.release.brief import evidence_blocks, release_blocks, safety_blocks
from agentrl.release.brief.records import ReleaseRecords

FORMAT = "agentrl-brief/1"
BLOCKS = ("header", "changed", "tested", "gates", "live", "rollback", "limits", "incidents", "owners", "reproduce")
"""In the order that every brief has, whoever reads it."""


def brief_twin(records: ReleaseRecords) -> dict[str, Any]:
    """All that the page tells, uncut, with the source of every number. The same records give the same bytes."""
    gates = evidence_blocks.gates(records)
    tested = evidence_blocks.tested(records)
    blocks = {
        "header": release_blocks.header(records, gates),
        "changed": release_blocks.changed(records),
        "tested": tested,
        "gates": gates,
        "live": evidence_blocks.live(records),
        "rollback": safety_blocks.rollback(records),
        "limits": safety_blocks.limits(records, gates, tested),
        "incidents": safety_blocks.incidents(records),
        "owners": release_blocks.owners(records),
        "reproduce": release_blocks.reproduce(records),
    }
    return {"format": FORMAT, **{name: _redacted(blocks[name]) for name in BLOCKS}}


NAMES_ONLY = ("source", "contact", "release", "id", "digest", "bundle", "baseline_bundle", "audit_head", "data_digest",
              "gate_digest")  # fmt: skip
"""Keys of what is an address, a digest or an id, and no sentence of anybody; `contact` is there to be printed."""


def _redacted(part: Any) -> Any:
    """Without what looks secret or personal in what people, models and tools wrote."""
    if isinstance(part, dict):
        return {key: each if key in NAMES_ONLY else _redacted(each) for key, each in part.items()}
    if isinstance(part, list):
        return [_redacted(each) for each in part]
    return redact_text(part) if isinstance(part, str) else part


def twin_digest(twin: dict[str, Any]) -> str:
    """sha256 of the twin's canonical JSON: what a promotion names the brief by."""
    text = json.dumps(twin, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"sha256:{hashlib.sha256(text.encode()).hexdigest()}"
