"""The seam of the turn loop: who takes the turns of an episode, and how it is shown what they were answered.

`sampled_turns.py` samples token ids from a policy of ours, `api_turns.py` asks a model behind an API.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentrl.chat import ParsedTurn
from agentrl.rollout.episode import Episode
from agentrl.types import ToolResult, Turn


@dataclass(frozen=True)
class Said:
    """A turn, and what it comes to."""

    turn: Turn
    parsed: ParsedTurn
    is_truncated: bool
    """It was cut off at its token limit."""
    unseen_read: int = 0
    """Tokens read since the turn before, as a server counted them; 0 where their ids are in the context."""


class Speaker(Protocol):
    """Takes the turns of one episode."""

    async def speak(self, episode: Episode, *, call_id_prefix: str, seed: int) -> Said | None:
        """The next turn; None where the context has no room for one.

        Raises:
            RolloutError: there is none, for a reason that is not the policy's.
        """
        ...

    def hear(self, said: Said, results: Sequence[ToolResult]) -> Sequence[int]:
        """Take in what the calls of `said` were answered: one result a call, then one a malformed call.

        Returns:
            The ids that stand for it in the context; none where ids are not known.
        """
        ...
