"""What people think of episodes: ratings, preferences, and the queue of those that somebody should look at.

Read `records.py`, then `label_file.py` (JSONL) and `audit_queue.py` (RUN_DIR/audit).
May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.labels.audit_queue import labels_path, queued_evaluations, read_audit_queue, write_audit_queue
from agentrl.labels.label_file import append_label, read_labels
from agentrl.labels.records import AuditEntry, Labels, Preference, Rating, mean_ratings

__all__ = [
    "AuditEntry",
    "Labels",
    "Preference",
    "Rating",
    "append_label",
    "labels_path",
    "mean_ratings",
    "queued_evaluations",
    "read_audit_queue",
    "read_labels",
    "write_audit_queue",
]
