"""Where code that nobody vouches for is run: a worker process in namespaces, without network, files or a neighbour.

Read first: `levels.py` (how strong the walls are on this machine), `worker.py` (the process, from outside), `pool.py`
(several, awaited). What runs inside is in `inside/`; what each level stops is in docs/sandbox.md.
"""

from agentrl.grading.sandbox.levels import choose_level, sandbox_level
from agentrl.grading.sandbox.pool import WorkerPool
from agentrl.grading.sandbox.worker import Level, Limits, Outcome, Worker, WorkerError

__all__ = ["Level", "Limits", "Outcome", "Worker", "WorkerError", "WorkerPool", "choose_level", "sandbox_level"]
