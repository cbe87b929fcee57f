"""Can this task be learned? Asked of a few rollouts, before a run is paid for.

`samples.py` holds the scores by item, `bounds.py` the intervals, `best_of.py` pass@k and its kin, `groups.py` the share
of items that teach something, `repeatability.py` the grader's noise, `power.py` what validation can show, `leaks.py`
answers that tools or splits give away, `planned.py` the size of the run. `verdict.py` decides, `measure.py` puts all of
it together, `run.py` makes the rollouts; `page.py`, `picture.py` and `lines.py` show the result.
May import: floors 0-4 and its siblings in evaluation.
"""

from __future__ import annotations
