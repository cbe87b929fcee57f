"""Who says how good an answer was: a rollout goes in, a score or the reason for its absence comes out.

Read `grader.py` (the interface) and `submission.py` (what a grader is shown), then any kind: `endpoint_grader.py` is
the shortest. A new kind is a class in `agentrl.config.graders`, one file here, and one line in `build.py`.
May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.grading.build import build_declared, build_grader
from agentrl.grading.endpoint_grader import EndpointGrader
from agentrl.grading.grader import Grader, RolloutGrader
from agentrl.grading.run_grader import RunGrader
from agentrl.grading.submission import Submission

__all__ = ["EndpointGrader", "Grader", "RolloutGrader", "RunGrader", "Submission", "build_declared", "build_grader"]
