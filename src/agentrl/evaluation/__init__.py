"""What a policy's rollouts amount to, whether the change between two policies is real, and the page that shows it.

Read `metrics.py` first, then `compare.py`; `report.py` writes report.html from a run directory. `measure.py` is what a
run measures of its policies, `holdout.py` and `goodhart.py` watch whether its reward still means what it should;
`agreement.py`, `people.py` and `grader_comparison.py` ask that of a grader. `evaluate_policy.py` measures any policy, a
model behind an API too (`contender.py`), on a split or a frozen suite (`suites.py`), as an `evaluation_files.py`;
`run_evaluations.py` finds those that a run has made. `comparison/` holds two of them against each other, item by item,
`probe/` asks whether a task can be learned, `ablation/` what single turns are worth. Pages are made of `documents.py`
and `charts.py`.
May import: floors 0-4.
"""

from __future__ import annotations

from agentrl.evaluation.compare import Comparison, Difference, compare, evaluation_summary
from agentrl.evaluation.metrics import EvalReport, ItemMeans, evaluate_rollouts
from agentrl.evaluation.report import write_report
from agentrl.evaluation.table import before_after_table

__all__ = [
    "Comparison",
    "Difference",
    "EvalReport",
    "ItemMeans",
    "before_after_table",
    "compare",
    "evaluate_rollouts",
    "evaluation_summary",
    "write_report",
]
