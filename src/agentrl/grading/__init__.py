"""Who says how good an answer was: a rollout goes in, a score or the reason for its absence comes out.

Read `grader.py` (the interface), then `endpoint_grader.py`. A new kind is one file and one line in `build.py`.
May import: floors 0-1.
"""

from __future__ import annotations

from agentrl.grading.build import build_grader
from agentrl.grading.endpoint_grader import EndpointGrader
from agentrl.grading.grader import Grader

__all__ = ["EndpointGrader", "Grader", "build_grader"]
