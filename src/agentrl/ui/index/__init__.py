"""Which runs and episodes there are: a columnar index beside the runs, built while they write.

Read `records.py` first, then `runs_index.py`. May import: floors 0-6.
"""

from __future__ import annotations

from agentrl.ui.index.records import EpisodePage, EpisodeQuery, EpisodeRow, Order, RunRow
from agentrl.ui.index.runs_index import RunsIndex

__all__ = ["EpisodePage", "EpisodeQuery", "EpisodeRow", "Order", "RunRow", "RunsIndex"]
