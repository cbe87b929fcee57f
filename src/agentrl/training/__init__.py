"""From a config to a trained policy: the outer loop, and what makes a run one that can be stopped and gone on with.

    loop.py        one run, from the baseline's evaluation to the report: the algorithm's outer loop on one page
    ahead.py       the next step's rollouts beside the update
    resampling.py  tasks that teach nothing make room for others
    history.py     the metrics of every step
    stopping.py    when a run had better end, and what is left to say so
    saving.py      what a checkpoint holds; saving it, and going back to it

    setup.py       `train`: all that is loaded, checked and opened before the first rollout
    versions.py    what a run uses, for its identity
    room.py        whether the disk will do
    servers.py, ledgers.py, shared_run.py   what several processes of one run share

Read `loop.py` first. May import: everything below, down to config and types.
"""

from __future__ import annotations

from agentrl.training.loop import TrainingResult
from agentrl.training.setup import train

__all__ = ["TrainingResult", "train"]
