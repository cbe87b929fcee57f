"""Graders that ask a language model: `score_model`, `label_model`, `rubric`. Read `score_model.py`, then `client.py`.

A judge is shown text that the policy wrote, and the policy is rewarded for what it makes the judge say. So what comes
from the sample is fenced in (`fence.py`), a verdict is read to the letter (`reply.py`), and whatever is no verdict
leaves the rollout ungraded. May import: what `agentrl.grading` may.
"""

from __future__ import annotations

from agentrl.grading.judges.cache import asked_afresh
from agentrl.grading.judges.client import Judge
from agentrl.grading.judges.label_model import LabelModelGrader
from agentrl.grading.judges.rubric import RubricGrader
from agentrl.grading.judges.score_model import ScoreModelGrader

__all__ = ["Judge", "LabelModelGrader", "RubricGrader", "ScoreModelGrader", "asked_afresh"]
