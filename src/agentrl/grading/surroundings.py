"""Where a grader is built, which no declaration says."""

from __future__ import annotations

from dataclasses import dataclass

import httpx


@dataclass(frozen=True)
class Surroundings:
    """What a grader may need that is not in its declaration."""

    base_url: str = ""
    """What `{serve}` in a url stands for."""
    asks_for_turns: bool = False
    """An endpoint is asked for `turn_scores`."""
    transport: httpx.AsyncBaseTransport | None = None
    """Replaces the network in tests."""
