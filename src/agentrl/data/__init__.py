"""The tasks that a policy is trained and measured on, and the order in which training sees them.

Read `tasks.py`, then `batches.py` and `curriculum.py`; `rows.py` reads JSONL, `overlap.py` keeps splits apart.
May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.data.batches import TaskOrder
from agentrl.data.tasks import Splits, load_tasks

__all__ = ["Splits", "TaskOrder", "load_tasks"]
