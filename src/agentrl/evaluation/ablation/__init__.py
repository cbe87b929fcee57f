"""Turn usefulness: what it costs to take one turn's thought or observation away and go on with the same policy.

cuts.py       a recorded turn, whole and without a part      trials.py   both gone on from, with the same seeds
figures.py    what the part was worth, with intervals        source.py   the recorded episodes, and who sampled them
run.py        all of it, from a config                       result.py   as text, JSON and files (lines.py, page.py)

Read `cuts.py` first: it defines what is removed. May import: floors 0-4, and the rest of evaluation.
"""

from __future__ import annotations

from agentrl.evaluation.ablation.result import Ablation
from agentrl.evaluation.ablation.run import AblateOptions, ablate_policy

__all__ = ["AblateOptions", "Ablation", "ablate_policy"]
