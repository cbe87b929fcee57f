"""Two policies on the same items, in every respect that their rollouts tell of.

Read `policies.py` first: `PolicyComparison` is what `agentrl compare` and `arl.compare` give. `pairs.py` lays the two
side by side, `measures.py`, `items.py`, `patterns.py`, `losses.py` and `tags.py` hold the figures, `page.py` and
`summary.py` show them.
"""

from __future__ import annotations

from agentrl.evaluation.comparison.policies import PolicyComparison, compare

__all__ = ["PolicyComparison", "compare"]
