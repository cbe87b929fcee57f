"""Can this task be learned? Asked of a few rollouts, before a run is paid for.

`samples.py` holds the scores by item, `bounds.py` the intervals, `best_of.py` pass@k and its kin, `groups.py` the share
of items that teach something, `repeatability.py` the grader's noise, `power.py` what validation can show, `leaks.py`
answers that tools give away, `twins.py` questions that splits share, `planned.py` the size of the run. `verdict.py`
decides, `measure.py` puts all of it together, `run.py` and `collect.py` ask for it; `page.py`, `picture.py` and
`lines.py` show the result.
May import: floors 0-4 and its siblings in evaluation.
"""

from __future__ import annotations
