"""Episodes that people put into the audit queue: RUN_DIR/audit/picked/EVALUATION.jsonl, beside the queue of each file.

The file only grows: an evaluation that writes its own queue anew, and people who pick at the same time, lose nothing.
A line is an AuditEntry, or takes one back; the last line about an episode counts.

{"rollout_id": "trace_...", "task_id": "q7", "why": "picked", "score": 1.0, "holdout": {}, "note": "guessed"}
{"rollout_id": "trace_...", "taken_back_at": "2026-11-21T16:00:00+00:00"}
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from agentrl.errors import ConfigError
from agentrl.json_files import read_json_lines
from agentrl.labels.growing_file import append_line
from agentrl.labels.records import PICKED, AuditEntry, from_row, now

TAKEN_BACK = "taken_back_at"


def pick(path: Path, entry: AuditEntry) -> None:
    """Put an episode into the queue; picked again, it has the new note.

    Raises:
        ConfigError: it cannot be written.
    """
    if entry.why != PICKED:
        raise ValueError(f"found why {entry.why!r}; allowed: {PICKED!r}")
    append_line(path, asdict(entry))


def take_back(path: Path, rollout_id: str) -> None:
    """Take an episode that somebody picked out of the queue; an evaluation's own choice stays.

    Raises:
        ConfigError: it cannot be written.
    """
    append_line(path, {"rollout_id": rollout_id, TAKEN_BACK: now()})


def read_picks(path: Path) -> tuple[AuditEntry, ...]:
    """What people picked and did not take back, in their order; nothing where there is no file.

    Raises:
        ConfigError: it cannot be read, or a line is no entry (file:line).
    """
    picked: dict[str, AuditEntry] = {}
    for number, row in read_json_lines(path) if path.exists() else ():
        if TAKEN_BACK in row:
            picked.pop(str(row.get("rollout_id")), None)
            continue
        try:
            entry = from_row(AuditEntry, row)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: {error}") from error
        picked[entry.rollout_id] = entry
    return tuple(picked.values())
