"""From a config to a trained policy: the outer loop, and what makes a run one that can be stopped and gone on with.

    loop.py        one run, from the baseline's evaluation to the report: the algorithm's outer loop on one page
    setup.py       `train`: all that is loaded, checked and opened before the first rollout
    saving.py      what a checkpoint holds; saving it, and going back to it
    ahead.py       the next step's rollouts beside the update
    resampling.py  tasks that teach nothing make room for others

Read `loop.py` first. May import: everything below, down to config and types.
"""

from __future__ import annotations

from agentrl.training.loop import TrainingResult
from agentrl.training.setup import train

__all__ = ["TrainingResult", "train"]
