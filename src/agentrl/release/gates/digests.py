"""What a verdict was made of, by digest: the row, the evidence. Equal inputs in any order have equal digests."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from agentrl.config.release import GateConfig
from agentrl.release.records import SessionEvidence

FIELDS = tuple(sorted(field.name for field in fields(SessionEvidence)))
_values = attrgetter(*FIELDS)
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False).encode


def gate_digest(gate: GateConfig, *, program: str = "") -> str:
    """Of the full row: a changed margin is another gate.

    Args:
        program: digest of the metric's own program, see `metrics.program_digest`.
    """
    row = gate.model_dump(mode="json")
    return digest_of([row, program] if program else row)


def evidence_digest(evidence: Iterable[SessionEvidence], **inputs: Any) -> str:
    """Of sessions, in any order, and of what else a look was given."""
    lines = sorted(_line(_values(session)) for session in evidence)
    digest = hashlib.sha256(_line(inputs).encode())
    for line in lines:
        digest.update(b"\n" + line.encode())
    return f"sha256:{digest.hexdigest()}"


def digest_of(value: Any) -> str:
    """Of plain JSON, in its canonical form: sorted keys, no spaces."""
    return f"sha256:{hashlib.sha256(_line(value).encode()).hexdigest()}"


def _line(value: Any) -> str:
    try:
        return _encode(value)
    except (ValueError, TypeError):  # a NaN, or a mapping that is no dict
        return _encode(_plain(value))


def _plain(value: Any) -> Any:
    """NaN and infinity by name: they are evidence, if of nothing, and JSON has no word for them."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
