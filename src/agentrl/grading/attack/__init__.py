"""Answers that must not pay, and right answers in other words that must: what a grader is worth before it is optimised.

Read `cases.py` (the attacks) and `forms.py` (the right answer in other forms), then `suite.py`, which asks, and
`report.py`, which judges. `rows.py` finds what a row calls its answer; `panel.py` is the graders that are asked.
"""

from __future__ import annotations

from agentrl.grading.attack.report import GraderReport, Limits, Outcome, SuiteReport
from agentrl.grading.attack.suite import SuiteOptions, attack

__all__ = ["GraderReport", "Limits", "Outcome", "SuiteOptions", "SuiteReport", "attack"]
