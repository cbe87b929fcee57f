"""`agentrl endpoints check`: tools and grader, tried as a run would. Read `tool.py`, then `grader.py`.

`finding.py` has what they share, `leakage.py` the search for a row's answer in a tool's output. May import: floors 0-1,
and the tools beside it.
"""

from __future__ import annotations

from agentrl.tools.checks.finding import Finding
from agentrl.tools.checks.grader import check_grader, latencies
from agentrl.tools.checks.sandbox import check_sandbox
from agentrl.tools.checks.tool import check_tool

__all__ = ["Finding", "check_grader", "check_sandbox", "check_tool", "latencies"]
