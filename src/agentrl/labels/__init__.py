"""What people think of episodes: ratings, preferences, and the queue of those that somebody should look at.

Read `records.py`, then `label_file.py` (JSONL), `audit_queue.py` (RUN_DIR/audit) and `picks.py` (people's part of it).
May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.labels.audit_queue import labels_path, picks_path, queued_evaluations, read_audit_queue, write_audit_queue
from agentrl.labels.label_file import append_label, read_labels
from agentrl.labels.picks import pick, read_picks, take_back
from agentrl.labels.records import (
    PICKED,
    AuditEntry,
    Labels,
    Preference,
    Rating,
    Withdrawal,
    mean_ratings,
    whoever_this_is,
)

__all__ = [
    "PICKED",
    "AuditEntry",
    "Labels",
    "Preference",
    "Rating",
    "Withdrawal",
    "append_label",
    "labels_path",
    "mean_ratings",
    "pick",
    "picks_path",
    "queued_evaluations",
    "read_audit_queue",
    "read_labels",
    "read_picks",
    "take_back",
    "whoever_this_is",
    "write_audit_queue",
]
