"""Rows of the config become verdicts: pure functions of evidence, without a database, a clock or torch.

    metrics.py    what each metric reads off a session
    arms.py       which sessions count at a look, and why others do not
    bounds_of.py  from the sessions that count to an estimate with bounds
    judge.py      one look at one gate, or at all of a stage: read this first
    decide.py     from verdicts to what happens next
    traffic.py    whether the split of the traffic is the one that was configured
    kept.py       verdicts in the store
    shown.py      metrics that no gate covers, for tables and briefs
    offline.py    evaluations as evidence
    explain.py    rows with planned sizes and days

May import: floors 0-5, `release/statistics`, `release/store`.
"""

from __future__ import annotations

from agentrl.release.gates.decide import Decision, decide
from agentrl.release.gates.judge import Look, judge, judge_all

__all__ = ["Decision", "Look", "decide", "judge", "judge_all"]
