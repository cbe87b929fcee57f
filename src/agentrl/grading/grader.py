"""What every grader is."""

from __future__ import annotations

from typing import Protocol

from agentrl.types import Grade, Rollout


class Grader(Protocol):
    """Scores finished rollouts."""

    async def grade(self, rollout: Rollout) -> Grade:
        """A score in [0, max_score], or `Grade(None, reason)` for every failure. Never raises, never guesses 0."""
        ...

    async def aclose(self) -> None: ...
