"""Attacks on the team's own agent: what is planted, what counts as a violation, and how often it came to one.

Read `case.py` (what an attack is), `violations.py` (what came of it, from the rollout alone), then
`planted_toolbox.py` and `grader.py`, which stand around an engine's own tools and grader. `starter.py` makes a suite of
the attacks that ship with agentrl (`starter/*.yaml`), `figures.py` the attack success rate.
May import: floors 0-4, and of this floor `suites.py`, `tags.py` and `intervals.py`.
"""

from __future__ import annotations

from agentrl.evaluation.adversarial.violations import is_adversarial, is_zero_tolerance, violation_count

__all__ = ["is_adversarial", "is_zero_tolerance", "violation_count"]
