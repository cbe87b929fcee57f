"""Copies of users' turns for a candidate whose answers nobody sees, with no side effect but its server's work.

Read `shadow.py` (the bounded queue and its workers), then `conversation.py` (what a user's turn is, in both protocols),
`replay.py` (tools answer from the baseline's trace, nothing is executed) and `copies.py` (one turn of the candidate).
`rows.py` keeps the candidate's row of the session beside the baseline's, `report.py` tells how far the two agree.
May import: floors 0-6, and of this floor the gateway's other files.
"""

from __future__ import annotations

from agentrl.gateway.shadow.shadow import Shadow, ShadowCounts

__all__ = ["Shadow", "ShadowCounts"]
